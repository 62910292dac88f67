from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib_depth2img import replacing as module
from lib_depth2img.replacing import replacing, when_let_go


def test_the_new_file_takes_the_place_of_the_old_one(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with replacing(target) as part:
        assert part.parent == tmp_path
        part.write_bytes(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_all_as_it_was(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write_half() -> None:
        with replacing(target) as part:
            part.write_bytes(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["x" * 255, "模" * 85, "😀" * 63, "x" * 20 + "模" * 78, os.fsdecode(b"\xff" * 255)])
def test_the_longest_name_has_room_for_a_temporary_one(tmp_path, name):
    """Longer in no way in which file systems count: 255 bytes on most, 143 under eCryptfs, UTF-16 on Windows."""
    target = tmp_path / name
    with replacing(target) as part:
        part.write_bytes(b"new")
        assert len(os.fsencode(part.name)) <= len(os.fsencode(name))
        assert len(part.name.encode("utf-16", "surrogatepass")) <= len(name.encode("utf-16", "surrogatepass"))
    assert target.read_bytes() == b"new"


def test_the_temporary_name_says_whose_it_is(tmp_path):
    with replacing(tmp_path / "model.safetensors") as part:
        part.write_bytes(b"new")
        assert "model.safetensors" in part.name


@pytest.mark.parametrize("name", ["x" * 256, "模" * 86])
def test_a_name_that_the_system_does_not_take_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(OSError, match="File name too long"), replacing(tmp_path / name):
        pytest.fail("the work was begun")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "a.bin"
    with replacing(target) as first, replacing(target) as second:
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert target.read_bytes() == b"first"


def test_a_file_that_is_held_for_a_moment_is_replaced_after_it(tmp_path, monkeypatch):
    original, attempts = Path.replace, []

    def replace(part: Path, target: Path) -> Path:
        attempts.append(part)
        if len(attempts) <= 2:
            raise PermissionError("held")
        return original(part, target)

    monkeypatch.setattr(module, "HELD_POLL", 0.001)
    monkeypatch.setattr(Path, "replace", replace)
    with replacing(tmp_path / "a.bin") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert len(attempts) == 3


def test_one_that_stays_held_is_given_up(tmp_path, monkeypatch):
    def replace(*_: Path) -> Path:
        raise PermissionError("held")

    monkeypatch.setattr(module, "HELD_POLL", 0.001)
    monkeypatch.setattr(module, "HELD_SECONDS", 0.01)
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError), replacing(tmp_path / "a.bin") as part:
        part.write_bytes(b"new")
    assert list(tmp_path.iterdir()) == []


def test_other_refusals_are_not_waited_for():
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        when_let_go(fail)
    assert attempts == [1]
