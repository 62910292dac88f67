"""How well depth is controlled: strength, steps, region and mode, beside the naive ways; a plot and tables.

``python benchmarks/control.py`` measures the packaged small model on 50 rendered scenes that its training never saw,
from a grey picture at denoising strength 1, and takes about an hour on one core; ``--checkpoint
512-depth-ema.safetensors --device cuda --precision float16`` repeats all of it on the real one. What is found is kept
in ``--output`` after each setting, and a second run goes on from there.

Depth: Spearman's rank correlation, at 64x64, of what the checkpoint's own estimator sees in the result with the map
that was given. Colour: the share of results whose subject is nearest to the colour that the prompt names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT  # noqa: E402
from lib_depth2img.depth.control import FLAT, MODES, Control, Rows  # noqa: E402
from lib_depth2img.standalone.agreement import rank_correlation  # noqa: E402
from lib_depth2img.standalone.generate import estimate_depth, generate  # noqa: E402
from lib_depth2img.standalone.loading import load_model  # noqa: E402
from lib_depth2img.standalone.parameters import Parameters  # noqa: E402
from training.measure import GREY, Unseen, named_colour_is_nearest, unseen_scenes  # noqa: E402

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)
SIDE = 64
"""Width and height at which depth is compared."""
BORDERS = (0.375, 0.5, 0.625)
"""Where the region ends, as shares of the width; the scenes take turns."""


@dataclass(frozen=True)
class BlendedChannel:
    """A naive way: not the answers are mixed but the channel, towards a flat one, ``share`` of it left."""

    share: float | Tensor

    def answer(self, asked: Callable[[Tensor], Tensor], channel: Tensor, _rows: Rows, _progress: float) -> Tensor:
        share = self.share if isinstance(self.share, float) else self.share.to(channel.device)
        return asked(FLAT + share * (channel - FLAT))


@dataclass(frozen=True)
class Extrapolated:
    """Another: the formula with a share above 1."""

    share: float

    def answer(self, asked: Callable[[Tensor], Tensor], channel: Tensor, _rows: Rows, _progress: float) -> Tensor:
        flat = asked(torch.full_like(channel, FLAT))
        return flat + self.share * (asked(channel) - flat)


@dataclass(frozen=True)
class Stressed:
    """A third: guidance stresses the depth, of which the negative prompt sees ``2 - strength``."""

    strength: float

    def answer(self, asked: Callable[[Tensor], Tensor], channel: Tensor, rows: Rows, _progress: float) -> Tensor:
        flat = asked(torch.full_like(channel, FLAT))
        share = torch.tensor([1.0 if prompted else 2.0 - self.strength for prompted in rows.prompted])
        return flat + share.reshape(-1, 1, 1, 1).to(flat) * (asked(channel) - flat)


@dataclass(frozen=True)
class Fading:
    """What might be expected of a mode for the prompt: less depth from step to step."""

    def answer(self, asked: Callable[[Tensor], Tensor], channel: Tensor, rows: Rows, progress: float) -> Tensor:
        return Control(1 - progress).answer(asked, channel, rows, 0.0)


def region_of(number: int, side: int) -> Tensor:
    """(1, 1, side, side): 1 left of the scene's border."""
    region = torch.zeros(1, 1, side, side)
    region[..., : round(BORDERS[number % len(BORDERS)] * side)] = 1
    return region


def always(control: Any) -> Callable[[int], Any]:
    """The same for every scene."""
    return lambda _number: control


def settings(cells: int) -> dict[str, tuple[Callable[[int], Any], float]]:
    """By name what makes the control of scene number i, and the factor of the guidance."""
    made: dict[str, tuple[Callable[[int], Any], float]] = {}

    def add(name: str, make: Callable[[int], Any], guidance: float = 1.0) -> None:
        made[name] = (make, guidance)

    for strength in STRENGTHS:
        add(f"strength {strength:g}", always(Control(strength)))
    for share in SHARES:
        add(f"end {share:g}", always(Control(end=share)))
    for share in SHARES:
        add(f"start {share:g}", always(Control(start=share)))
    add("region", lambda number: Control(region=region_of(number, cells)))
    add("region, strength 1.5", lambda number: Control(1.5, region=region_of(number, cells)))
    add("region in the channel", lambda number: BlendedChannel(region_of(number, cells)))
    for strength in STRENGTHS:
        if 0 < strength < 1:
            add(f"channel {strength:g}", always(BlendedChannel(strength)))
        if strength > 1:
            add(f"extrapolated {strength:g}", always(Extrapolated(strength)))
            add(f"stressed {strength:g}", always(Stressed(strength)))
    for mode in MODES[1:]:
        add(f"mode {mode}", always(Control(mode=mode)))
    add("fading with the steps", always(Fading()))
    for mode in MODES:
        add(f"mode {mode}, guidance x2", always(Control(mode=mode)), 2.0)
    return made


@dataclass(frozen=True)
class Bench:
    """What all settings share."""

    model: Any
    scenes: list[Unseen]
    size: int
    steps: int
    cfg_scale: float

    def measure(self, make: Callable[[int], Any], guidance: float) -> dict[str, Any]:
        """All scenes under one setting."""
        found: dict[str, list[Any]] = {"depth": [], "colour": [], "inside": [], "outside": [], "columns": []}
        for number, scene in enumerate(self.scenes):
            parameters = Parameters(
                prompt=scene.prompt,
                size=(self.size, self.size),
                denoising_strength=1.0,
                steps=self.steps,
                cfg_scale=self.cfg_scale * guidance,
                seed=number,
            )
            (result,) = generate(self.model, GREY, scene.depth_map, parameters, control=make(number))
            seen, true = (_small(values) for values in (estimate_depth(self.model, result).values, scene.nearness))
            border = round(BORDERS[number % len(BORDERS)] * SIDE)
            found["depth"].append(rank_correlation(seen, true))
            found["inside"].append(rank_correlation(seen[:, :border], true[:, :border]))
            found["outside"].append(rank_correlation(seen[:, border:], true[:, border:]))
            found["columns"].append([rank_correlation(seen[:, x], true[:, x]) for x in range(SIDE)])
            whole = result.resize((256, 256))
            found["colour"].append(bool(named_colour_is_nearest(whole, scene.subject, scene.look.colour)))
        return found


