"""Noise that moves along with a film: white whatever moves, and where the film's things are."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from skimage import data

from lib_depth2img.sequences.flow import Motion
from lib_depth2img.sequences.noise import SPLIT, CarriedNoise, FineNoise

HEIGHT, WIDTH = 24, 32


def fresh(seed: int, shape: tuple[int, ...] = (4, HEIGHT, WIDTH)) -> np.ndarray:
    return np.random.default_rng([7, seed]).standard_normal(shape).astype(np.float32)


def going(x: object, y: object = 0.0, trust: object = 1.0) -> Motion:
    """Of each fine pixel the way it goes, in fine pixels."""
    size = (HEIGHT * SPLIT, WIDTH * SPLIT)
    there = np.stack([np.broadcast_to(np.asarray(each, np.float32), size) for each in (x, y)], axis=2)
    return Motion(there, np.broadcast_to(np.asarray(trust, np.float32), size))


def moved(whole: np.ndarray, motions: list[Motion], seed: int = 0) -> np.ndarray:
    fine = FineNoise(whole, np.random.default_rng(seed))
    for each in motions:
        fine.move(each)
    return fine.whole


def grids() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[: HEIGHT * SPLIT, : WIDTH * SPLIT].astype(np.float32)
    return x - WIDTH * SPLIT / 2, y - HEIGHT * SPLIT / 2


def wild() -> dict[str, list[Motion]]:
    """Flows that tear, gather, turn and tremble, some frames of each."""
    x, y = grids()
    rng = np.random.default_rng(5)
    return {
        "still": [going(0.0)] * 4,
        "slow": [going(0.3, -0.2)] * 9,
        "nearer": [going(0.06 * x, 0.06 * y)] * 6,
        "farther": [going(-0.06 * x, -0.06 * y)] * 6,
        "turning": [going(-0.1 * y, 0.1 * x)] * 6,
        "all to one place": [going(-x, -y)],
        "trembling": [going(*rng.normal(0, 1.5, (2, HEIGHT * SPLIT, WIDTH * SPLIT))) for _ in range(4)],
        "untrusted": [going(5.0, 0.0, rng.uniform(0, 1, (HEIGHT * SPLIT, WIDTH * SPLIT))) for _ in range(4)],
    }


@pytest.mark.parametrize("name", wild())
def test_the_noise_of_every_frame_is_white(name):
    """Over many seeds: normal with variance 1, and no two neighbours, near or one further, alike."""
    made = np.stack([moved(fresh(seed), wild()[name], seed) for seed in range(40)])
    count = made.size
    assert stats.kstest(made.ravel(), "norm").pvalue > 1e-4
    assert abs(made.var() - 1.0) < 4 * (2 / count) ** 0.5
    assert np.abs(made.mean(axis=0)).max() < 5.5 / 40**0.5, "the same in each seed somewhere"
    for axis in (2, 3):
        for away in (1, 2):
            pairs = np.moveaxis(made, axis, 0)
            assert abs(float((pairs[away:] * pairs[:-away]).mean())) < 4.5 / count**0.5
    assert abs(float((made[:, :2] * made[:, 2:]).mean())) < 4.5 / (count / 2) ** 0.5, "channels"


def test_bilinear_warping_would_not_be():
    """What the bounds of the test above are worth."""
    made = np.stack([(fresh(seed)[:, :, 1:] + fresh(seed)[:, :, :-1]) / 2 for seed in range(40)])
    assert made.var() < 0.6
    assert stats.kstest(made.ravel(), "norm").pvalue < 1e-4


def test_what_stands_still_keeps_the_very_same_noise():
    assert np.array_equal(moved(fresh(1), []), fresh(1))
    assert np.array_equal(moved(fresh(1), [going(0.0)] * 5), fresh(1))


@pytest.mark.parametrize("steps", [1, 2, SPLIT, 4 * SPLIT], ids="in {} steps".format)
def test_a_shift_by_whole_cells_moves_the_noise_exactly(steps):
    """However slowly: fractions of a fine pixel add up. Beside what has come in new ones may lie across the border."""
    cells = 2
    found = moved(fresh(2), [going(cells * SPLIT / steps, -SPLIT / steps)] * steps)
    assert np.array_equal(found[:, :-2, cells + 1 :], fresh(2)[:, 1:-1, 1:-cells])
    for new in (found[:, -1:], found[:, :-1, :cells]):
        assert not np.isin(new, fresh(2)).any()


def test_half_a_cell_is_half_of_either():
    found = moved(fresh(3), [going(SPLIT / 2)])[:, :, 1:]
    for part in (fresh(3)[:, :, 1:], fresh(3)[:, :, :-1]):
        assert abs(np.corrcoef(found.ravel(), part.ravel())[0, 1] - 0.5) < 0.06


def test_what_comes_into_sight_is_new_and_what_is_covered_is_gone():
    """A square of 8 x 8 cells goes 4 to the right over a ground at rest."""
    place = np.zeros((HEIGHT * SPLIT, WIDTH * SPLIT), bool)
    place[8 * SPLIT : 16 * SPLIT, 8 * SPLIT : 16 * SPLIT] = True
    covered = np.roll(place, 4 * SPLIT, axis=1) & ~place
    found = moved(fresh(4), [going(np.where(place, 4.0 * SPLIT, 0.0), 0.0, np.where(covered, 0.0, 1.0))])
    expected = fresh(4)
    expected[:, 8:16, 12:20] = fresh(4)[:, 8:16, 8:16]
    left = np.zeros((HEIGHT, WIDTH), bool)
    left[8:16, 8:12] = True
    assert np.array_equal(found[:, ~left], expected[:, ~left])
    assert not np.isin(found[:, left], fresh(4)).any()


def test_what_cannot_be_followed_stays():
    assert np.array_equal(moved(fresh(5), [going(9.0, 9.0, 0.2)] * 3), fresh(5))


def shown(left: int) -> np.ndarray:
    """A part of a photograph, of the size that the noise is for."""
    picture: np.ndarray = data.astronaut()[100 : 100 + 8 * HEIGHT, left : left + 8 * WIDTH]
    return picture


def test_a_photograph_that_moves_takes_its_noise_along():
    carried = CarriedNoise(fresh(6), shown(40), 0)
    for step in range(1, 9):
        carried.follow(shown(40 + 4 * step))  # half a cell to the left, each time
    found, expected = carried.whole[:, 2:-2, 2:-7], fresh(6)[:, 2:-2, 6:-3]
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.7
    assert np.abs(np.corrcoef(found.ravel(), fresh(6)[:, 2:-2, 2:-7].ravel())[0, 1]) < 0.1


def test_a_photograph_that_is_repeated_keeps_it():
    carried = CarriedNoise(fresh(6), shown(40), 0)
    for _ in range(3):
        carried.follow(shown(40))
        assert np.array_equal(carried.whole, fresh(6))


def test_it_is_the_seeds_and_the_pictures_alone():
    def run(seed: int) -> np.ndarray:
        carried = CarriedNoise(fresh(6), shown(40), seed)
        for step in range(3):
            carried.follow(shown(30 + 9 * step))
        return carried.whole

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_memory_does_not_grow_with_the_length():
    carried, held = CarriedNoise(fresh(6), shown(40), 0), []
    tracemalloc.start()
    for step in range(60):
        carried.follow(shown(40 + 3 * (step % 7)))
        if step % 20 == 19:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held) < 1.05 * held[0]
