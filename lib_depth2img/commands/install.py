"""``python -m lib_depth2img install``: bring in the depth checkpoint with its yaml, or a MiDaS weights file."""

from __future__ import annotations

import argparse

from ..errors import InstallError

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``install`` to the command line."""
    parser = subparsers.add_parser("install", help="download the depth model, or MiDaS weights, and verify them")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Install what was asked for; returns the exit code."""
    raise InstallError("install is not written yet")
