"""``python -m lib_depth2img checkpoint``: inspect, convert and transplant checkpoints."""

from __future__ import annotations

import argparse

from ..errors import CheckpointError

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``checkpoint`` and its own commands to the command line."""
    parser = subparsers.add_parser("checkpoint", help="look into a checkpoint, convert it, or make a depth model of it")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for; returns the exit code."""
    raise CheckpointError("checkpoint is not written yet")
