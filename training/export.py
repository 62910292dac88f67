"""Stage 7, the file: all parts in one .safetensors in half precision, in Stable Diffusion's own names.

    python -m training.export --unet runs/unet/unet.pt --vae runs/vae/vae.pt --text runs/text/text.pt \\
        --estimator runs/estimator/estimator.pt --out lib_depth2img/assets/depth2img-small.safetensors
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from .unet import alphas

__all__ = ["LIMIT", "PREFIXES", "export"]

LIMIT = 32 * 10**6
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.",
    "estimator": "depth_model.model.",
}


def export(parts: dict[str, Path], out: Path) -> int:
    """Write the checkpoint from one state dict per part (the keys of `PREFIXES`); return its size in bytes."""
    tensors: dict[str, torch.Tensor] = {}
    for part, path in parts.items():
        for name, tensor in torch.load(path, map_location="cpu").items():
            if name.endswith("num_batches_tracked") or "attn_mask" in name:
                continue
            tensors[PREFIXES[part] + name] = tensor.half().contiguous()
    # A checkpoint carries its schedule; the host looks for this name to tell what it has before it.
    tensors["alphas_cumprod"] = alphas()
    card = {
        "name": "depth2img-small",
        "license": "as the project's",
        "trained on": "rendered scenes",
        "size": "256x256",
    }
    save_file(tensors, out, metadata={"modelspec": json.dumps(card)})
    size = out.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{out} has {size} bytes; the limit is {LIMIT}")
    return size


def main() -> None:
    """Command line of this stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in PREFIXES:
        parser.add_argument(f"--{part}", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = vars(parser.parse_args())
    print(export({part: given[part] for part in PREFIXES}, given["out"]), "bytes")


if __name__ == "__main__":
    main()
