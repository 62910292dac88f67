from __future__ import annotations

import numpy as np
import pytest

from lib_depth2img import DepthMap
from lib_depth2img.estimators.cache import DepthCache

ONE = DepthMap(np.zeros((10, 10), np.float32), unit=False)
BYTES = ONE.values.nbytes


def filled(keys: str, *, maps: int) -> DepthCache:
    """A cache with room for that many maps, into which one was put under each key."""
    cache = DepthCache(max_bytes=maps * BYTES)
    for key in keys:
        cache.put(key, ONE)
    return cache


def kept(cache: DepthCache) -> str:
    """The keys in it; asking makes each the latest used."""
    return "".join(key for key in "abcdefg" if cache.get(key) is not None)


def test_it_is_full_at_exactly_its_bound():
    assert kept(filled("abc", maps=3)) == "abc"
    assert kept(filled("abcd", maps=3)) == "bcd"
    assert kept(filled("a", maps=1)) == "a"


def test_it_forgets_what_was_used_longest_ago():
    cache = filled("abc", maps=3)
    assert cache.get("a") is ONE
    cache.put("d", ONE)
    assert kept(cache) == "acd"


def test_a_map_larger_than_the_bound_is_not_kept_and_drives_nothing_out():
    cache = filled("abc", maps=3)
    cache.put("d", DepthMap(np.zeros((31, 10), np.float32), unit=False))
    assert kept(cache) == "abc"
    cache.put("d", DepthMap(np.zeros((30, 10), np.float32), unit=False))
    assert kept(cache) == "d"


def test_the_same_key_again_takes_the_place_of_the_first():
    cache = filled("abcb", maps=3)
    assert kept(cache) == "abc"
    larger = DepthMap(np.zeros((20, 10), np.float32), unit=False)
    cache.put("c", larger)
    assert kept(cache) == "bc"
    assert cache.get("c") is larger


@pytest.mark.parametrize(("maps", "expected"), [(3, "abc"), (1, "c"), (0, "")])
def test_a_smaller_bound_forgets_at_once(maps, expected):
    cache = filled("abc", maps=3)
    cache.max_bytes = maps * BYTES
    assert cache.max_bytes == maps * BYTES
    assert len(cache) == len(expected)
    assert kept(cache) == expected


def test_after_clear_there_is_room_for_as_much_as_before():
    cache = filled("abc", maps=3)
    cache.clear()
    assert len(cache) == 0
    for key in "def":
        cache.put(key, ONE)
    assert kept(cache) == "def"


def test_without_a_bound_named_it_keeps_a_few_hundred_ordinary_maps():
    ordinary = DepthMap(np.zeros((384, 384), np.float32), unit=False)
    cache = DepthCache()
    for number in range(500):
        cache.put(number, ordinary)
    assert 400 <= len(cache) < 500
