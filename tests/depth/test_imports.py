"""The depth room is light to import: the heavy packages come with the first call that needs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_importing_and_reading_need_neither_torch_nor_opencv() -> None:
    code = (
        "import sys\n"
        "from lib_depth2img.depth import adjust, colormap, conditioning, depth_map, geometry\n"
        "from lib_depth2img.depth.io import files\n"
        "depth_map.DepthMap.from_array([[0.0, 1.0]]).resized((8, 8)).adjusted(adjust.Adjustments(far=0.5))\n"
        "print(sorted({'torch', 'cv2', 'timm', 'gradio', 'modules'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"
