"""One step of depth-to-image at full size, 512x512 with guidance: ours, Stability's ldm, diffusers' own pipeline.

``python benchmarks/standalone.py`` prints time per step and peak memory of each side, measured in one run, each side in
a process of its own; ``--parity`` compares the latents of ours and ldm's after ten DDIM steps instead. A Stable
Diffusion 2 depth model of random weights is written into a temporary folder for it, 2.6 GB in half precision, and read
by ours and by ldm; the pipeline is built as large in memory. Random weights change nothing about the time. A depth map
is given, so no depth stage is loaded on any side. ldm is driven by its own DDIM sampler; in half precision it computes
under autocast, since its weights stay in float32.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from lib_depth2img.checkpoint.configuration import PAIR_YAML  # noqa: E402
from lib_depth2img.depth.control import Control  # noqa: E402
from lib_depth2img.standalone.architecture import architecture_of  # noqa: E402
from lib_depth2img.standalone.loading import load_model  # noqa: E402
from lib_depth2img.standalone.parameters import Parameters  # noqa: E402
from lib_depth2img.standalone.samplers import scheduler  # noqa: E402
from lib_depth2img.standalone.sampling import Sampling  # noqa: E402
from lib_depth2img.weights.safetensors_format import write_safetensors  # noqa: E402
from lib_depth2img.weights.tensor_file import TensorInfo, open_tensor_file  # noqa: E402

SIDES = ("ours", "pipeline", "ldm")
SCALE = 7.0
SEED = 1


def write_checkpoint(path: Path) -> None:
    """A model as 512-depth-ema's yaml describes it; random weights in float16 with which signals do not fade."""
    architecture = architecture_of(path)
    shapes = {
        part.names[name]: tuple(weight.shape)
        for part in (architecture.unet, architecture.vae, architecture.text)
        for name, weight in part.module.named_parameters()
    }
    infos = [
        TensorInfo(name, "float16", _as_ldm(name, shape), 2 * int(np.prod(shape))) for name, shape in shapes.items()
    ]
    generator = torch.Generator().manual_seed(SEED)

    def drawn(name: str) -> Tensor:
        shape = _as_ldm(name, shapes[name])
        tensor = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            return (tensor / tensor[0].numel() ** 0.5).half()
        return (0.1 * tensor + name.endswith("weight")).half()

    write_safetensors(path, infos, drawn)


def _as_ldm(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """What diffusers has as matrices in the autoencoder's attention, ldm has as convolutions."""
    return (*shape, 1, 1) if "attn_1" in name and len(shape) == 2 else shape


def inputs() -> dict[str, Tensor]:
    """The same for all sides: a latent, a depth channel, and two prompts as the text encoder would give them."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = {"latent": (1, 4, 64, 64), "depth": (1, 1, 64, 64), "prompt": (1, 77, 1024), "negative": (1, 77, 1024)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


class Clock:
    """Seconds from call to call."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None

    def tick(self, *_: object) -> None:
        """The end of a step, or the start of the first."""
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        self._last = now


def ours(checkpoint: Path, precision: Any, steps: int, clock: Clock) -> Tensor:
    """Our loop, as `generate` calls it."""
    model = load_model(checkpoint, precision=precision)
    given = inputs()
    parameters = Parameters(prompt="", size=(512, 512), denoising_strength=1.0, steps=steps, cfg_scale=SCALE, seed=SEED)
    sampling = Sampling(model, parameters, given["depth"], given["prompt"], given["negative"], Control())
    clock.tick()
    return sampling.run(given["latent"], None, clock.tick)


def pipeline(checkpoint: Path, precision: str, steps: int, clock: Clock) -> Tensor:
    """diffusers' ``StableDiffusionDepth2ImgPipeline``, its parts built as they come from a folder: in ``precision``."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionDepth2ImgPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16}
    empty = architecture_of(checkpoint)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, precision))
    parts = {
        "unet": UNet2DConditionModel.from_config(empty.unet.module.config),
        "vae": AutoencoderKL.from_config(empty.vae.module.config),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**text, hidden_act="gelu")),
    }
    torch.set_default_dtype(dtype)
    parts["unet"].register_to_config(sample_size=64)
    pipe = StableDiffusionDepth2ImgPipeline(
        **parts, scheduler=DDIMScheduler(), tokenizer=None, depth_estimator=None, feature_extractor=None
    )
    pipe.set_progress_bar_config(disable=True)
    given = {name: tensor.to(getattr(torch, precision)) for name, tensor in inputs().items()}

    def ended(_pipe: object, _step: int, _t: object, values: dict[str, Any]) -> dict[str, Any]:
        clock.tick()
        return values

    found: Tensor = pipe(
        prompt_embeds=given["prompt"],
        negative_prompt_embeds=given["negative"],
        image=torch.zeros(1, 3, 512, 512, dtype=given["depth"].dtype),
        depth_map=given["depth"][0],
        strength=1.0,
        num_inference_steps=steps + 1,  # the clock starts at the end of the first
        guidance_scale=SCALE,
        output_type="latent",
        callback_on_step_end=ended,
    ).images
    return found


def ldm(checkpoint: Path, precision: str, steps: int, clock: Clock) -> Tensor:
    """Stability's model and sampler, the weights read one at a time as we read them."""
    with contextlib.redirect_stdout(io.StringIO()):
        model = _ldms_model(checkpoint)
        from ldm.models.diffusion import ddim

        sampler = ddim.DDIMSampler(model)
    made = scheduler("DDIM", steps, model.betas.double().numpy(), "epsilon")
    timesteps = made.timesteps.numpy()[::-1].copy()
    given = inputs()
    conditions = [{"c_concat": [given["depth"]], "c_crossattn": [given[name]]} for name in ("prompt", "negative")]
    with patch.object(ddim, "make_ddim_timesteps", lambda **_: timesteps):
        sampler.make_schedule(steps, verbose=False)
    noise = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(SEED))
    x = sampler.stochastic_encode(given["latent"], torch.tensor([steps - 1]), noise=noise)
    half = contextlib.nullcontext() if precision == "float32" else torch.autocast("cpu", getattr(torch, precision))
    clock.tick()
    with half:
        for index in reversed(range(steps)):
            t = torch.tensor([int(timesteps[index])])
            x, _ = sampler.p_sample_ddim(
                x, conditions[0], t, index, unconditional_guidance_scale=SCALE, unconditional_conditioning=conditions[1]
            )
            clock.tick()
    found: Tensor = x
    return found


