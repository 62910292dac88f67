"""Short films with exact depth, camera and motion: what steadiness is measured on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from .render import render
from .scenes import Scene, nearness
from .solids import PLACE, SUBJECT, Camera, GBuffer, Solid, draw_room, draw_solid, rotation
from .words import Look

__all__ = ["CLIPS", "Frame", "true_motion"]

LENGTH = 24
_HALF = np.array([4.0, 2.2, 4.0], np.float32)
_LOOK = {
    "subject": "box",
    "colour": "orange",
    "material": "checkered",
    "place": "hall",
    "place_colour": "grey",
    "light": "sunny",
}


@dataclass
class Frame:
    """One picture (h, w, 3) uint8 and what is true of it.

    ``nearness``: (h, w) in [0, 1]. ``owner``: (h, w), which solid a pixel shows, -1 for the room. ``first``: a scene
    begins with it.
    """

    picture: np.ndarray
    nearness: np.ndarray
    owner: np.ndarray
    buffer: GBuffer
    solids: list[Solid]
    camera: Camera
    first: bool = False


def true_motion(before: Frame, after: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of ``before`` is in ``after``: (h, w, 2) columns and rows; and (h, w) bool where it is seen."""
    world = before.buffer.texture.copy()
    for index, solid in enumerate(after.solids):
        mine = before.owner == index
        world[mine] = before.buffer.texture[mine] @ solid.turn.T + solid.centre
    there, distance = after.camera.project(world.reshape(-1, 3))
    there, distance = there.reshape(*before.owner.shape, 2) - 0.5, distance.reshape(before.owner.shape)
    x, y = np.moveaxis(there.astype(np.float32), 2, 0)
    seen = cv2.remap(after.buffer.distance, x, y, cv2.INTER_NEAREST, borderValue=0.0)
    same = cv2.remap(after.owner.astype(np.float32), x, y, cv2.INTER_NEAREST, borderValue=-9.0) == before.owner
    return there, same & (np.abs(seen - distance) < 0.05 * distance)


def _frame(solids: list[Solid], camera: Camera, seed: int, changes: dict[str, str] | None = None) -> Frame:
    buffer, rays = GBuffer.empty(camera.size), camera.rays()
    draw_room(buffer, camera, rays, _HALF, rotation(0, 0, 0))
    owner = np.full(buffer.distance.shape, -1)
    for index, solid in enumerate(solids):
        known = buffer.distance.copy()
        draw_solid(buffer, camera, rays, solid, SUBJECT if index == 0 else PLACE)
        owner[buffer.distance < known] = index
    look = Look(**(_LOOK | (changes or {})), seed=seed)
    picture = render(Scene(buffer, "box", ("hall",), "room"), look)
    return Frame(picture, nearness(buffer.distance), owner, buffer, copy.deepcopy(solids), camera)


def _still(seed: int) -> list[Solid]:
    """A few solids on the floor; the first is the subject."""
    rng = np.random.default_rng(seed)
    solids = []
    for shape, x, z in (("box", 0.0, 0.8), ("ball", -1.6, 1.8), ("cylinder", 1.7, 2.2), ("cone", 0.9, -0.2)):
        size = rng.uniform(0.5, 0.8)
        centre = np.array([x, size - _HALF[1], z], np.float32)
        solids.append(Solid(shape, centre, np.full(3, size, np.float32), rotation(rng.uniform(-1, 1), 0, 0)))
    return solids


def _camera(size: int, x: float = 0.0, yaw: float = 0.0) -> Camera:
    return Camera(np.array([x, 0.2, -3.6], np.float32), rotation(yaw, 0.12, 0), 1.3, size)


def _moving_object(size: int, seed: int) -> list[Frame]:
    frames = []
    for time in np.linspace(0, 1, LENGTH):
        solids = _still(seed)
        solids[1].centre += np.array([3.2 * time, 0, -1.2 * time], np.float32)
        frames.append(_frame(solids, _camera(size), seed))
    return frames


def _moving_camera(size: int, seed: int) -> list[Frame]:
    times = np.linspace(-1, 1, LENGTH)
    return [_frame(_still(seed), _camera(size, 0.7 * time, -0.12 * time), seed) for time in times]


def _cut(size: int, seed: int) -> list[Frame]:
    first, second = _moving_object(size, seed), []
    for time in np.linspace(0, 1, LENGTH // 2):
        solids = _still(seed + 1)[:3]
        solids[0].centre += np.array([1.6 - time, 0, 1.0], np.float32)
        changes = {"place": "cellar", "light": "dusk", "colour": "blue", "material": "glossy"}
        second.append(_frame(solids, _camera(size, -1.2, 0.5), seed + 1, changes))
    second[0].first = True
    return first[: LENGTH // 2] + second


def _entering(size: int, seed: int) -> list[Frame]:
    frames = []
    for time in np.linspace(0, 1, LENGTH):
        solids = _still(seed)
        near = Solid(
            "ball", np.array([-2.6 + 3.4 * time, -0.2, -1.9], np.float32), np.full(3, 0.45, np.float32), np.eye(3)
        )
        frames.append(_frame([*solids, near], _camera(size), seed))
    return frames


def _particles(size: int, seed: int) -> list[Frame]:
    rng, frames = np.random.default_rng(seed), []
    for _ in range(LENGTH):
        flakes = []
        for _ in range(6):
            centre = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.6), rng.uniform(-3.0, -2.4)], np.float32)
            flakes.append(Solid("ball", centre, np.full(3, 0.03, np.float32), np.eye(3, dtype=np.float32)))
        frames.append(_frame([*_still(seed), *flakes], _camera(size), seed))
    return frames


def _light(size: int, seed: int) -> list[Frame]:
    frames = [_frame(_still(seed), _camera(size), seed) for _ in range(LENGTH)]
    for time, frame in zip(np.linspace(0, 2 * np.pi, LENGTH), frames, strict=True):
        gain = np.array([1.0, 0.9, 0.8]) + np.array([0.35, 0.3, 0.2]) * np.sin(time)
        frame.picture = (frame.picture * gain).clip(0, 255).astype(np.uint8)
    return frames


def _grained(made: Callable[[int, int], list[Frame]]) -> Callable[[int, int], list[Frame]]:
    """With a camera's grain: without it a network sees the very same pixels again, which no film has."""

    def frames(size: int, seed: int) -> list[Frame]:
        rng, found = np.random.default_rng(seed), made(size, seed)
        found[0].first = True
        for frame in found:
            noisy = frame.picture + rng.normal(0, 4, frame.picture.shape)
            frame.picture = noisy.clip(0, 255).astype(np.uint8)
        return found

    return frames


CLIPS = {
    "moving object": _grained(_moving_object),
    "moving camera": _grained(_moving_camera),
    "cut": _grained(_cut),
    "entering object": _grained(_entering),
    "particles": _grained(_particles),
    "changing light": _grained(_light),
}
"""Each from the pixels of a side and a seed to its frames."""
