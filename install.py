"""Run by the host before it starts (modules/launch_utils.py:228-241).

Adds what the extension needs and the host does not bring, and nothing else: what these packages themselves need is
all among the host's, so with ``--no-deps`` nothing the host has is replaced. ``--depth2img-install`` is followed once
the UI runs, with progress in the console (``webui/extension.py``).
"""

import launch

if not launch.is_installed("timm"):
    launch.run_pip("install --no-deps timm", "timm for Depth2Img")

if not launch.is_installed("OpenEXR"):
    try:
        launch.run_pip("install --no-deps --only-binary :all: OpenEXR", "OpenEXR for Depth2Img")
    except RuntimeError as error:  # no wheel for this machine, or no network
        print(f"Depth2Img reads no OpenEXR files, since their library could not be installed: {error}")
