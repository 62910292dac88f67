"""The loop every stage shares: seeded by step, stopped and resumed anywhere, with a moving average of the weights."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

__all__ = ["Settings", "add_settings", "picture_tensor", "settings_from", "train"]

Loss = Callable[[np.random.Generator, int], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Settings:
    """How long and how fast one stage learns. `keep_s`: seconds between checkpoints."""

    steps: int
    learning_rate: float
    warmup: int = 100
    average: float = 0.998
    weight_decay: float = 0.01
    seed: int = 1
    keep_s: float = 120.0
    device: str = "cpu"


def add_settings(parser: object, *, steps: int, learning_rate: float) -> None:
    """Add the options every stage has to an argparse parser."""
    add = parser.add_argument
    add("--steps", type=int, default=steps)
    add("--learning-rate", type=float, default=learning_rate)
    add("--seed", type=int, default=1)
    add("--device", default="cpu")
    add("--threads", type=int, default=0, help="torch threads; 0 leaves torch's own choice")


def settings_from(given: object, **others: float) -> Settings:
    """The settings that `add_settings` read; also tells this process to take denormal numbers for zero.

    Squared gradients fall that low, and processors handle them many times more slowly.
    """
    torch.set_flush_denormal(True)
    if given.threads:
        torch.set_num_threads(given.threads)
    return Settings(given.steps, given.learning_rate, seed=given.seed, device=given.device, **others)


def picture_tensor(pictures: np.ndarray, device: str) -> torch.Tensor:
    """(b, h, w, 3) uint8 -> (b, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    part = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * min(part, 1.0))))


def _save(path: Path, state: dict[str, object]) -> None:
    waiting = path.with_suffix(".part")
    torch.save(state, waiting)
    waiting.replace(path)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def train(model: nn.Module, loss: Loss, folder: Path, settings: Settings) -> nn.Module:
    """Train `model` in place; return the moving average of its weights, in evaluation mode.

    `loss(rng, step)` gives named losses, of which "loss" is minimised. `folder/state.pt` is written every `keep_s`
    seconds and read at the start. What a step draws depends on (seed, step) alone, so a resumed run draws the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    average = copy.deepcopy(model).eval()
    start, path, spent = 0, folder / "state.pt", 0.0
    if path.exists():
        state = torch.load(path, map_location=settings.device)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        start, spent = state["step"], state["seconds"]
    began = kept = time.monotonic()
    sums: dict[str, float] = {}
    counted = start
    for step in range(start, settings.steps):
        torch.manual_seed(settings.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(step, settings)
        model.train()
        losses = loss(np.random.default_rng([settings.seed, step]), step)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        _follow(average, model, min(settings.average, (1 + step) / (10 + step)))
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        last = step + 1 == settings.steps
        if (step + 1) % 100 == 0 or last:
            seconds = spent + time.monotonic() - began
            count = step + 1 - counted
            line = {"step": step + 1, "seconds": round(seconds, 1), **{k: round(v / count, 5) for k, v in sums.items()}}
            with (folder / "log.jsonl").open("a") as log:
                print(json.dumps(line), file=log)
            print(json.dumps(line), flush=True)
            sums, counted = {}, step + 1
        if last or time.monotonic() - kept > settings.keep_s:
            kept = time.monotonic()
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            _save(path, {**state, "step": step + 1, "seconds": spent + kept - began, "settings": asdict(settings)})
    return average
