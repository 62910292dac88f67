"""The entries that a host executes, in hosts that this extension does not know: one sentence, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib_depth2img.webui.hosts.known import UNKNOWN
from tests.webui.browser import ROOT

CLASSIC = {
    "modules_forge/forge_loader.py": "",
    "ldm_patched/modules/text_encoders/sd2_clip.py": "",
    "ldm/__init__.py": "",
    "ldm/models/__init__.py": "",
    "ldm/models/diffusion/__init__.py": "",
    "ldm/models/diffusion/ddpm.py": "class LatentDiffusion: pass",
}
"""Forge Classic: an ``ldm`` of its own without the depth model."""
NEO = {"modules_forge/__init__.py": "", "backend/diffusion_engine/sd15.py": "", "huggingface_guess/model_list.py": ""}
"""Forge Neo: no Stable Diffusion 2 any more."""
ERSATZ = NEO | {
    "backend/diffusion_engine/sd20.py": "",
    "backend/memory_management.py": "raise AssertionError\n\n\ndef load_models_gpu(models): pass",
}
"""ersatzForge: Forge's engines with a memory management of its own."""
SD_NEXT = {"ldm.py": "raise ImportError"}
"""SD.Next: none of all this."""

EXECUTE = """
import runpy, sys
for path in sys.argv[1:]:
    found = runpy.run_path(path)
    assert not [name for name, value in found.items() if isinstance(value, type)], found
touched = [name for name in sys.modules if name.split(".")[0] in ("modules", "gradio", "torch")]
assert not touched, touched
"""


@pytest.mark.parametrize(
    "host", [CLASSIC, NEO, ERSATZ, SD_NEXT], ids=["Forge Classic", "Forge Neo", "ersatzForge", "SD.Next"]
)
def test_one_sentence_and_nothing_else(tmp_path: Path, host: dict[str, str]) -> None:
    for file, text in (host | {"modules/__init__.py": "raise AssertionError"}).items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    entries = sorted(map(str, (ROOT / "scripts").glob("*.py")))
    assert len(entries) == 2
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, *entries],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == UNKNOWN
    assert "ControlNet" in UNKNOWN
    assert done.stderr == ""
