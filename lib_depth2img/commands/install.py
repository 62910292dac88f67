"""``python -m lib_depth2img install``: bring in the depth checkpoint with its yaml, or the weights of an estimator."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..console import ProgressBar, say
from ..errors import InstallError
from ..weights.catalog import ESTIMATORS, VARIANTS, estimator_file, variant

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``install`` to the command line."""
    parser = subparsers.add_parser(
        "install",
        help="download the depth model, or an estimator's weights, and verify them",
        description="Download the depth checkpoint with its yaml, or an estimator's weights. What was interrupted goes "
        "on where it stopped; what is there is verified and kept. HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and proxy "
        "variables are honoured.",
    )
    parser.add_argument(
        "--to", required=True, type=Path, metavar="DIR", help="the folder, such as models/Stable-diffusion"
    )
    what = parser.add_mutually_exclusive_group()
    sizes = ", ".join(f"{name} {variant(name).about_bytes / 1e9:.2f} GB" for name in VARIANTS)
    what.add_argument(
        "--variant", choices=VARIANTS, default="ckpt", help=f"form of the checkpoint ({sizes}); default ckpt"
    )
    what.add_argument("--estimator", choices=ESTIMATORS, help="weights of this estimator instead of the checkpoint")
    parser.add_argument(
        "--accept-licence", action="store_true", help="needed for weights that are not for commercial use"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Install what was asked for; returns the exit code."""
    from ..checkpoint.pair import install_pair
    from ..weights.install import install

    file = estimator_file(arguments.estimator) if arguments.estimator else variant(arguments.variant)
    say(f"{file.name}: licence {file.licence}, {file.licence.url}", to=sys.stderr)
    if file.remark:
        say(file.remark, to=sys.stderr)
    if not file.licence.commercial and not arguments.accept_licence:
        raise InstallError(
            f"{file.name} is under {file.licence} ({file.licence.url}). Read it, and say --accept-licence if you agree."
        )
    with ProgressBar(quiet=arguments.quiet) as bar:
        if arguments.estimator:
            installed = [install(file, arguments.to, progress=bar.show)]
        else:
            installed = list(install_pair(arguments.variant, arguments.to, progress=bar.show))
    if arguments.json:
        print(json.dumps({"installed": [str(path) for path in installed], "sha256": file.sha256}))
    else:
        print("\n".join(str(path) for path in installed))
    return 0
