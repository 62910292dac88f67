"""Run by the host before it starts (modules/launch_utils.py:228-241).

Adds what the extension needs and the host does not bring, and nothing else: timm's own requirements are all among the
host's, so with ``--no-deps`` nothing the host has is replaced. Then follows ``--depth2img-install``.
"""

from lib_depth2img.webui import launch_flag
from preload import preload

launch_flag.adopt_arguments()

import launch  # noqa: E402 - reads the arguments

if not launch.is_installed("timm"):
    launch.run_pip("install --no-deps timm", "timm for Depth2Img")

launch_flag.install_at_launch(preload)
