"""The lock of an installation: one holder at a time although its file comes and goes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from lib_depth2img.checkpoint.lock import FileLock

REPO = Path(__file__).parents[2]

CONTENDER = """
import sys
import time
from pathlib import Path
from lib_depth2img.checkpoint.lock import FileLock
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
count, inside = folder / "count", folder / "inside"
for _ in range(rounds):
    lock = FileLock(folder / "lock")
    while not lock.acquire():
        time.sleep(0.0005)
    inside.touch(exist_ok=False)  # fails where two hold it
    count.write_text(str(int(count.read_text()) + 1))
    inside.unlink()
    lock.release()
"""


def test_one_holder_at_a_time_among_processes(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", CONTENDER, str(tmp_path), "60"]
    running = [subprocess.Popen(command, cwd=REPO, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    problems = [process.communicate(timeout=300)[1] for process in running]
    assert problems == [""] * 3
    assert (tmp_path / "count").read_text() == "180"
    assert not (tmp_path / "lock").exists()


def test_one_holder_at_a_time_among_threads(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    answers: list[bool] = []

    def elsewhere() -> None:
        answers.append(second.acquire())

    assert first.acquire()
    for release in (False, True):
        if release:
            first.release()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert answers == [False, True]
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_somebody_removed_is_no_lock(tmp_path: Path, monkeypatch) -> None:
    """Between opening and locking, the holder has removed the file and a third has made and locked another."""
    from lib_depth2img.checkpoint import lock as module

    third = FileLock(tmp_path / "lock")
    lock = module._lock

    def overtaken(descriptor: int) -> None:
        monkeypatch.setattr(module, "_lock", lock)
        (tmp_path / "lock").unlink()
        assert third.acquire()
        lock(descriptor)

    monkeypatch.setattr(module, "_lock", overtaken)
    late = FileLock(tmp_path / "lock")
    assert not late.acquire()
    assert not late.acquire()
    third.release()
    assert late.acquire()
    late.release()
