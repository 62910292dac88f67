"""The language of the captions: its words, what each one does to the look, and how a caption is put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["COLOURS", "LIGHTS", "MATERIALS", "PLACES", "SUBJECTS", "Light", "Look", "Place", "caption", "draw_look"]

# sRGB, 0 to 255. Chosen far apart in CIELAB, so that shading does not turn one colour into its neighbour.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 25, 30),
    "orange": (245, 130, 15),
    "yellow": (245, 220, 40),
    "green": (35, 155, 45),
    "turquoise": (30, 200, 190),
    "blue": (30, 60, 210),
    "purple": (125, 40, 165),
    "pink": (250, 135, 185),
    "brown": (115, 65, 30),
    "white": (245, 245, 242),
    "grey": (130, 130, 130),
    "black": (28, 28, 30),
}

# name -> (pattern, its strength, specular strength)
MATERIALS: dict[str, tuple[str, float, float]] = {
    "matte": ("plain", 0.0, 0.0),
    "glossy": ("plain", 0.0, 0.55),
    "metal": ("plain", 0.0, 0.9),
    "wooden": ("rings", 0.22, 0.05),
    "stone": ("noise", 0.28, 0.0),
    "striped": ("stripes", 0.38, 0.0),
    "checkered": ("checks", 0.38, 0.0),
    "dotted": ("dots", 0.38, 0.0),
    "brick": ("bricks", 0.3, 0.0),
    "woollen": ("noise", 0.12, 0.0),
}


@dataclass(frozen=True)
class Light:
    """A kind of light: colour of the key light, of the fill, of the air (sRGB-like, 0 to 1), how thick the air is,
    and how bright the picture is exposed."""

    key: tuple[float, float, float]
    fill: tuple[float, float, float]
    air: tuple[float, float, float]
    density: float
    exposure: float


LIGHTS: dict[str, Light] = {
    "sunny": Light((0.56, 0.55, 0.52), (0.56, 0.58, 0.62), (0.70, 0.84, 0.97), 0.6, 1.02),
    "overcast": Light((0.22, 0.22, 0.23), (0.80, 0.81, 0.83), (0.78, 0.80, 0.82), 0.8, 0.97),
    "golden": Light((0.64, 0.57, 0.42), (0.57, 0.53, 0.47), (0.99, 0.85, 0.60), 0.7, 1.0),
    "dusk": Light((0.50, 0.45, 0.46), (0.52, 0.50, 0.57), (0.62, 0.48, 0.66), 0.8, 0.96),
    "moonlit": Light((0.42, 0.44, 0.50), (0.45, 0.47, 0.53), (0.14, 0.18, 0.34), 0.7, 0.92),
    "foggy": Light((0.14, 0.14, 0.14), (0.84, 0.85, 0.86), (0.88, 0.89, 0.90), 1.2, 0.97),
    "studio": Light((0.58, 0.58, 0.58), (0.52, 0.52, 0.52), (0.42, 0.43, 0.45), 0.6, 1.0),
    "candlelit": Light((0.68, 0.58, 0.44), (0.44, 0.39, 0.34), (0.30, 0.17, 0.10), 0.7, 0.96),
}


@dataclass(frozen=True)
class Place:
    """A kind of surroundings: its preposition, its own colour (None: the caption names one) and its pattern."""

    preposition: str
    colour: tuple[int, int, int] | None
    pattern: str
    strength: float


PLACES: dict[str, Place] = {
    "room": Place("in", None, "plain", 0.0),
    "hall": Place("in", None, "checks", 0.16),
    "cellar": Place("in", None, "bricks", 0.2),
    "table": Place("on", None, "plain", 0.0),
    "floor": Place("on", None, "checks", 0.22),
    "rug": Place("on", None, "stripes", 0.22),
    "wall": Place("before", None, "plain", 0.0),
    "field": Place("in", (95, 150, 55), "noise", 0.25),
    "beach": Place("on", (225, 200, 150), "noise", 0.12),
    "desert": Place("in", (215, 150, 85), "noise", 0.14),
    "snow": Place("in", (238, 242, 248), "noise", 0.08),
    "street": Place("on", (105, 105, 110), "bricks", 0.12),
    "moor": Place("on", (110, 95, 75), "noise", 0.3),
}

SUBJECTS = (
    "ball", "box", "pillar", "cone", "solids", "pile", "figure", "boulder", "tower", "tree", "relief", "hills",
)  # fmt: skip
_PLURAL = {"solids", "hills"}


@dataclass(frozen=True)
class Look:
    """Everything the words decide about one picture; `subject` and `place` only name what the depth already shows."""

    subject: str
    colour: str
    material: str
    place: str
    place_colour: str
    light: str
    seed: int


def draw_look(rng: np.random.Generator, subject: str, places: tuple[str, ...]) -> Look:
    """A look at random for a scene whose subject and possible places the geometry has fixed."""
    place = str(rng.choice(places))
    colour = str(rng.choice(list(COLOURS)))
    others = [name for name in COLOURS if name != colour]
    return Look(
        subject=subject,
        colour=colour,
        material=str(rng.choice(list(MATERIALS))),
        place=place,
        place_colour=str(rng.choice(others)),
        light=str(rng.choice(list(LIGHTS))),
        seed=int(rng.integers(2**31)),
    )


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(look: Look, rng: np.random.Generator | None = None) -> str:
    """The caption of a look, for example "a red wooden ball in a white room, sunny".

    With `rng` parts are left out and turned about, as people write; without it every word is there.
    """
    keep = (lambda p: rng.random() < p) if rng is not None else (lambda _p: True)
    material = f"{look.material} " if keep(0.7) else ""
    words = f"{look.colour} {material}{look.subject}"
    if rng is not None and material and rng.random() < 0.25:
        words = f"{material}{look.colour} {look.subject}"
    subject = words if look.subject in _PLURAL else _article(words)
    place = PLACES[look.place]
    parts = [subject]
    if look.subject not in {"relief", "hills"} and keep(0.88):
        bare = look.place if place.colour is not None else f"{look.place_colour} {look.place}"
        parts[0] += f" {place.preposition} {bare if look.place == 'snow' else _article(bare)}"
    if keep(0.75):
        parts.append(look.light if keep(0.6) else f"{look.light} light")
    if rng is not None and len(parts) == 2 and rng.random() < 0.2:
        parts.reverse()
    text = ", ".join(parts)
    if rng is not None and rng.random() < 0.2:
        text = str(rng.choice(["a photo of ", "a picture of ", "photograph, "])) + text
    return text
