"""Everything the extension hooks into the host, on and off again; called from ``scripts/`` only."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from ..console import ProgressBar, say
from ..errors import Depth2ImgError
from ..weights import catalog
from . import api, depth_stage, estimators, settings, xyz
from .hooks import batch, guard, override, tiles
from .host_services import download_file
from .hosts import host
from .ui import editor_route
from .ui.panel import TITLE

__all__ = ["register", "unregister"]

_log = logging.getLogger(__name__)


def register() -> None:
    """Patch what has to be patched before a checkpoint is loaded, and ask for callbacks; twice is the same as once."""
    host.call_back("script_unloaded", unregister)  # first: what follows may fail half-way
    host.prepare()
    depth_stage.hook()
    guard.hook()
    override.hook()
    tiles.hook()
    estimators.hook()
    batch.hook(_panel_values)
    host.call_back("ui_settings", settings.register)
    host.call_back("before_ui", xyz.register)
    host.call_back("app_started", api.add_routes)
    host.call_back("app_started", editor_route.add_route)
    host.call_back("app_started", _install_as_asked)


def unregister() -> None:
    """Leave the host as it was (``on_script_unloaded``)."""
    xyz.unregister()
    settings.unregister()
    host.undo()


def _panel_values(p: Any) -> Sequence[Any]:
    """This extension's part of ``p.script_args``."""
    script = next(script for script in p.scripts.alwayson_scripts if script.title() == TITLE)
    values: Sequence[Any] = p.script_args[script.args_from : script.args_to]
    return values


def _install_as_asked(_demo: Any, _app: Any) -> None:
    """Follow ``--depth2img-install`` beside the running host, which neither waits nor fails for it."""
    flags = host.command_line()
    variant = getattr(flags, "depth2img_install", None)
    if variant is None or any(thread.name == _THREAD for thread in threading.enumerate()):
        return
    if flags.no_download_sd_model:
        say("Depth2Img: --depth2img-install is not followed, since --no-download-sd-model forbids it.")
        return
    threading.Thread(target=_install, args=(variant,), name=_THREAD, daemon=True).start()


_THREAD = "depth2img-install-flag"


def _install(variant: str) -> None:
    try:
        with ProgressBar() as bar:
            done = download_file(catalog.variant(variant), progress=bar.show)
        say(f"Depth2Img: {done}")
    except Depth2ImgError as error:
        say(f"Depth2Img: {error}")
    except Exception:  # noqa: BLE001 - of a thread: nobody else would tell
        _log.exception("Depth2Img: the installation failed.")
