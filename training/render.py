"""From a scene's geometry and a look to a picture."""

from __future__ import annotations

import cv2
import numpy as np

from .scenes import Scene, nearness
from .solids import SKY, SUBJECT
from .words import COLOURS, LIGHTS, MATERIALS, PLACES, Look

__all__ = ["render"]

_AIR_BEFORE_SUBJECT = 0.3  # most optical depth between the camera and the subject's median
_THICKER_BEHIND = 2.5  # than before the subject
_SUBJECT_SHOWN = 0.7  # least mean share of the subject's own light in its pixels

Random = np.random.Generator


def _stripes(x: np.ndarray, y: np.ndarray, _z: np.ndarray, _rng: Random) -> np.ndarray:
    return np.sign(np.sin(np.pi * (y + 0.3 * x)))


def _checks(x: np.ndarray, y: np.ndarray, z: np.ndarray, _rng: Random) -> np.ndarray:
    cells = np.floor(x + 0.01) + np.floor(y + 0.01) + np.floor(z + 0.01)
    return np.where(cells % 2 == 0, 1.0, -1.0)


def _dots(x: np.ndarray, y: np.ndarray, z: np.ndarray, _rng: Random) -> np.ndarray:
    a, b, c = (np.sin(np.pi * axis) for axis in (x, y, z))
    return np.where(a * b + b * c + a * c > 0.45, 1.0, -0.4)


def _bricks(x: np.ndarray, y: np.ndarray, z: np.ndarray, _rng: Random) -> np.ndarray:
    along = x + z + 0.5 * (np.floor(2 * y) % 2)
    joint = (np.abs((2 * y) % 1 - 0.5) > 0.4) | (np.abs(along % 1 - 0.5) > 0.44)
    return np.where(joint, 1.0, -0.2)


def _rings(x: np.ndarray, y: np.ndarray, z: np.ndarray, _rng: Random) -> np.ndarray:
    return np.sin(2.5 * np.hypot(x + 0.2 * np.sin(1.3 * y), z + 0.3) * np.pi / 1.5)


def _noise(x: np.ndarray, y: np.ndarray, z: np.ndarray, rng: Random) -> np.ndarray:
    total = np.zeros_like(x)
    for octave in range(4):
        a, b, c = rng.normal(0, 2.2 * 1.7**octave, 3)
        total += np.sin(a * x + b * y + c * z + rng.uniform(0, 6.3)) * 0.7**octave
    return total / 1.8


# (x, y, z) in cells -> pattern in [-1, 1], each (n,)
_PATTERNS = {"stripes": _stripes, "checks": _checks, "dots": _dots, "bricks": _bricks, "rings": _rings, "noise": _noise}


def _albedo(scene: Scene, look: Look, rng: Random) -> tuple[np.ndarray, np.ndarray]:
    """Surface colours (h, w, 3) in 0..1 and specular strength (h, w)."""
    label, texture = scene.buffer.label, scene.buffer.texture
    place = PLACES[look.place]
    place_rgb = place.colour or COLOURS[look.place_colour]
    pattern, strength, gloss = MATERIALS[look.material]
    colour = np.empty((*label.shape, 3), np.float32)
    colour[:] = np.asarray(place_rgb, np.float32) / 255
    subject = label == SUBJECT
    colour[subject] = np.asarray(COLOURS[look.colour], np.float32) / 255
    ground = ~subject & (label != SKY)
    for mask, kind, amount, scale in ((subject, pattern, strength, 0.42), (ground, place.pattern, place.strength, 0.9)):
        if amount and mask.any():
            wave = amount * _PATTERNS[kind](*(texture[mask] / scale).T, rng)[:, None]
            base = colour[mask]
            # A dark base is patterned by lightening it, the others by darkening: black stripes on black would not show.
            lighter = base + np.maximum(wave, 0) * 0.35
            darker = base * (1 - np.maximum(wave, 0) * 0.8)
            colour[mask] = np.where(base.mean(-1, keepdims=True) < 0.2, lighter, darker)
    return colour, np.where(subject, np.float32(gloss), np.float32(0))


def _occlusion(scene: Scene) -> np.ndarray:
    """(h, w) darkening in 0..1 where something nearer is close by in the picture."""
    near = nearness(scene.buffer.distance)
    width = near.shape[0] / 24
    around = cv2.GaussianBlur(near, (0, 0), width)
    return np.clip((around - near) * 1.6, 0, 0.4)


def render(scene: Scene, look: Look) -> np.ndarray:
    """(h, w, 3) uint8 sRGB picture of `scene` under `look`; the same arguments give the same picture."""
    rng = np.random.default_rng(look.seed)
    buffer, light = scene.buffer, LIGHTS[look.light]
    colour, gloss = _albedo(scene, look, rng)
    toward = rng.normal(0, 1, 3)
    toward[1] = abs(toward[1]) + 0.6
    toward[2] = -abs(toward[2])
    toward = (toward / np.linalg.norm(toward)).astype(np.float32)
    lambert = np.maximum(buffer.normal @ toward, 0)
    fill = 0.86 + 0.14 * buffer.normal[..., 1]
    key, ambient = np.asarray(light.key, np.float32), np.asarray(light.fill, np.float32)
    lit = colour * (lambert[..., None] * key + (fill * (1 - _occlusion(scene)))[..., None] * ambient)
    half = toward + np.array([0, 0, -1], np.float32)
    shine = np.maximum(buffer.normal @ (half / np.linalg.norm(half)), 0) ** 24
    lit *= _exposure(lit, scene, look) * light.exposure
    lit += (gloss * shine)[..., None] * key
    return _air(lit, scene, light.air, light.density * rng.uniform(0.8, 1.2))


def _exposure(lit: np.ndarray, scene: Scene, look: Look) -> float:
    """The gain that shows the subject as bright as its colour is named; without it a shaded red is a brown."""
    subject = scene.buffer.label == SUBJECT
    named = np.asarray(COLOURS[look.colour], np.float32).mean() / 255
    return float(np.clip(named / max(lit[subject].mean(), 1e-3), 0.6, 2.2))


def _air(lit: np.ndarray, scene: Scene, air: tuple[float, float, float], density: float) -> np.ndarray:
    """Aerial perspective: the farther, the more of the air's colour; the sky is air, a little lighter upwards.

    Thick air is what makes depth visible in a single picture, and it would hide the colour that the caption names. So
    it is thin as far as the middle of the subject and thick behind that, always thicker with distance.
    """
    distance = scene.buffer.distance
    solid, subject = np.isfinite(distance), scene.buffer.label == SUBJECT
    start, reach = np.quantile(distance[solid], (0.01, 0.97))
    depth = np.clip((np.where(solid, distance, 0) - start) / max(reach - start, 0.3 * reach), 0, 4)
    middle = max(float(np.median(depth[subject])), 0.05)
    before = min(density, _AIR_BEFORE_SUBJECT / middle) * np.minimum(depth, middle)
    behind = np.maximum(depth - middle, 0)
    thick = _THICKER_BEHIND * density
    while thick > 0.05 and np.exp(-before - thick * behind)[subject].mean() < _SUBJECT_SHOWN:
        thick *= 0.8
    through = np.exp(-before - thick * behind)[..., None]
    tint = np.asarray(air, np.float32)
    picture = lit * through + tint * (1 - through)
    rows = np.linspace(1.06, 0.97, lit.shape[0], dtype=np.float32)[:, None, None]
    picture = np.where(solid[..., None], picture, tint * rows)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
