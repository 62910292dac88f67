"""``--depth2img-install`` before the host starts: what install.py does with it.

The first start should find a depth model, and the host downloads an ordinary one where it finds none
(sd_models.py:157-163). So the model pair is brought in before. The host runs install.py in a process of its own, hands
it none of its flags and shows what it prints when it has ended (launch_utils.py:228-241). Hence:

- the flags are read from the command line of the ``launch.py`` above, and from COMMANDLINE_ARGS as the host does;
- progress goes to the terminal itself;
- whatever fails is said, and the host starts: the running WebUI follows the flag once more, in the background
  (``extension.py``). It also does what install.py cannot: verify a file that is there already, which would delay every
  start, or install after a start with --skip-install or --skip-prepare-environment.

Imported by install.py, so nothing here may need torch, gradio or the host's ``shared``.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..checkpoint.install import install_pair, pair_installed
from ..console import say, terminal
from ..errors import Depth2ImgError

if TYPE_CHECKING:
    from ..checkpoint.progress import Progress

__all__ = ["ConsoleProgress", "adopt_arguments", "install_at_launch"]

_LAUNCH = "launch.py"
_TERMINAL = "CONOUT$" if sys.platform == "win32" else "/dev/tty"


def adopt_arguments() -> None:
    """Give this process the arguments of the host above it, before the host's modules read them."""
    sys.argv[1:] = _host_arguments()


def install_at_launch(add_flag: Callable[[argparse.ArgumentParser], None]) -> None:
    """Bring in the model pair that the flag asks for, unless it is there. Never raises: the host has to start.

    ``add_flag``: ``preload`` of preload.py.
    """
    try:
        flags = _host_flags(add_flag)
        folder = _checkpoint_folder(flags)
        variant = flags.depth2img_install
        if variant is None or flags.no_download_sd_model or pair_installed(folder, variant):
            return
        with _terminal() as stream:
            path, _yaml = install_pair(variant, folder, progress=ConsoleProgress(stream).show)
        say(f"Depth2Img: {path.name} is in {path.parent}, verified.")
    except Depth2ImgError as error:
        say(f"Depth2Img: {error} The WebUI starts without it, and then tries once more.")
    except Exception:  # noqa: BLE001 - the host has to start
        say(f"Depth2Img: the installation failed; the WebUI starts without it.\n{traceback.format_exc()}")


class ConsoleProgress:
    """Progress as one line that is written over; where there is no terminal, as a line for each tenth."""

    def __init__(self, terminal: TextIO | None) -> None:
        self._terminal = terminal
        self._width = 0
        self._shown: tuple[str, int] | None = None

    def show(self, progress: Progress) -> None:
        """Tell where the installation is."""
        line = f"Depth2Img: {progress}"
        finished = progress.done == progress.total
        if self._terminal is not None:
            say(f"\r{line.ljust(self._width)}", to=self._terminal, end="\n" if finished else "")
            self._width = 0 if finished else len(line)
            return
        step = (progress.phase, progress.done * 10 // progress.total if progress.total else 0)
        if step != self._shown:
            self._shown = step
            say(line)


def _host_arguments() -> list[str]:
    """Behind ``launch.py`` on the command line of the nearest process above; none where it cannot be seen."""
    try:
        import psutil
    except ImportError:
        return []
    with contextlib.suppress(psutil.Error, OSError):  # Windows has errors of its own for a parent that is gone
        for process in psutil.Process().parents():
            command = process.cmdline()
            for place, word in enumerate(command):
                if Path(word).name == _LAUNCH:
                    return command[place + 1 :]
    return []


def _host_flags(add_flag: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """As the host will read them (shared_cmd_options.py:7-14), other extensions' flags aside."""
    from modules import cmd_args

    add_flag(cmd_args.parser)
    flags, _ = cmd_args.parser.parse_known_args()
    found: argparse.Namespace = flags
    return found


def _checkpoint_folder(flags: argparse.Namespace) -> Path:
    """As ``host.checkpoint_folder``, which asks modules that are not there before the start."""
    from modules import paths_internal

    return Path(flags.ckpt_dir or Path(paths_internal.models_path, "Stable-diffusion"))


@contextlib.contextmanager
def _terminal() -> Iterator[TextIO | None]:
    """The terminal the host was started in, or None."""
    own = terminal()
    if own is not None:
        yield own
        return
    try:
        stream = open(_TERMINAL, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - a device, closed below
    except OSError:
        yield None
        return
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):  # its window may be gone, with the last words still in the buffer
            stream.close()
