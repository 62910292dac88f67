"""Flags of this extension; the host reads them before anything else is loaded."""

from __future__ import annotations

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--depth2img-install",
        nargs="?",
        const="ckpt",
        choices=("ckpt", "safetensors", "fp16"),
        help="download Stable Diffusion 2's depth model (5.7 GB, fp16: 2.9 GB) into the models folder while the WebUI "
        "runs; with it you accept its licence, CreativeML Open RAIL++-M",
    )
