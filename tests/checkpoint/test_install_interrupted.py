"""Installations that are cancelled, killed, run twice at once, or run out of disk."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
import time
from collections import namedtuple
from contextlib import suppress

import pytest

from lib_depth2img.checkpoint import download
from lib_depth2img.checkpoint.install import Progress, install
from lib_depth2img.errors import InstallCancelled, InstallError
from tests.checkpoint.hub import Served
from tests.checkpoint.installing import child, part_of, wait_until


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
    hub.serve("some/repo", "model.ckpt", Served(b"", head_status=503))
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
