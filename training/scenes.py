"""Scenes at random: rooms, solids on the ground, figures, landscapes, clutter, reliefs and plain walls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .solids import PLACE, SUBJECT, Camera, GBuffer, Solid, draw_ground, draw_room, draw_solid, rotation
from .words import PLACES, SUBJECTS

__all__ = ["FAMILIES", "Scene", "draw_scene", "nearness"]

INDOORS = ("room", "hall", "cellar")
TABLE = ("table", "floor", "rug")
OUTDOORS = ("field", "beach", "desert", "snow", "street", "moor")
Random = np.random.Generator


@dataclass
class Scene:
    """One geometry: its buffer, the word for its subject, and the places it can be."""

    buffer: GBuffer
    subject: str
    places: tuple[str, ...]
    family: str


def nearness(distance: np.ndarray) -> np.ndarray:
    """Inverse distance per picture, scaled to [0, 1] with near = 1 and sky = 0; all zero for a flat picture."""
    inverse = np.where(np.isfinite(distance), 1 / np.maximum(distance, 1e-3), 0).astype(np.float32)
    low, high = inverse.min(), inverse.max()
    return (inverse - low) / (high - low) if high - low > 1e-4 * max(high, 1e-6) else np.zeros_like(inverse)


def _camera(rng: Random, size: int, target: np.ndarray, distance: float, pitch: float, *, roll: float = 0.0) -> Camera:
    turn = rotation(rng.uniform(-np.pi, np.pi), pitch, roll)
    return Camera((target - distance * turn[:, 2]).astype(np.float32), turn, rng.uniform(1.2, 2.2), size)


_SHAPES = {"ball": "ball", "box": "box", "pillar": "cylinder", "cone": "cone"}


def _proportions(rng: Random, shape: str, size: float) -> np.ndarray:
    if shape == "ball":
        return np.full(3, size * 0.8, np.float32)
    stretch = {"box": (0.5, 1.2), "cylinder": (0.35, 0.6), "cone": (0.6, 0.9)}[shape]
    wide = size * rng.uniform(*stretch)
    deep = size * rng.uniform(*stretch) if shape == "box" else wide
    return np.array([wide, size * rng.uniform(0.7, 1.5), deep], np.float32)


def _standing(rng: Random, shape: str, size: float, x: float, z: float, floor: float) -> Solid:
    scale = _proportions(rng, shape, size)
    return Solid(shape, np.array([x, floor + scale[1], z], np.float32), scale, rotation(rng.uniform(-3.1, 3.1), 0, 0))


def _group(rng: Random, floor: float) -> tuple[list[Solid], str]:
    """One to five solids standing about the origin, and the word for them."""
    count = int(rng.choice([1, 1, 2, 3, 4, 5]))
    word = str(rng.choice(list(_SHAPES)))
    solids = []
    for index in range(count):
        shape = _SHAPES[word] if count == 1 else str(rng.choice(list(_SHAPES.values())))
        away = 0 if index == 0 else rng.uniform(1.2, 2.4)
        angle = rng.uniform(-np.pi, np.pi)
        size = rng.uniform(0.6, 1.1) if index == 0 else rng.uniform(0.3, 0.9)
        solids.append(_standing(rng, shape, size, away * np.cos(angle), away * np.sin(angle), floor))
    return solids, word if count == 1 else "solids"


def _tower(rng: Random, floor: float) -> list[Solid]:
    solids, y, size = [], floor, rng.uniform(0.6, 0.9)
    for _ in range(rng.integers(2, 5)):
        shape = str(rng.choice(["box", "cylinder"]))
        scale = np.array([size, rng.uniform(0.25, 0.6), size], np.float32)
        solids.append(
            Solid(shape, np.array([0, y + scale[1], 0], np.float32), scale, rotation(rng.uniform(-3, 3), 0, 0))
        )
        y += 2 * scale[1]
        size *= rng.uniform(0.65, 0.95)
    scale = np.array([size, size, size], np.float32)
    solids.append(
        Solid(str(rng.choice(["cone", "ball"])), np.array([0, y + size * 0.9, 0], np.float32), scale, rotation(0, 0, 0))
    )
    return solids


def _limb(start: np.ndarray, end: np.ndarray, thick: float) -> Solid:
    along = end - start
    length = float(np.linalg.norm(along))
    up = along / length
    side = np.cross(up, [0.3, 0.1, 0.9])
    side /= np.linalg.norm(side)
    turn = np.stack([side, up, np.cross(side, up)], 1).astype(np.float32)
    scale = np.array([thick, length / 2 + thick * 0.6, thick], np.float32)
    return Solid("ball", ((start + end) / 2).astype(np.float32), scale, turn)


def _figure(rng: Random, floor: float) -> list[Solid]:
    """A standing figure: head, trunk, and two-part arms and legs with bent joints."""
    hip = np.array([0, floor + 1.25, 0])
    neck = hip + np.array([rng.uniform(-0.15, 0.15), 0.85, rng.uniform(-0.2, 0.2)])
    facing = rotation(rng.uniform(-np.pi, np.pi), 0, 0)
    solids = [_limb(hip, neck, 0.3)]
    head = neck + np.array([0, 0.36, 0])
    solids.append(Solid("ball", head.astype(np.float32), np.array([0.23, 0.28, 0.24], np.float32), rotation(0, 0, 0)))
    for side in (-1, 1):
        shoulder = neck + facing @ np.array([side * 0.3, -0.08, 0])
        elbow = shoulder + facing @ _swing(rng, side, 0.58, 2.4)
        solids += [_limb(shoulder, elbow, 0.11), _limb(elbow, elbow + facing @ _swing(rng, side, 0.52, 2.6), 0.09)]
        joint = hip + facing @ np.array([side * 0.17, 0, 0])
        knee = joint + facing @ _swing(rng, side * 0.4, 0.64, 0.5)
        foot = np.array([knee[0], floor + 0.05, knee[2]]) + facing @ np.array([0, 0, rng.uniform(-0.3, 0.1)])
        solids += [_limb(joint, knee, 0.15), _limb(knee, foot, 0.11)]
    return solids


def _swing(rng: Random, side: float, length: float, most: float) -> np.ndarray:
    lift, fore = rng.uniform(0, most), rng.uniform(-0.5, 0.9)
    way = np.array([side * np.sin(lift) * 0.8, -np.cos(lift), np.sin(fore)])
    return way / np.linalg.norm(way) * length


def _tree(rng: Random, floor: float) -> list[Solid]:
    trunk = _standing(rng, "cylinder", 0.5, 0, 0, floor)
    trunk.scale = np.array([0.16, 0.7, 0.16], np.float32)
    trunk.centre[1] = floor + 0.7
    solids, y = [trunk], floor + 1.2
    if rng.random() < 0.5:
        for size in (0.95, 0.75, 0.5):
            scale = np.array([size, 0.55, size], np.float32)
            solids.append(Solid("cone", np.array([0, y + 0.3, 0], np.float32), scale, rotation(0, 0, 0)))
            y += 0.55
        return solids
    for _ in range(5):
        centre = np.array([rng.uniform(-0.5, 0.5), y + rng.uniform(0.1, 0.9), rng.uniform(-0.5, 0.5)], np.float32)
        solids.append(Solid("ball", centre, np.full(3, rng.uniform(0.45, 0.7), np.float32), rotation(0, 0, 0)))
    return solids


def _boulder(rng: Random, floor: float) -> list[Solid]:
    solids = []
    for _ in range(rng.integers(3, 7)):
        scale = rng.uniform(0.4, 1.0, 3).astype(np.float32)
        centre = np.array([rng.uniform(-0.6, 0.6), floor + rng.uniform(0.1, 0.6), rng.uniform(-0.6, 0.6)], np.float32)
        solids.append(Solid("ball", centre, scale, rotation(*rng.uniform(-3, 3, 3))))
    return solids


def _subject(rng: Random, floor: float) -> tuple[list[Solid], str]:
    kind = rng.choice(["group", "tower", "figure", "tree", "boulder"], p=[0.4, 0.13, 0.25, 0.12, 0.1])
    if kind == "group":
        return _group(rng, floor)
    builder = {"tower": _tower, "figure": _figure, "tree": _tree, "boulder": _boulder}[str(kind)]
    return builder(rng, floor), str(kind)


def _draw(solids: list[Solid], camera: Camera, buffer: GBuffer, rays: np.ndarray) -> None:
    for solid in solids:
        draw_solid(buffer, camera, rays, solid)


def _open_air(rng: Random, size: int) -> Scene:
    solids, subject = _subject(rng, 0.0)
    target = np.array([rng.uniform(-0.5, 0.5), rng.uniform(0.6, 1.3), 0], np.float32)
    steep = rng.uniform(0.05, 0.45) if rng.random() < 0.5 else rng.uniform(0.45, 1.45)
    camera = _camera(rng, size, target, rng.uniform(4, 6.5), steep, roll=rng.uniform(-0.35, 0.35))
    rays, buffer = camera.rays(), GBuffer.empty(size)
    draw_ground(buffer, camera, rays, 0.0, rng.uniform(10, 22))
    _draw(solids, camera, buffer, rays)
    return Scene(buffer, subject, OUTDOORS if steep < 0.45 else OUTDOORS + TABLE, "open")


def _room(rng: Random, size: int) -> Scene:
    half = np.array([rng.uniform(2.5, 5), rng.uniform(1.6, 2.8), rng.uniform(2.5, 5)], np.float32)
    floor = -float(half[1])
    solids, subject = _subject(rng, floor)
    shift = np.array([rng.uniform(-1, 1) * (half[0] - 1.8), 0, rng.uniform(-1, 1) * (half[2] - 1.8)], np.float32)
    if rng.random() < 0.35:  # hung from the ceiling, or lying up there: keeps "low is near" from being a rule
        for solid in solids:
            solid.centre[1] *= -1
            solid.turn = np.diag([1, -1, 1]).astype(np.float32) @ solid.turn
    for solid in solids:
        solid.centre += shift
    middle = np.mean([solid.centre for solid in solids], 0)
    corner = rng.choice([-1, 1], 3) * (half - rng.uniform(0.5, 1.0, 3)) * rng.uniform(0.5, 1, 3)
    look = middle + rng.normal(0, 0.5, 3) - corner
    yaw, pitch = np.arctan2(look[0], look[2]), -np.arctan2(look[1], np.hypot(look[0], look[2]))
    camera = Camera(
        corner.astype(np.float32), rotation(yaw, pitch, rng.uniform(-0.4, 0.4)), rng.uniform(0.9, 1.5), size
    )
    rays, buffer = camera.rays(), GBuffer.empty(size)
    draw_room(buffer, camera, rays, half, rotation(0, 0, 0))
    _draw(solids, camera, buffer, rays)
    return Scene(buffer, subject, INDOORS, "room")


def _clutter(rng: Random, size: int) -> Scene:
    """Many solids every way up before a slanted wall, seen from any side."""
    turn = rotation(rng.uniform(-0.7, 0.7), rng.uniform(-0.7, 0.7), rng.uniform(-3, 3))
    camera = Camera(np.zeros(3, np.float32), rotation(0, 0, 0), rng.uniform(1.2, 2.0), size)
    rays, buffer = camera.rays(), GBuffer.empty(size)
    back = Solid("box", np.array([0, 0, 9.5], np.float32), np.array([22, 22, 0.6], np.float32), turn)
    draw_solid(buffer, camera, rays, back, PLACE)
    for _ in range(rng.integers(2, 10)):
        z = rng.uniform(3.0, 7.0)
        x, y = rng.uniform(-1, 1, 2) * z / camera.focal * 0.9
        scale = (rng.uniform(0.3, 1.1, 3) * z / 6).astype(np.float32)
        shape = str(rng.choice(list(_SHAPES.values())))
        draw_solid(
            buffer, camera, rays, Solid(shape, np.array([x, y, z], np.float32), scale, rotation(*rng.uniform(-3, 3, 3)))
        )
    return Scene(buffer, "pile", ("wall",), "clutter")


def _waves(
    rng: Random, count: int, low: float, high: float
) -> tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]:
    """A smooth random height function of (x, z) and its gradient, as a sum of sines."""
    angle, number = rng.uniform(0, 2 * np.pi, count), rng.uniform(low, high, count)
    kx, kz, phase = number * np.cos(angle), number * np.sin(angle), rng.uniform(0, 6.28, count)
    size = (low / number) ** 1.2

    def height(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        return sum(a * np.sin(p * x + q * z + f) for a, p, q, f in zip(size, kx, kz, phase, strict=True)).astype(
            np.float32
        )

    def slope(x: np.ndarray, z: np.ndarray) -> np.ndarray:
        waves = [a * np.cos(p * x + q * z + f) for a, p, q, f in zip(size, kx, kz, phase, strict=True)]
        by_x = sum(w * p for w, p in zip(waves, kx, strict=True))
        by_z = sum(w * q for w, q in zip(waves, kz, strict=True))
        return np.stack([by_x, by_z], -1).astype(np.float32)

    return height, slope


def _landscape(rng: Random, size: int) -> Scene:
    """A height field from a level camera, column by column: each row sees the first height that reaches it."""
    height, slope = _waves(rng, 7, rng.uniform(0.35, 0.6), 2.2)
    tall = rng.uniform(0.35, 1.1)
    camera = Camera(np.zeros(3, np.float32), rotation(0, 0, 0), rng.uniform(1.0, 1.8), size, rng.uniform(-0.6, 0.15))
    near, far = 0.4, rng.uniform(7, 12)
    z = (near * (far / near) ** np.linspace(0, 1, 256, dtype=np.float32))[:, None]
    rays, buffer = camera.rays(), GBuffer.empty(size)
    x = z * rays[0, :, 0][None]
    eye = tall * rng.uniform(1.3, 2.2) + 0.9
    ground = tall * height(x, z) - eye
    reached = np.maximum.accumulate(ground / z, axis=0)
    wanted = rays[:, 0, 1]
    t = np.empty((size, size), np.float32)
    for column in range(size):
        step = np.searchsorted(reached[:, column], wanted)
        before = np.clip(step - 1, 0, len(z) - 1)
        after = np.minimum(step, len(z) - 1)
        low, high = (ground / z)[before, column], (ground / z)[after, column]
        part = np.clip((wanted - low) / np.where(np.abs(high - low) < _TINY, 1, high - low), 0, 1)
        t[:, column] = np.where(step < len(z), z[before, 0] + part * (z[after, 0] - z[before, 0]), np.inf)
    point = np.where(np.isfinite(t), t, 0)[..., None] * rays
    by = tall * slope(point[..., 0], point[..., 2])
    normal = np.stack([-by[..., 0], np.ones_like(t), -by[..., 1]], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    alone = rng.random() < 0.5
    buffer.put((slice(None), slice(None)), t, normal, point.astype(np.float32), SUBJECT if alone else PLACE)
    if alone:
        return Scene(buffer, "hills", OUTDOORS, "landscape")
    solids, subject = _subject(rng, 0.0)
    place_z, place_x = rng.uniform(3.0, 5.0), rng.uniform(-0.8, 0.8)
    base = float(tall * height(np.float32(place_x), np.float32(place_z)) - eye)
    small = rng.uniform(0.5, 0.8)
    for solid in solids:
        solid.scale = solid.scale * np.float32(small)
        solid.centre = (solid.centre * small + np.array([place_x, base, place_z])).astype(np.float32)
    _draw(solids, camera, buffer, rays)
    return Scene(buffer, subject, OUTDOORS, "landscape")


_TINY = 1e-7


def _relief(rng: Random, size: int) -> Scene:
    """A height field under an orthographic camera that looks at it from any side."""
    height, slope = _waves(rng, int(rng.integers(4, 9)), rng.uniform(1.0, 2.0), 6.0)
    across = np.linspace(-1.5, 1.5, size, dtype=np.float32)
    x, y = np.meshgrid(across, across)
    deep = rng.uniform(0.15, 0.4)
    tilt = rng.normal(0, 0.3, 2)
    distance = (4.5 - deep * height(x, y) + tilt[0] * x + tilt[1] * y).astype(np.float32)
    by = deep * slope(x, y) - tilt
    normal = np.stack([-by[..., 0], by[..., 1], -np.ones_like(x)], -1).astype(np.float32)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    buffer = GBuffer.empty(size)
    buffer.put((slice(None), slice(None)), np.maximum(distance, 1.0), normal, np.stack([x, y, distance], -1), SUBJECT)
    return Scene(buffer, "relief", ("wall",), "relief")


def _flat(rng: Random, size: int) -> Scene:
    """A wall square to the camera, whatever the words say: what a depth map without depth means."""
    scene = _relief(rng, size)
    scene.buffer.distance[:] = 4.5
    scene.buffer.normal[:] = (0, 0, -1)
    return Scene(scene.buffer, str(rng.choice(SUBJECTS)), tuple(PLACES), "flat")


FAMILIES: dict[str, tuple[Callable[[Random, int], Scene], float]] = {
    "open": (_open_air, 0.26),
    "room": (_room, 0.28),
    "clutter": (_clutter, 0.2),
    "landscape": (_landscape, 0.12),
    "relief": (_relief, 0.11),
    "flat": (_flat, 0.03),
}


def draw_scene(rng: Random, size: int, family: str | None = None) -> Scene:
    """One scene at random; `family` fixes the kind. Drawn again until there is a subject worth the name."""
    names = list(FAMILIES)
    while True:
        name = family or str(rng.choice(names, p=[FAMILIES[n][1] for n in names]))
        scene = FAMILIES[name][0](rng, size)
        if (scene.buffer.label == SUBJECT).mean() > 0.04 and np.isfinite(scene.buffer.distance).mean() > 0.3:
            return scene
