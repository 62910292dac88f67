"""Run by the host before it starts (modules/launch_utils.py:228-241).

Adds what the extension needs and the host does not bring, and nothing else: timm's own requirements are all among the
host's, so with ``--no-deps`` nothing the host has is replaced. ``--depth2img-install`` is followed once the UI runs,
with progress in the console (``webui/extension.py``).
"""

import launch

if not launch.is_installed("timm"):
    launch.run_pip("install --no-deps timm", "timm for Depth2Img")
