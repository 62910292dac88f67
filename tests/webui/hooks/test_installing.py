"""What the running host installs: the small checkpoint, and a model pair that is verified once."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib_depth2img.checkpoint import configuration
from lib_depth2img.checkpoint.small_model import SMALL_CHECKPOINT, SMALL_CONFIG
from lib_depth2img.errors import InstallError
from lib_depth2img.webui import extension
from lib_depth2img.webui.host_services import HostServices
from lib_depth2img.webui.hosts import host as facade
from lib_depth2img.weights import catalog
from tests.webui.hooks.stand_in import Host

NAME = "512-depth-ema-fp16.safetensors"
BODY = random.Random(3).randbytes(100_000)
OTHER = random.Random(4).randbytes(100_000)


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def test_each_download_says_what_the_catalogue_does(host: Host) -> None:
    """All of it: the panel asks for the licence by what stands here."""
    folder, midas = host.folder / "checkpoints", facade.midas_folder()
    host.modules.shared.cmd_opts.ckpt_dir = str(folder)
    here = {NAME, catalog.estimator_file("dpt_large").name}
    for place in (folder, midas):
        place.mkdir(parents=True, exist_ok=True)
        for name in here:
            (place / name).touch()
    listed = HostServices().downloads()
    files = {file.name: file for file in catalog.FILES}
    assert {NAME, "512-depth-ema.safetensors", "dpt_large-midas-2f21e586.pt"} <= {each.name for each in listed}
    assert len({each.title for each in listed}) == len(listed)
    for each in listed:
        file = files[each.name]
        assert (each.licence, each.licence_url) == (str(file.licence), file.licence.url)
        assert ("not for commercial use" in each.licence) == (not file.licence.commercial)
        assert each.nbytes == file.about_bytes
        assert each.installed == (each.name in here)
        assert (file.estimator or "depth model") in each.title


class TestTheTrialCheckpoint:
    @pytest.fixture
    def folder(self, host: Host) -> Path:
        """The host's, which lists what is in it."""
        host.checkpoints[SMALL_CHECKPOINT.name] = SimpleNamespace(title=f"{SMALL_CHECKPOINT.name} [0123456789]")
        folder = host.folder / "checkpoints"
        host.modules.shared.cmd_opts.ckpt_dir = str(folder)
        return folder

    def test_it_is_copied_with_its_yaml(self, folder: Path) -> None:
        assert HostServices().add_trial_checkpoint() == f"{SMALL_CHECKPOINT.name} [0123456789]"
        assert contents(folder) == {path.name: path.read_bytes() for path in (SMALL_CHECKPOINT, SMALL_CONFIG)}

    def test_a_copy_that_is_there_is_kept(self, folder: Path) -> None:
        HostServices().add_trial_checkpoint()
        before = {entry.name: entry.stat() for entry in folder.iterdir()}
        HostServices().add_trial_checkpoint()
        assert {entry.name: entry.stat().st_ino for entry in folder.iterdir()} == {
            name: facts.st_ino for name, facts in before.items()
        }

    @pytest.mark.parametrize("source", [SMALL_CHECKPOINT, SMALL_CONFIG], ids=lambda source: source.suffix)
    @pytest.mark.parametrize("share", [0, 0.5])
    def test_half_a_copy_is_repaired(self, folder: Path, source: Path, share: float) -> None:
        folder.mkdir()
        whole = source.read_bytes()
        (folder / source.name).write_bytes(whole[: int(len(whole) * share)])
        HostServices().add_trial_checkpoint()
        assert contents(folder) == {path.name: path.read_bytes() for path in (SMALL_CHECKPOINT, SMALL_CONFIG)}

    @pytest.mark.parametrize("source", [SMALL_CHECKPOINT, SMALL_CONFIG], ids=lambda source: source.suffix)
    @pytest.mark.parametrize("more", [True, False])
    def test_what_is_somebodys_own_is_kept_and_nothing_put_beside_it(
        self, folder: Path, source: Path, more: bool
    ) -> None:
        folder.mkdir()
        mine = source.read_bytes() + b"and more" if more else b"mine"
        (folder / source.name).write_bytes(mine)
        with pytest.raises(InstallError, match=r"is already there but is another file.*Move it away"):
            HostServices().add_trial_checkpoint()
        assert contents(folder) == {source.name: mine}

    def test_a_disk_that_fills_up_leaves_no_half_of_it(self, folder: Path) -> None:
        """The system stops the writing after a megabyte, as a full disk does; the yaml is shorter."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            with pytest.raises(InstallError, match="takes no file that large"):
                HostServices().add_trial_checkpoint()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert contents(folder) == {SMALL_CONFIG.name: SMALL_CONFIG.read_bytes()}


class TestAPairIsVerifiedOnce:
    @pytest.fixture
    def opened(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The pair lies in the host's folder; how often its file is opened."""
        facts = {"nbytes": None, "about_bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
        files = tuple(replace(file, **facts) if file.name == NAME else file for file in catalog.FILES)
        monkeypatch.setattr(catalog, "FILES", files)
        (host.folder / NAME).write_bytes(BODY)
        configuration.write_beside(host.folder / NAME)
        opened: list[str] = []
        original = Path.open

        def counting(path: Path, *arguments: Any, **options: Any) -> Any:
            opened.extend([path.name] if path.name == NAME else [])
            return original(path, *arguments, **options)

        monkeypatch.setattr(Path, "open", counting)
        return opened

    def start(self, host: Host, capsys: pytest.CaptureFixture[str]) -> str:
        """What a start of the host with the flag says."""
        host.modules.shared.cmd_opts.depth2img_install = "fp16"
        extension._install_as_asked(None, None)
        for thread in threading.enumerate():
            if thread.name == extension._THREAD:
                thread.join(30)
        return capsys.readouterr().out

    def test_a_second_start_reads_nothing_of_it(
        self, host: Host, opened: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert f"{NAME} is in {host.folder}, verified" in self.start(host, capsys)
        assert opened == [NAME]
        assert f"{NAME} is in {host.folder}, verified" in self.start(host, capsys)
        assert opened == [NAME]

    @pytest.mark.parametrize("later", [-100, 0, 100])  # seconds; 0 with another size
    def test_a_file_that_has_changed_is_read_again(
        self, host: Host, opened: list[str], capsys: pytest.CaptureFixture[str], later: int
    ) -> None:
        self.start(host, capsys)
        before = (host.folder / NAME).stat().st_mtime_ns
        (host.folder / NAME).write_bytes(OTHER if later else OTHER + b"1")
        os.utime(host.folder / NAME, ns=(before, before + later * 10**9))
        opened.clear()
        assert "is another file" in self.start(host, capsys)
        assert opened == [NAME]

    def test_what_the_host_has_read_is_not_read_again_and_the_other_way_round(
        self, host: Host, opened: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """hashes.py:22-39 and 59-62, by which the host looks for and notes the hash of a checkpoint."""
        notes = host.modules.cache.cache("hashes")
        modified = (host.folder / NAME).stat().st_mtime
        digest = hashlib.sha256(BODY).hexdigest()
        notes[f"checkpoint/{NAME}"] = {"mtime": modified, "sha256": digest}
        assert "verified" in self.start(host, capsys)
        assert opened == []
        notes.clear()
        self.start(host, capsys)
        assert notes[f"checkpoint/{NAME}"]["sha256"] == digest
        assert notes[f"checkpoint/{NAME}"]["mtime"] >= modified

    def test_no_hashing_does_not_keep_it_from_being_verified(
        self, host: Host, opened: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        host.modules.shared.cmd_opts.no_hashing = True
        assert "verified" in self.start(host, capsys)
        assert opened == [NAME]

    def test_a_cache_that_fails_costs_only_time(
        self, host: Host, opened: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> Any:
            raise RuntimeError("database is locked")

        monkeypatch.setattr(host.modules.cache, "cache", fail)
        for _ in range(2):
            assert "verified" in self.start(host, capsys)
        assert opened == [NAME, NAME]
        assert facade.checkpoint_sha256(host.folder / NAME, lambda: "computed") == "computed"
