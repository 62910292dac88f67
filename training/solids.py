"""Rays against solids: each solid is a unit shape under an affine pose, so one transform of the rays serves all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Camera", "GBuffer", "Solid", "draw_ground", "draw_room", "draw_solid", "rotation"]

SKY, PLACE, SUBJECT = 0, 1, 2
_EPS = np.float32(1e-6)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rotation: roll about z, then pitch about x, then yaw about y (radians); columns are the turned axes."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (about_y @ about_x @ about_z).astype(np.float32)


@dataclass
class Camera:
    """A pinhole camera; y is up in the world. `shift` moves the horizon, in half picture heights, without tilting."""

    origin: np.ndarray
    turn: np.ndarray
    focal: float
    size: int
    shift: float = 0.0

    def rays(self) -> np.ndarray:
        """(size, size, 3) directions with a forward part of 1, so that a ray's parameter is distance along the axis."""
        across = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size * 2 - 1
        x, y = np.meshgrid(across / self.focal, -(across - self.shift) / self.focal)
        return (np.stack([x, y, np.ones_like(x)], -1) @ self.turn.T).astype(np.float32)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates (n, 2) as (column, row) and distances (n,) of world points (n, 3)."""
        local = (points - self.origin) @ self.turn
        z = local[:, 2]
        safe = np.maximum(z, 1e-3)
        column = (local[:, 0] / safe * self.focal + 1) / 2 * self.size
        row = (-local[:, 1] / safe * self.focal + self.shift + 1) / 2 * self.size
        return np.stack([column, row], -1), z


@dataclass
class GBuffer:
    """What a scene is before any look: distance (inf = sky), normals, texture coordinates, labels: (h, w[, 3])."""

    distance: np.ndarray
    normal: np.ndarray
    texture: np.ndarray
    label: np.ndarray

    @classmethod
    def empty(cls, size: int) -> GBuffer:
        return cls(
            np.full((size, size), np.inf, np.float32),
            np.zeros((size, size, 3), np.float32),
            np.zeros((size, size, 3), np.float32),
            np.full((size, size), SKY, np.uint8),
        )

    def put(
        self, where: tuple[slice, slice], t: np.ndarray, normal: np.ndarray, texture: np.ndarray, label: int
    ) -> None:
        """Keep the new surface wherever it is nearer than what is there; `t` is inf where the ray missed."""
        old = self.distance[where]
        nearer = (t > 0.05) & (t < old)
        old[nearer] = t[nearer]
        self.normal[where][nearer] = normal[nearer]
        self.texture[where][nearer] = texture[nearer]
        self.label[where][nearer] = label


@dataclass
class Solid:
    """A unit shape ("ball", "box", "cylinder", "cone") scaled per axis, turned, and moved to its centre."""

    shape: str
    centre: np.ndarray
    scale: np.ndarray
    turn: np.ndarray


_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


def _window(camera: Camera, solid: Solid) -> tuple[slice, slice] | None:
    corners = (_CORNERS * solid.scale) @ solid.turn.T + solid.centre
    pixels, z = camera.project(corners)
    if (z < 0.05).all():
        return None
    if (z < 0.05).any():
        return slice(0, camera.size), slice(0, camera.size)
    low = np.clip(np.floor(pixels.min(0)), 0, camera.size).astype(int)
    high = np.clip(np.ceil(pixels.max(0)) + 1, 0, camera.size).astype(int)
    if (high <= low).any():
        return None
    return slice(low[1], high[1]), slice(low[0], high[0])


def _quadratic(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a = np.where(np.abs(a) < _EPS, _EPS, a)
    root = half_b * half_b - a * c
    s = np.sqrt(np.maximum(root, 0))
    t0, t1 = (-half_b - s) / a, (-half_b + s) / a
    miss = root < 0
    low, high = np.minimum(t0, t1), np.maximum(t0, t1)
    low[miss] = np.inf
    high[miss] = np.inf
    return low, high


def _ball(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, _ = _quadratic((d * d).sum(-1), (o * d).sum(-1), np.float32(o @ o - 1))
    return t, o + np.where(np.isfinite(t), t, 0)[..., None] * d


def _box(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d = np.where(np.abs(d) < _EPS, _EPS, d)
    near = (-np.sign(d) - o) / d
    far = (np.sign(d) - o) / d
    axis = near.argmax(-1)
    t = near.max(-1)
    t = np.where(t < far.min(-1), t, np.inf)
    normal = np.zeros_like(d)
    np.put_along_axis(normal, axis[..., None], -np.sign(np.take_along_axis(d, axis[..., None], -1)), -1)
    return t, normal


def _caps(o: np.ndarray, d: np.ndarray, heights: tuple[float, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    dy = np.where(np.abs(d[..., 1]) < _EPS, _EPS, d[..., 1])
    for height in heights:
        t = (height - o[1]) / dy
        x, z = o[0] + t * d[..., 0], o[2] + t * d[..., 2]
        normal = np.zeros_like(d)
        normal[..., 1] = height
        found.append((np.where((x * x + z * z <= 1) & (t > 0), t, np.inf), normal))
    return found


def _round(o: np.ndarray, d: np.ndarray, *, cone: bool) -> tuple[np.ndarray, np.ndarray]:
    """Unit cylinder, or the cone with its tip at y = 1 and radius 1 at y = -1."""
    dx, dy, dz = d[..., 0], d[..., 1], d[..., 2]
    if cone:
        k, w, v = np.float32(0.5), np.float32(1 - o[1]), -dy  # radius = (1 - y) / 2 = k (w + v t)
        sides = _quadratic(
            dx * dx + dz * dz - k * k * v * v,
            o[0] * dx + o[2] * dz - k * k * w * v,
            o[0] ** 2 + o[2] ** 2 - k * k * w * w,
        )
    else:
        sides = _quadratic(dx * dx + dz * dz, o[0] * dx + o[2] * dz, np.float32(o[0] ** 2 + o[2] ** 2 - 1))
    best = np.full(dx.shape, np.inf, np.float32)
    normal = np.zeros_like(d)
    for crossing in sides:
        y = o[1] + np.where(np.isfinite(crossing), crossing, 0) * dy
        t = np.where((np.abs(y) <= 1) & (crossing > 0), crossing, np.inf)
        better = t < best
        point = o + np.where(np.isfinite(t), t, 0)[..., None] * d
        side = point * np.array([1, 0, 1], np.float32)
        if cone:
            side[..., 1] = (1 - point[..., 1]) / 4
        best = np.where(better, t, best)
        normal[better] = side[better]
    for t, cap in _caps(o, d, (-1.0,) if cone else (-1.0, 1.0)):
        better = t < best
        best = np.where(better, t, best)
        normal[better] = cap[better]
    return best, normal


def draw_solid(buffer: GBuffer, camera: Camera, rays: np.ndarray, solid: Solid, label: int = SUBJECT) -> None:
    """Draw one solid into the buffer, within the window of the picture it can cover."""
    where = _window(camera, solid)
    if where is None:
        return
    o = ((camera.origin - solid.centre) @ solid.turn / solid.scale).astype(np.float32)
    d = (rays[where] @ solid.turn / solid.scale).astype(np.float32)
    if solid.shape == "ball":
        t, normal = _ball(o, d)
    elif solid.shape == "box":
        t, normal = _box(o, d)
    else:
        t, normal = _round(o, d, cone=solid.shape == "cone")
    hit = np.where(np.isfinite(t), t, 0)[..., None]
    texture = (o + hit * d) * solid.scale
    normal = (normal / solid.scale) @ solid.turn.T
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), _EPS)
    buffer.put(where, t.astype(np.float32), normal, texture, label)


_ALL = (slice(None), slice(None))


def draw_ground(buffer: GBuffer, camera: Camera, rays: np.ndarray, height: float, reach: float) -> None:
    """Draw the plane y = height as far as `reach`; beyond it the sky begins."""
    dy = np.where(np.abs(rays[..., 1]) < _EPS, _EPS, rays[..., 1])
    t = (height - camera.origin[1]) / dy
    t = np.where((t > 0) & (t < reach), t, np.inf).astype(np.float32)
    point = camera.origin + np.where(np.isfinite(t), t, 0)[..., None] * rays
    normal = np.zeros_like(rays)
    normal[..., 1] = 1
    buffer.put(_ALL, t, normal, point.astype(np.float32), PLACE)


def draw_room(buffer: GBuffer, camera: Camera, rays: np.ndarray, half: np.ndarray, turn: np.ndarray) -> None:
    """Draw the inside of a box of half sizes `half` about the world's origin; the camera must be inside."""
    o = (camera.origin @ turn).astype(np.float32)
    d = (rays @ turn).astype(np.float32)
    d = np.where(np.abs(d) < _EPS, _EPS, d)
    exits = (np.sign(d) * half - o) / d
    axis = exits.argmin(-1)
    t = exits.min(-1)
    normal = np.zeros_like(d)
    np.put_along_axis(normal, axis[..., None], -np.sign(np.take_along_axis(d, axis[..., None], -1)), -1)
    buffer.put(_ALL, t.astype(np.float32), normal @ turn.T, o + t[..., None] * d, PLACE)
