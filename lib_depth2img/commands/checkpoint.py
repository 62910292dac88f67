"""``python -m lib_depth2img checkpoint``: inspect, convert and transplant checkpoints."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import ProgressBar

if TYPE_CHECKING:
    from ..checkpoint.inspect import Report

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``checkpoint`` and its own commands to the command line."""
    parser = subparsers.add_parser("checkpoint", help="look into a checkpoint, convert it, or make a depth model of it")
    words = parser.add_subparsers(dest="checkpoint_command", required=True, metavar="COMMAND")
    _add_inspect(words)
    _add_convert(words)
    _add_transplant(words)


def _add_inspect(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = words.add_parser("inspect", help="say what a checkpoint holds, and whether it is whole")
    parser.add_argument("file", type=Path)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--header-only", action="store_true", help="do not look for NaN, which takes reading all of it")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--write-yaml", action="store_true", help="give a depth model without a yaml the one it needs")
    parser.set_defaults(run=run_inspect)


def _add_convert(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = words.add_parser(
        "convert",
        help=".ckpt -> .safetensors, without training leftovers",
        description="Write a checkpoint anew as .safetensors, without EMA and training leftovers.",
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--half", action="store_true", help="weights as float16")
    parser.add_argument("--add-midas", type=Path, metavar="FILE", help="MiDaS weights to add where there are none")
    _add_output_options(parser)
    parser.set_defaults(run=run_convert)


def _add_transplant(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = words.add_parser(
        "transplant",
        help="depth model + (fine-tune - base)",
        description="Make a depth model of a Stable Diffusion 2 (512) fine-tune: what it learnt on top of its base is "
        "added to the depth model.",
    )
    parser.add_argument("--fine-tune", type=Path, required=True, metavar="A", help="the model whose look is wanted")
    parser.add_argument(
        "--base", type=Path, required=True, metavar="B", help="what A was tuned from, such as 512-base-ema"
    )
    parser.add_argument("--depth", type=Path, required=True, metavar="D", help="the depth model, such as 512-depth-ema")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.safetensors")
    _add_output_options(parser)
    parser.set_defaults(run=run_transplant)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run_inspect(arguments: argparse.Namespace) -> int:
    """Print what a checkpoint holds; returns the exit code."""
    from ..checkpoint.inspect import inspect, write_yaml_beside

    written = write_yaml_beside(arguments.file) if arguments.write_yaml else None
    with ProgressBar(quiet=arguments.quiet) as bar:
        report = inspect(arguments.file, numbers=not arguments.header_only, listener=bar.show)
    if arguments.json:
        print(json.dumps(report.as_dict(), indent=2))
        return 0
    print("\n".join(_report_lines(report)))
    if written:
        print(f"written: {written}")
    return 0


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert a checkpoint and print what was done; returns the exit code."""
    from ..checkpoint.convert import convert

    with ProgressBar(quiet=arguments.quiet) as bar:
        result = convert(
            arguments.source,
            arguments.out,
            half=arguments.half,
            add_midas=arguments.add_midas,
            overwrite=arguments.force,
            listener=bar.show,
        )
    lines = [
        f"{result.out}: {result.tensors:,} tensors, {result.nbytes / 1e9:.2f} GB, read back and compared",
        f"halved: {result.halved:,}" if arguments.half else "",
        f"dropped: {_counts(result.dropped)}",
        f"MiDaS added: {result.midas_added}" if result.midas_added else "",
        *result.notes,
        f"yaml written: {result.yaml}" if result.yaml else "",
    ]
    _print_result(result, lines, as_json=arguments.json)
    return 0


def run_transplant(arguments: argparse.Namespace) -> int:
    """Make a depth model of a fine-tune and print what was done; returns the exit code."""
    from ..checkpoint.transplant import transplant

    with ProgressBar(quiet=arguments.quiet) as bar:
        result = transplant(
            fine_tune=arguments.fine_tune,
            base=arguments.base,
            depth=arguments.depth,
            out=arguments.out,
            overwrite=arguments.force,
            listener=bar.show,
        )
    lines = [
        f"{result.out}: read back and compared",
        f"added: {_counts(result.added)} (the fine-tune differs from its base by {result.change:.2%})",
        f"kept as in the depth model: {_counts(result.kept)}",
        f"skipped of the fine-tune: {len(result.skipped):,}",
        *(f"  {name}: {reason}" for name, reason in result.skipped.items()),
        f"yaml written: {result.yaml}" if result.yaml else "",
        *(f"warning: {warning}" for warning in result.warnings),
    ]
    _print_result(result, lines, as_json=arguments.json)
    return 0


def _report_lines(report: Report) -> list[str]:
    dtypes = ", ".join(f"{name} {nbytes / 1e9:.2f} GB" for name, nbytes in report.dtypes.items())
    fits = {None: "", True: ", fits", False: ", does not fit"}[report.yaml_fits]
    return [
        f"file:         {report.path} ({report.format}, {report.file_bytes:,} bytes)",
        f"tensors:      {report.tensors:,} of {report.tensor_bytes:,} bytes: {dtypes}",
        f"UNet:         {_unet(report)}",
        f"MiDaS:        {report.midas or 'none'}",
        f"text encoder: {report.text_encoder or 'none'}",
        f"VAE:          {'yes' if report.vae else 'none'}",
        f"EMA copy:     {'yes' if report.ema else 'none'}",
        f"leftovers:    {report.leftovers:,}",
        f"yaml:         {report.yaml or 'none'}{fits}",
        report.verdict,
    ]


def _unet(report: Report) -> str:
    if report.unet_channels is None:
        return "none"
    version = f"Stable Diffusion {report.stable_diffusion}" if report.stable_diffusion else "of another width"
    return f"{report.unet_channels} input channels, {version}"


def _counts(groups: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.rstrip('.')}" for name, count in groups.items()) or "nothing"


def _print_result(result: Any, lines: list[str], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(dataclasses.asdict(result), default=str, indent=2))
    else:
        print("\n".join(line for line in lines if line))
