"""The depth room is light to import: the heavy packages come with the first call that needs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_and_reading_need_neither_torch_nor_opencv() -> None:
    code = (
        "import sys\n"
        "from lib_depth2img.depth import adjust, colormap, conditioning, depth_map, geometry, upright\n"
        "from lib_depth2img.depth.io import files\n"
        "depth_map.DepthMap.from_array([[0.0, 1.0]]).resized((8, 8)).adjusted(adjust.Adjustments(far=0.5))\n"
        "print(sorted({'torch', 'cv2', 'timm', 'gradio', 'modules'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_files_are_read_and_written_without_torch_and_opencv(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from lib_depth2img.depth.depth_map import DepthMap\n"
        "from lib_depth2img.depth.io import files\n"
        "libraries = {'torch', 'cv2', 'tifffile', 'OpenEXR'}\n"
        "print(sorted(libraries & set(sys.modules)))\n"
        "for suffix in files.SUFFIXES:\n"
        "    path = pathlib.Path(sys.argv[1], 'map' + suffix)\n"
        "    files.save_depth_map(DepthMap.from_array([[0.0, 1.0]]), path)\n"
        "    files.read_depth_map(path)\n"
        "files.read_mask(pathlib.Path(sys.argv[1], 'map.png'))\n"
        "print(sorted(libraries & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.split("\n")[:2] == ["[]", "['OpenEXR', 'tifffile']"]
