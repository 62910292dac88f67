"""``python -m lib_depth2img demo``: the small model on the two packaged pictures, as one contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..console import ProgressBar
from .generation import write_picture

__all__ = ["add_parser"]

_ASSETS = Path(__file__).resolve().parent.parent / "assets"
_PICTURES = (
    ("demo-scene.png", "a yellow glossy pile before a red wall, studio light"),
    ("demo-photograph.jpg", "green wooden solids on a yellow table, golden light"),
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``demo`` to the command line."""
    parser = subparsers.add_parser("demo", help="the small model on two packaged pictures, as one contact sheet")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/demo.png"), metavar="OUT.png")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Make the sheet and print one line per row; returns the exit code."""
    from ..checkpoint.small_model import SMALL_CHECKPOINT
    from ..depth.io.files import read_picture
    from ..standalone.contact_sheet import contact_sheet, stacked
    from ..standalone.generate import estimate_depth
    from ..standalone.loading import load_model
    from ..standalone.parameters import Parameters

    model = load_model(SMALL_CHECKPOINT)
    side = 8 * model.image_size
    sheets = []
    for name, prompt in _PICTURES:
        picture = read_picture(_ASSETS / name)
        parameters = Parameters(
            prompt=prompt, size=(side, side), steps=arguments.steps, cfg_scale=3.0, seed=arguments.seed
        )
        with ProgressBar() as bar:
            sheet = contact_sheet(model, picture, estimate_depth(model, picture), parameters, progress=bar.show)
        for row in sheet.rows:
            print(f"{name}, {row}")
        sheets.append(sheet.image)
    write_picture(stacked(sheets), arguments.output)
    return 0
