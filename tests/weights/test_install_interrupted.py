"""Installations that are cancelled, killed, run twice at once, or run out of disk."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
import time
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib_depth2img import replacing
from lib_depth2img.checkpoint.pair import pair_installed
from lib_depth2img.errors import InstallCancelled, InstallError
from lib_depth2img.progress import Progress
from lib_depth2img.weights import download
from lib_depth2img.weights import install as installing
from lib_depth2img.weights.install import install
from tests.weights.hub import Served
from tests.weights.installing import child, part_of, wait_until


def test_cancelling_keeps_what_was_downloaded(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, chunk_pause=0.005))
    with pytest.raises(InstallCancelled, match="cancelled"):
        install(
            catalogued(),
            tmp_path,
            cancelled=lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size > 500_000,
        )
    kept = part_of(tmp_path).stat().st_size
    assert kept > 500_000
    assert {entry.suffix for entry in tmp_path.iterdir()} <= {".part", ".lock"}
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert hub.ranges()[-1] == f"bytes={kept}-"


def test_cancelling_does_not_wait_for_a_hub_that_is_down(hub, catalogued, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(b"", hub_status=503))
    calls = iter([False, False, True])
    with pytest.raises(InstallCancelled):
        install(catalogued(), tmp_path, cancelled=lambda: next(calls, True))


def test_a_killed_download_goes_on_where_it_stopped(hub, body, tmp_path):
    served = hub.serve("some/repo", "model.ckpt", Served(body, chunk_pause=0.02))
    first = child(hub.url, body, tmp_path)
    wait_until(lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size > 1_000_000)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = part_of(tmp_path).stat().st_size
    assert 1_000_000 < kept < len(body)
    assert not (tmp_path / "model.ckpt").exists()
    served.chunk_pause = 0
    time.sleep(0.1)
    sent_before = hub.bytes_sent
    second = child(hub.url, body, tmp_path)
    output, problems = second.communicate(timeout=60)
    assert second.returncode == 0, output + problems
    assert (tmp_path / "model.ckpt").read_bytes() == body
    assert hub.ranges() == [None, f"bytes={kept}-"]
    assert hub.bytes_sent - sent_before == len(body) - kept


def test_two_installations_at_once_download_once(hub, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, chunk_pause=0.02))
    both = [child(hub.url, body, tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=90) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert hub.ranges() == [None]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_second_installation_says_that_it_waits_and_can_be_cancelled(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, stall_after=1_000_000))
    stop = threading.Event()

    def hold() -> None:
        with suppress(InstallCancelled):
            install(catalogued(), tmp_path, cancelled=stop.is_set)

    first = threading.Thread(target=hold)
    first.start()
    try:
        wait_until(lambda: part_of(tmp_path).exists() and part_of(tmp_path).stat().st_size > 0)
        seen: list[Progress] = []
        with pytest.raises(InstallCancelled):
            install(catalogued(), tmp_path, progress=seen.append, cancelled=lambda: bool(seen))
        assert seen[0].phase == "waiting"
    finally:
        stop.set()
        hub.released.set()
        first.join()


def test_what_a_killed_installation_leaves_is_taken_over(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    (tmp_path / f"model.ckpt.{catalogued().sha256[:8]}.lock").write_text("")
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.ckpt"]


def test_offline_mode_of_the_hub_is_honoured(hub, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    process = child(hub.url, body, tmp_path, HF_HUB_OFFLINE="1")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "HF_HUB_OFFLINE" in output
    assert "By hand" in output
    assert hub.log == []


def test_disk_space_is_checked_before_the_first_byte(hub, catalogued, body, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 1_000_000, 1_000_000))
    hub.serve("some/repo", "model.ckpt", Served(body))
    with pytest.raises(InstallError, match=r"0\.00 GB free") as caught:
        install(catalogued(), tmp_path)
    assert "Tried" not in str(caught.value)
    assert hub.bytes_sent == 0
    # What is there already counts.
    (tmp_path / f"model.ckpt.{catalogued().sha256[:8]}.part").write_bytes(body[:2_500_000])
    assert install(catalogued(), tmp_path).read_bytes() == body


def test_a_disk_that_fills_up_is_said_and_the_part_is_kept(hub, catalogued, body, tmp_path, monkeypatch):
    class FullFile:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            if self.file.tell() > 1_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    opened = download._opened
    hub.serve("some/repo", "model.ckpt", Served(body))
    with monkeypatch.context() as patch:
        patch.setattr(download, "_opened", lambda part: FullFile(opened(part)))
        with pytest.raises(InstallError, match=r"disk .* is full"):
            install(catalogued(), tmp_path)
    kept = part_of(tmp_path).stat().st_size
    assert kept > 1_000_000
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert hub.ranges()[-1] == f"bytes={kept}-"


def test_a_file_system_that_takes_no_large_files_is_said(hub, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))"
    process = child(hub.url, body, tmp_path, limit=limit)
    output, problems = process.communicate(timeout=60)
    assert process.returncode == 2, problems
    assert "no file that large" in output


def test_a_folder_that_is_a_file_is_refused(hub, catalogued, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match="cannot be made"):
        install(catalogued(), tmp_path / "file" / "folder")


@pytest.fixture
def held(monkeypatch):
    """As on Windows: so many attempts to "replace" or "unlink" the download find it held by another program."""

    def hold(action: str, times: float) -> SimpleNamespace:
        original, holder = getattr(Path, action), SimpleNamespace(times=times, attempts=0)

        def attempt(path, *others, **options):
            if path.suffix == ".part":
                holder.attempts += 1
                if holder.attempts <= holder.times:
                    raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
            return original(path, *others, **options)

        monkeypatch.setattr(Path, action, attempt)
        return holder

    monkeypatch.setattr(replacing, "HELD_POLL", 0.01)
    return hold


def test_a_file_that_a_scanner_holds_for_a_moment_is_waited_for(hub, catalogued, body, tmp_path, held):
    scanner = held("replace", times=3)
    hub.serve("some/repo", "model.ckpt", Served(body))
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert scanner.attempts == 4


def test_a_file_that_stays_held_is_told_and_the_next_time_only_named(
    hub, catalogued, body, tmp_path, held, monkeypatch
):
    monkeypatch.setattr(replacing, "HELD_SECONDS", 0.05)
    scanner = held("replace", times=float("inf"))
    hub.serve("some/repo", "model.ckpt", Served(body))
    with pytest.raises(InstallError, match="is complete and verified, but cannot be renamed") as caught:
        install(catalogued(), tmp_path)
    assert "another program holds it" in str(caught.value)
    assert "nothing is downloaded anew" in str(caught.value)
    assert part_of(tmp_path).read_bytes() == body
    scanner.times = 0
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert hub.bytes_sent == len(body)


def test_waiting_for_a_held_file_can_be_cancelled(hub, catalogued, body, tmp_path, held):
    scanner = held("replace", times=float("inf"))
    hub.serve("some/repo", "model.ckpt", Served(body))
    with pytest.raises(InstallCancelled):
        install(catalogued(), tmp_path, cancelled=lambda: scanner.attempts > 0)
    assert part_of(tmp_path).read_bytes() == body


def test_waiting_for_wrong_bytes_that_are_held_can_be_cancelled(hub, catalogued, tmp_path, held):
    scanner = held("unlink", times=float("inf"))
    hub.serve("some/repo", "model.ckpt", Served(b"x" * 3_000_000, announced_sha256="none"))
    with pytest.raises(InstallCancelled):
        install(catalogued(), tmp_path, cancelled=lambda: scanner.attempts > 0)


def test_wrong_bytes_that_are_held_for_a_moment_are_removed_all_the_same(hub, catalogued, body, tmp_path, held):
    scanner = held("unlink", times=2)
    hub.serve("some/repo", "model.ckpt", Served(body))
    (tmp_path / f"model.ckpt.{catalogued().sha256[:8]}.part").write_bytes(b"x" * 1000)
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert scanner.attempts == 3


def test_a_part_that_is_longer_than_the_file_is_begun_anew_from_its_first_byte(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    other = bytes(255 - byte for byte in body[:100])
    (tmp_path / f"model.ckpt.{catalogued().sha256[:8]}.part").write_bytes(other + bytes(len(body)))
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert hub.bytes_sent == len(body)


class TestWhatTheSystemRefusesIsOneSentence:
    def test_a_name_it_does_not_take(self, hub, catalogued, tmp_path):
        with pytest.raises(InstallError, match="File name too long"):
            install(catalogued(), tmp_path / ("x" * 300))
        assert pair_installed(tmp_path / ("x" * 300)) is None

    def test_a_folder_of_the_name(self, hub, catalogued, tmp_path):
        (tmp_path / "model.ckpt").mkdir()
        with pytest.raises(InstallError, match="Is a directory"):
            install(catalogued(nbytes=None), tmp_path)

    def test_a_disk_that_does_not_tell_its_room(self, hub, catalogued, body, tmp_path, monkeypatch):
        def refuse(_):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(shutil, "disk_usage", refuse)
        hub.serve("some/repo", "model.ckpt", Served(body))
        with pytest.raises(InstallError, match=r"model\.ckpt cannot be read or written: Input/output error\. Choose"):
            install(catalogued(), tmp_path)

    def test_a_download_that_cannot_be_read_back(self, hub, catalogued, body, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(installing, "sha256_of", refuse)
        hub.serve("some/repo", "model.ckpt", Served(body))
        with pytest.raises(InstallError, match="Input/output error"):
            install(catalogued(), tmp_path)
        assert part_of(tmp_path).stat().st_size == len(body)
