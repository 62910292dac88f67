"""The command line: one module of ``commands/`` for each word after ``depth2img`` or ``python -m lib_depth2img``.

Exit codes: 0 done, 1 a bug (with its traceback), 2 bad input (one line on standard error), 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .commands import checkpoint, demo, depth, img2img, install, video
from .errors import Depth2ImgError

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """The parser with all its subcommands; building it imports neither torch nor cv2."""
    parser = argparse.ArgumentParser(
        prog=_called(),
        description="Depth maps for Stable Diffusion 2's depth model, and the model itself.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (depth, img2img, video, demo, install, checkpoint):
        command.add_parser(subparsers)
    return parser


def _called() -> str:
    """What the user has typed: the package's own command, or Python with the package's name."""
    return "depth2img" if Path(sys.argv[0]).stem == "depth2img" else "python -m lib_depth2img"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; a refusal is one line on standard error, never a traceback."""
    parsed = build_parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
    except Depth2ImgError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code
