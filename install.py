"""Run by the host before it starts (modules/launch_utils.py:228-241).

Adds what the extension needs and the host does not bring, and nothing else: what these packages themselves need is
all among the host's, so with ``--no-deps`` nothing the host has is replaced. ``--depth2img-install`` is followed once
the UI runs, with progress in the console (``webui/extension.py``).
"""

from pathlib import Path

import launch

NEEDED = {
    "timm": ("install --no-deps timm", "estimates no depth with MiDaS's larger networks"),
    "OpenEXR": ("install --no-deps --only-binary :all: OpenEXR", "reads no OpenEXR files"),
}
"""By package how it is installed, and what is lost without it."""


def is_known(root: Path) -> bool:
    """Whether the extension does anything in the host at ``root``, by its files.

    The host is not running yet; once it does, ``webui/hosts/known.py`` asks it again, and looks more closely.
    """
    if not (root / "modules_forge").is_dir():
        return (root / "modules" / "launch_utils.py").is_file()  # SD.Next has none
    memory = root / "backend" / "memory_management.py"
    engine = root / "backend" / "diffusion_engine" / "sd20.py"  # Forge Neo has none
    if engine.is_file():  # ersatzForge manages memory in another way
        return memory.is_file() and "\ndef cleanup_models(" in memory.read_text(encoding="utf-8", errors="replace")
    return (root / "ldm_patched" / "modules" / "text_encoders" / "sd2_clip.py").is_file()  # reForge; Forge Classic not


def install() -> None:
    """Bring what is missing; of what cannot be had is said what is lost without it."""
    for package, (command, lost) in NEEDED.items():
        if launch.is_installed(package):
            continue
        try:
            launch.run_pip(command, f"{package} for Depth2Img")
        except RuntimeError as error:  # no wheel for this machine, or no network
            print(f"Depth2Img {lost}, since {package} could not be installed: {error}")


if is_known(Path(launch.__file__).parent):
    install()
