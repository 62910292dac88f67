"""The renderer: its depth is exact, its looks are what the captions say, its scenes differ."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from training.data import Dataset, draw_sample, generate
from training.measure import _summary, edge_agreement, named_colour_is_nearest, unseen_scenes
from training.render import render
from training.scenes import FAMILIES, draw_scene, nearness
from training.solids import SUBJECT, Camera, GBuffer, Solid, draw_ground, draw_room, draw_solid, rotation
from training.words import COLOURS, LIGHTS, MATERIALS, PLACES, SUBJECTS, caption, draw_look


def _level_camera(size: int = 65) -> Camera:
    return Camera(np.zeros(3, np.float32), rotation(0, 0, 0), 1.5, size)


def _drawn(solid: Solid) -> GBuffer:
    camera = _level_camera()
    buffer = GBuffer.empty(camera.size)
    draw_solid(buffer, camera, camera.rays(), solid)
    return buffer


@pytest.mark.parametrize(("shape", "front"), [("ball", 4.0), ("box", 4.0), ("cylinder", 4.0), ("cone", 4.5)])
def test_the_middle_of_each_solid_is_as_far_as_its_front(shape: str, front: float) -> None:
    solid = Solid(shape, np.array([0, 0, 5], np.float32), np.ones(3, np.float32), rotation(0, 0, 0))
    assert _drawn(solid).distance[32, 32] == pytest.approx(front, abs=1e-4)


def test_a_solid_is_where_its_points_are_and_nowhere_else() -> None:
    turn = rotation(0.4, -0.7, 1.1)
    solid = Solid("box", np.array([0.3, -0.2, 6], np.float32), np.array([1.0, 0.5, 0.8], np.float32), turn)
    buffer, rays = _drawn(solid), _level_camera().rays()
    hit = np.isfinite(buffer.distance)
    local = (rays[hit] * buffer.distance[hit][:, None] - solid.centre) @ turn / solid.scale
    assert hit.sum() > 50
    assert np.abs(np.abs(local).max(1) - 1).max() < 1e-3  # every hit lies on the surface of the box
    facing = (buffer.normal[hit] * rays[hit]).sum(1)
    assert (facing < 1e-3).all()


def test_the_cones_surface_is_that_of_a_cone() -> None:
    turn = rotation(0.2, 0.9, 0.3)
    solid = Solid("cone", np.array([0, 0, 5], np.float32), np.ones(3, np.float32), turn)
    buffer, rays = _drawn(solid), _level_camera().rays()
    hit = np.isfinite(buffer.distance)
    local = (rays[hit] * buffer.distance[hit][:, None] - solid.centre) @ turn
    radius = np.hypot(local[:, 0], local[:, 2])
    on_side = np.abs(radius - (1 - local[:, 1]) / 2) < 1e-3
    on_base = (np.abs(local[:, 1] + 1) < 1e-3) & (radius <= 1.001)
    assert hit.sum() > 50
    assert (on_side | on_base).all()


def test_ground_and_room_lie_on_their_planes() -> None:
    camera = Camera(np.array([0, 1.5, 0], np.float32), rotation(0.3, 0.5, 0.1), 1.5, 33)
    rays = camera.rays()
    ground, room = GBuffer.empty(33), GBuffer.empty(33)
    draw_ground(ground, camera, rays, 0.0, 50.0)
    half = np.array([3, 2, 4], np.float32)
    draw_room(room, camera, rays, half, rotation(0, 0, 0))
    hit = np.isfinite(ground.distance)
    assert hit.any()
    assert np.abs((camera.origin + ground.distance[hit][:, None] * rays[hit])[:, 1]).max() < 1e-3
    points = camera.origin + room.distance[..., None] * rays
    assert np.abs((np.abs(points) / half).max(-1) - 1).max() < 1e-3


def test_nearness_is_near_high_and_flat_is_nothing() -> None:
    distance = np.array([[1.0, 2.0], [4.0, np.inf]], np.float32)
    assert nearness(distance).tolist() == [[1.0, 0.5], [0.25, 0.0]]
    assert not nearness(np.full((3, 3), 4.5, np.float32)).any()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_every_family_has_a_subject_and_the_same_seed_the_same_picture(family: str) -> None:
    first, second = (draw_sample(3, 14, 64, 1, family) for _ in range(2))
    pictures = [render(scene, looks[0]) for scene, looks in (first, second)]
    assert (first[0].buffer.label == SUBJECT).mean() > 0.04
    assert np.array_equal(*pictures)
    other = draw_sample(3, 15, 64, 1, family)
    assert not np.array_equal(pictures[0], render(other[0], other[1][0]))


def test_the_look_changes_the_colours_and_the_depth_stays() -> None:
    scene = draw_scene(np.random.default_rng(5), 64, "room")
    before = scene.buffer.distance.copy()
    rng = np.random.default_rng(6)
    pictures = [render(scene, draw_look(rng, scene.subject, scene.places)) for _ in range(2)]
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 10
    assert np.array_equal(before, scene.buffer.distance)


def test_captions_speak_of_more_than_forty_words_and_each_is_used() -> None:
    words = {*COLOURS, *MATERIALS, *LIGHTS, *PLACES, *SUBJECTS}
    assert len(words) >= 40
    rng = np.random.default_rng(0)
    said: set[str] = set()
    for _ in range(4000):
        places = tuple(rng.choice(list(PLACES), 3))
        said |= set(caption(draw_look(rng, str(rng.choice(SUBJECTS)), places), rng).replace(",", " ").split())
    assert words <= said


def test_rendered_subjects_have_the_colour_they_are_named() -> None:
    scenes = unseen_scenes(60, seed=31, size=64)
    right = [named_colour_is_nearest(unseen.picture, unseen.subject, unseen.look.colour) for unseen in scenes]
    assert np.mean(right) >= 0.9


def test_scenes_have_little_depth_in_common() -> None:
    maps = [unseen.nearness[::4, ::4].ravel() for unseen in unseen_scenes(60, seed=32, size=64)]
    ranks = np.array([values.argsort().argsort() for values in maps])
    shared = np.corrcoef(ranks)[np.triu_indices(len(ranks), 1)]
    assert np.median(shared) < 0.3


def test_a_stopped_run_of_the_data_stage_ends_in_the_same_data(tmp_path) -> None:
    generate(tmp_path / "whole", scenes=4, looks=2, size=32, seed=5, processes=1)
    generate(tmp_path / "stopped", scenes=4, looks=2, size=32, seed=5, processes=1)
    record = tmp_path / "stopped" / "looks.jsonl"
    record.write_text("".join(record.read_text().splitlines(keepends=True)[:2]))
    broken = np.load(tmp_path / "stopped" / "pictures.npy", mmap_mode="r+")
    broken[2:] = 0
    generate(tmp_path / "stopped", scenes=4, looks=2, size=32, seed=5, processes=1)
    whole, resumed = Dataset(tmp_path / "whole"), Dataset(tmp_path / "stopped")
    assert np.array_equal(whole.pictures, resumed.pictures)
    assert whole.looks == resumed.looks


def test_edges_of_the_rendered_picture_lie_on_edges_of_its_depth() -> None:
    found = [edge_agreement(unseen.picture, unseen.nearness) for unseen in unseen_scenes(12, seed=33, size=128)]
    assert np.median(found) > 0.75
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    assert abs(edge_agreement(noise, unseen_scenes(1, seed=33, size=128)[0].nearness) - 0.5) < 0.1


def test_a_summary_counts_what_is_true() -> None:
    assert _summary([True, True, False, True])["mean"] == 0.75