def _small(values: np.ndarray) -> np.ndarray:
    return cv2.resize(values.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def border_offset(found: dict[str, Any], cells: int) -> float:
    """By how many latent cells the change from depth to none lies off the region's border; right is positive.

    Around the border of each scene the agreement of single columns is averaged over the scenes. It is high on the one
    side and low on the other; the change is where two levels fit that best.
    """
    reach = round(min(*BORDERS, 1 - BORDERS[-1]) * SIDE)
    aligned = []
    for number, columns in enumerate(found["columns"]):
        border = round(BORDERS[number % len(BORDERS)] * SIDE)
        aligned.append(columns[border - reach : border + reach])
    profile = np.mean(aligned, axis=0)
    costs = [profile[:at].var() * at + profile[at:].var() * (len(profile) - at) for at in range(2, len(profile) - 1)]
    return (int(np.argmin(costs)) + 2 - reach) * cells / SIDE


def tables(found: dict[str, dict[str, Any]], cells: int) -> str:
    """What docs/control.md shows."""
    lines = ["| setting | depth, median | tenth percentile | colour |", "|---|---|---|---|"]
    for name, values in found.items():
        depth = values["depth"]
        colour = f"{np.mean(values['colour']):.0%}"
        lines.append(f"| {name} | {np.median(depth):.3f} | {np.quantile(depth, 0.1):.3f} | {colour} |")
    lines += ["", "| region | inside, median | outside, median | border off by |", "|---|---|---|---|"]
    for name in ("region", "region, strength 1.5", "region in the channel", "strength 0", "strength 1"):
        if name in found:
            inside, outside = (np.median(found[name][side]) for side in ("inside", "outside"))
            off = f"{border_offset(found[name], cells):+.1f} cells" if name.startswith("region") else ""
            lines.append(f"| {name} | {inside:.3f} | {outside:.3f} | {off} |")
    return "\n".join(lines)


def plot(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Median and tenth percentile over strength and over the steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
    ends = {0.0: "strength 0", **{share: f"end {share:g}" for share in SHARES}, 1.0: "strength 1"}
    starts = {0.0: "strength 1", **{share: f"start {share:g}" for share in SHARES}, 1.0: "strength 0"}
    blended = {s: f"channel {s:g}" if 0 < s < 1 else f"strength {s:g}" for s in STRENGTHS if s <= 1}
    series = {
        left: {
            "strength: answers mixed, above 1 channel stretched": {s: f"strength {s:g}" for s in STRENGTHS},
            "channel blended": blended,
            "answers extrapolated": {1.0: "strength 1", 1.5: "extrapolated 1.5", 2.0: "extrapolated 2"},
            "stressed by guidance": {1.0: "strength 1", 1.5: "stressed 1.5", 2.0: "stressed 2"},
            "off after a share of the steps": ends,
        },
        right: {"end": ends, "start": starts},
    }
    for axis, lines in series.items():
        for label, names in lines.items():
            known = {x: np.asarray(found[name]["depth"]) for x, name in names.items() if name in found}
            (line,) = axis.plot(list(known), [np.median(values) for values in known.values()], "o-", label=label)
            low = [np.quantile(values, 0.1) for values in known.values()]
            axis.plot(list(known), low, ":", color=line.get_color(), linewidth=1)
        axis.axhline(0, color="0.8", linewidth=1)
        axis.legend()
    left.set(xlabel="strength, or share of the steps", ylabel="depth kept: rank correlation", title="How much")
    right.set(xlabel="share of the steps", title="When")
    figure.supxlabel("Lines: median of all scenes; dotted: tenth percentile", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=SMALL_CHECKPOINT, help="default: the small model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=4242, help="of the scenes; no seed of the training")
    parser.add_argument("--size", type=int, help="default: what the checkpoint was made for")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cfg-scale", type=float, help="default: 3 for the small model, 7 for others")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="settings that begin with one of these")
    parser.add_argument("--output", type=Path, default=Path("out/control.json"))
    parser.add_argument("--plot", type=Path, default=REPOSITORY / "docs" / "control.png")
    given = parser.parse_args()
    model = load_model(given.checkpoint, device=given.device, precision=given.precision)
    size = given.size or 8 * model.image_size
    scale = given.cfg_scale or (3.0 if model.image_size < 64 else 7.0)
    bench = Bench(model, unseen_scenes(given.scenes, given.seed), size, given.steps, scale)
    found: dict[str, dict[str, Any]] = json.loads(given.output.read_text()) if given.output.is_file() else {}
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for name, (make, guidance) in settings(size // 8).items():
        if name in found or (given.only and not name.startswith(tuple(given.only))):
            continue
        found[name] = bench.measure(make, guidance)
        given.output.write_text(json.dumps(found))
        print(f"{name}: {np.median(found[name]['depth']):.3f}, colour {np.mean(found[name]['colour']):.0%}", flush=True)
    print(tables(found, size // 8))
    plot(found, given.plot)


if __name__ == "__main__":
    main()