def _ldms_model(checkpoint: Path) -> Any:
    """Text encoder of full size, without the picture half that open_clip would build and ldm throw away."""
    import open_clip
    from ldm.util import instantiate_from_config
    from omegaconf import OmegaConf

    known = open_clip.get_model_config("ViT-H-14")
    small = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    named = checkpoint.with_name("text-of-ViT-H-14.json")
    named.write_text(json.dumps({**known, "vision_cfg": small}))
    open_clip.add_model_config(named)
    config = OmegaConf.load(PAIR_YAML).model
    config.params.cond_stage_config.params.update(arch=named.stem, version=None, device="cpu")
    config.params.depth_stage_config = {"target": "torch.nn.Identity"}
    model = instantiate_from_config(config).eval().requires_grad_(False)
    wanted = dict(model.state_dict(keep_vars=True))
    with open_tensor_file(checkpoint) as file:
        for name in file:
            wanted[name].copy_(file.read(name))
    return model


def work(side: str, checkpoint: Path, precision: str, steps: int, latents: Path | None) -> None:
    """One side in this process; prints its figures as JSON."""
    warnings.simplefilter("ignore")
    clock = Clock()
    run: Callable[[Path, str, int, Clock], Tensor] = {"ours": ours, "pipeline": pipeline, "ldm": ldm}[side]
    with torch.inference_mode():
        found = run(checkpoint, precision, steps, clock)
    if latents is not None:
        np.save(latents, found.float().numpy())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": clock.seconds, "peak_mib": peak}))


def _measured(side: str, checkpoint: Path, precision: str, steps: int, *, save: bool = False) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--checkpoint", str(checkpoint), "--steps", str(steps)]
    command += ["--precision", precision]
    if save:
        command += ["--latents", str(checkpoint.with_name(f"{side}.npy"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(checkpoint: Path, precisions: list[str], sides: list[str], steps: int) -> None:
    """Time of a step, the best of ``steps`` but the first, and peak memory of each side."""
    print("| precision | side | a step | of ours | peak memory |\n|---|---|---|---|---|")
    for precision in precisions:
        first = None
        for side in sides:
            found = _measured(side, checkpoint, precision, steps + 1)
            best = min(found["seconds"][1:])
            first = first or best
            print(
                f"| {precision} | {side} | {best:.2f} s | {best / first:.2f}x | {found['peak_mib']:,.0f} MiB |",
                flush=True,
            )


def parity(checkpoint: Path, steps: int) -> None:
    """How far our latents are from ldm's."""
    for side in ("ours", "ldm"):
        _measured(side, checkpoint, "float32", steps, save=True)
    found, theirs = (np.load(checkpoint.with_name(f"{side}.npy")) for side in ("ours", "ldm"))
    worst = np.abs(found - theirs).max()
    print(f"latents after {steps} DDIM steps: at most {worst:.1e} apart, their deviation is {theirs.std():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--steps", type=int, help="default: 2, and 10 with --parity")
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the checkpoint here, for the next run")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--checkpoint", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--latents", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        work(given.side, given.checkpoint, given.precision[0], given.steps, given.latents)
        return
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        checkpoint = folder / "random.safetensors"
        if not checkpoint.is_file():
            write_checkpoint(checkpoint)
        if given.parity:
            parity(checkpoint, given.steps or 10)
        else:
            table(checkpoint, given.precision, given.sides, given.steps or 2)


if __name__ == "__main__":
    main()
