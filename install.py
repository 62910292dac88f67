"""Run by the host at launch: adds what the extension needs and the host does not bring, and nothing else.

timm's own requirements are all among the host's, so with ``--no-deps`` nothing the host has is replaced.
"""

import launch

if not launch.is_installed("timm"):
    launch.run_pip("install --no-deps timm", "timm for Depth2Img")
