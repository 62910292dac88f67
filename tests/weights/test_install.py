"""Installing against a server that behaves, and against one that does not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from lib_depth2img.checkpoint.configuration import pair_yaml
from lib_depth2img.checkpoint.pair import install_pair, pair_installed
from lib_depth2img.cli import main
from lib_depth2img.commands import install as command
from lib_depth2img.errors import InstallCancelled, InstallError
from lib_depth2img.progress import Progress
from lib_depth2img.weights import download
from lib_depth2img.weights.catalog import NC_DAV2, HubSource, UrlSource
from lib_depth2img.weights.hashing import sha256_of
from lib_depth2img.weights.install import install
from tests.weights.hub import Hub, Served
from tests.weights.installing import REPO


def test_a_file_is_downloaded_verified_and_named(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    seen: list[Progress] = []
    path = install(catalogued(), tmp_path / "new" / "folder", progress=seen.append)
    assert path == tmp_path / "new" / "folder" / "model.ckpt"
    assert path.read_bytes() == body
    assert [entry.name for entry in path.parent.iterdir()] == ["model.ckpt"]
    assert [moment.phase for moment in seen[:2]] == ["asking", "downloading"]
    assert {moment.phase for moment in seen} == {"asking", "downloading", "verifying"}
    assert seen[0].done == seen[1].done == 0
    assert seen[-1].done == seen[-1].total == len(body)
    finished = [moment for moment in seen if moment.phase == "downloading"][-1]
    assert finished.rate > 0
    assert finished.seconds_left == 0


def test_a_size_that_is_not_known_before_is_taken_from_the_hub(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    seen: list[Progress] = []
    assert install(catalogued(nbytes=None), tmp_path, progress=seen.append).read_bytes() == body
    assert all(moment.total == len(body) for moment in seen if moment.can_be_counted)


def test_a_file_already_there_is_verified_and_kept(hub, catalogued, body, tmp_path):
    target = tmp_path / "model.ckpt"
    target.write_bytes(body)
    before = target.stat().st_mtime_ns
    assert install(catalogued(), tmp_path) == target
    assert target.stat().st_mtime_ns == before
    assert hub.log == []


@pytest.mark.parametrize("nbytes", [3_000_000, None])
def test_another_file_under_the_name_is_never_touched(hub, catalogued, body, tmp_path, nbytes):
    mine = tmp_path / "model.ckpt"
    for content in (b"my own model", bytes(len(body))):
        mine.write_bytes(content)
        with pytest.raises(InstallError, match="already there but is another file") as caught:
            install(catalogued(nbytes=nbytes), tmp_path)
        assert catalogued().sha256 in str(caught.value)
        assert mine.read_bytes() == content
    assert hashlib.sha256(bytes(len(body))).hexdigest() in str(caught.value)


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, catalogued, body, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.serve("some/repo", "model.ckpt", Served(body))
    other = Hub()
    hub.bytes_from = other.url
    other.files = hub.files
    try:
        assert install(catalogued(), tmp_path).read_bytes() == body
    finally:
        other.close()
    assert set(hub.authorizations) == {"Bearer hf_secret"}
    assert other.authorizations == [None]


class TestTheTokenOfTheUser:
    """As huggingface_hub finds it: its `get_token` says the same."""

    @pytest.fixture
    def sent(self, hub, catalogued, body, tmp_path):
        hub.serve("some/repo", "model.ckpt", Served(body))

        def ask() -> str | None:
            install(catalogued(), tmp_path / "models").unlink()
            return hub.authorizations[0]

        return ask

    def test_none(self, sent):
        assert sent() is None

    def test_the_file_that_logging_in_leaves(self, sent, monkeypatch, tmp_path):
        (tmp_path / "token").write_text("hf_file\n")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        assert sent() == "Bearer hf_file"

    def test_that_file_in_the_users_home(self, sent, monkeypatch, tmp_path):
        (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
        (tmp_path / ".cache" / "huggingface" / "token").write_text("hf_home")
        monkeypatch.delenv("HF_HOME")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert sent() == "Bearer hf_home"

    def test_one_elsewhere(self, sent, monkeypatch, tmp_path):
        (tmp_path / "mine").write_text("hf_elsewhere")
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "mine"))
        assert sent() == "Bearer hf_elsewhere"

    def test_the_environment_comes_first(self, sent, monkeypatch, tmp_path):
        (tmp_path / "token").write_text("hf_file")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_older")
        assert sent() == "Bearer hf_older"

    def test_the_newer_name_comes_before_the_older(self, sent, monkeypatch):
        monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", "hf_older")
        monkeypatch.setenv("HF_TOKEN", " hf_newer\n")
        assert sent() == "Bearer hf_newer"

    def test_it_may_be_forbidden(self, sent, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes")
        assert sent() is None

    def test_a_file_that_is_no_text_is_none(self, sent, monkeypatch, tmp_path):
        (tmp_path / "token").write_bytes(b"\xff\xfe\x00")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        assert sent() is None

    def test_letters_that_no_token_has(self, sent, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "密码")
        with pytest.raises(InstallError, match="letters that no token has"):
            sent()


def test_an_endpoint_that_is_no_address_is_said(hub, catalogued, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    with pytest.raises(InstallError, match=r"HF_ENDPOINT is 'hf-mirror\.com'; expected .* https://"):
        install(catalogued(), tmp_path)


def test_what_the_hub_says_is_told(hub, catalogued, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(b"", hub_status=401, words="Invalid credentials"))
    with pytest.raises(InstallError, match="HTTP 401 Invalid credentials"):
        install(catalogued(), tmp_path)
    assert len(hub.log) == 1


def test_progress_reads_well():
    assert str(Progress("downloading", "x.ckpt", 1_200_000_000, 5_707_592_867, 24e6, 188)) == (
        "downloading x.ckpt: 1.20 of 5.71 GB, 24.0 MB/s, 3 min 8 s left"
    )
    assert str(Progress("verifying", "x.ckpt", 10**9, None, 0.0, None)) == "verifying x.ckpt: 1.00 GB, 0.0 MB/s"
    assert str(Progress("downloading", "x.ckpt", 0, 10**9, 1e5, 9999)).endswith("2 h 46 min left")
    assert "waiting" in str(Progress("waiting", "x.ckpt", 0, None, 0.0, None))
    assert str(Progress("asking", "x.ckpt", 0, None, 0.0, None)) == "x.ckpt: asking where it can be had"


def test_a_hub_that_is_down_is_asked_a_few_times_without_a_word(hub, catalogued, tmp_path, capfd):
    hub.serve("some/repo", "model.ckpt", Served(b"", hub_status=503))
    with pytest.raises(InstallError, match=r"HTTP 503 Service Unavailable \(4 times in a row\)"):
        install(catalogued(), tmp_path)
    assert len(hub.log) == download.ATTEMPTS
    assert capfd.readouterr() == ("", "")


def test_the_command(hub, catalogued, body, tmp_path, monkeypatch, capsys):
    hub.serve("some/repo", "model.ckpt", Served(body))
    monkeypatch.setattr(command, "estimator_file", lambda _: catalogued())
    assert main(["install", "--to", str(tmp_path), "--estimator", "dpt_hybrid"]) == 0
    output = capsys.readouterr()
    assert output.out == f"{tmp_path / 'model.ckpt'}\n"
    assert "licence" in output.err
    assert "model.ckpt: asking where it can be had\n" in output.err
    assert "3.00M/3.00M" in output.err
    assert main(["install", "--to", str(tmp_path), "--estimator", "dpt_hybrid", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["installed"] == [str(tmp_path / "model.ckpt")]


def test_the_command_refuses_in_one_line(hub, tmp_path, capsys):
    assert main(["install", "--to", str(tmp_path), "--variant", "fp16", "--quiet"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 512-depth-ema-fp16.safetensors could not be downloaded.")
    assert str(tmp_path / "512-depth-ema-fp16.safetensors") in error


@pytest.mark.parametrize(
    "arguments", [[], ["--to", "x", "--variant", "huge"], ["--to", "x", "--estimator", "dpt_next_vit_large"]]
)
def test_arguments_that_are_refused(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["install", *arguments])
    assert caught.value.code == 2


def test_a_plain_address_is_downloaded_through_the_proxy(hub, catalogued, body, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", hub.url)
    hub.files["/releases/model.ckpt"] = Served(body)
    file = catalogued(UrlSource("http://files.example.invalid/releases/model.ckpt"))
    assert install(file, tmp_path).read_bytes() == body


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "404"),
        (Served(b"", hub_status=401), "401"),
        (Served(b"", hub_status=403), "403"),
        (Served(b"x" * 100), "announces|another file"),
        (Served(b"x" * 3_000_000), "another file of this name"),
        (Served(b"x" * 3_000_000, announced_sha256="none"), "wrong file"),
    ],
)
def test_the_next_source_is_tried(hub, catalogued, body, tmp_path, bad, reason):
    if bad is not None:
        hub.serve("bad/repo", "model.ckpt", bad)
    sources = (HubSource("bad/repo", "model.ckpt"), HubSource("good/repo", "model.ckpt"))
    with pytest.raises(InstallError, match=rf"bad/repo: model\.ckpt \([^;]*({reason})"):
        install(catalogued(*sources), tmp_path)
    hub.serve("good/repo", "model.ckpt", Served(body))
    hub.log.clear()
    assert install(catalogued(*sources), tmp_path).read_bytes() == body
    assert hub.log[0][1].startswith("/bad/repo/")


def test_a_wrong_file_is_not_downloaded_when_the_hub_says_so_itself(hub, catalogued, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(b"x" * 3_000_000))
    with pytest.raises(InstallError):
        install(catalogued(), tmp_path)
    assert hub.bytes_sent == 0


def test_wrong_bytes_are_removed_and_both_hashes_named(hub, catalogued, body, tmp_path):
    wrong = b"x" * len(body)
    hub.files["/model.ckpt"] = Served(wrong)
    with pytest.raises(InstallError) as caught:
        install(catalogued(UrlSource(f"{hub.url}/model.ckpt")), tmp_path)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert hashlib.sha256(body).hexdigest() in str(caught.value)
    assert not list(tmp_path.glob("*.part"))
    assert not (tmp_path / "model.ckpt").exists()


def test_when_all_fail_the_way_by_hand_is_told(hub, catalogued, body, tmp_path):
    sources = (HubSource("a/repo", "model.ckpt"), UrlSource(f"{hub.url}/gone.ckpt"))
    with pytest.raises(InstallError) as caught:
        install(catalogued(*sources), tmp_path)
    assert {entry.suffix for entry in tmp_path.iterdir()} <= {".lock"}
    text = str(caught.value)
    address = "https://huggingface.co/a/repo/resolve/main/model.ckpt"
    for part in (address, "gone.ckpt", "404", str(tmp_path / "model.ckpt"), catalogued().sha256, f"{len(body):,}"):
        assert part in text


@pytest.mark.parametrize("kind", ["hub", "plain"])
def test_a_connection_cut_twice_goes_on_where_it_stopped(hub, catalogued, body, tmp_path, kind):
    served = Served(body, cuts=[1_048_576, 524_288])
    hub.files["/model.ckpt"] = hub.serve("some/repo", "model.ckpt", served)
    file = catalogued() if kind == "hub" else catalogued(UrlSource(f"{hub.url}/model.ckpt"))
    assert install(file, tmp_path).read_bytes() == body
    assert hub.ranges() == [None, "bytes=1048576-", "bytes=1572864-"]
    assert hub.bytes_sent == len(body)


@pytest.mark.parametrize("kind", ["hub", "plain"])
def test_a_line_that_breaks_again_and_again_loses_no_byte(hub, catalogued, body, tmp_path, kind):
    """Also where each answer is shorter than what is read at once, and there are more of them than `ATTEMPTS`."""
    cuts = [100_000, 1, 65_535, 8_191, 100_000, 40_000]
    hub.files["/model.ckpt"] = hub.serve("some/repo", "model.ckpt", Served(body, cuts=list(cuts)))
    file = catalogued() if kind == "hub" else catalogued(UrlSource(f"{hub.url}/model.ckpt"))
    assert install(file, tmp_path).read_bytes() == body
    arrived = [sum(cuts[: index + 1]) for index in range(len(cuts))]
    assert hub.ranges() == [None, *(f"bytes={count}-" for count in arrived)]
    assert hub.bytes_sent == len(body)


def test_a_server_busy_for_a_while_is_asked_again(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, statuses=[500, 503, 429]))
    assert install(catalogued(), tmp_path).read_bytes() == body


def test_a_server_that_is_not_there_is_named(hub, catalogued, tmp_path):
    gone = Hub()
    gone.close()
    with pytest.raises(InstallError, match=rf"ConnectionError from {gone.url.removeprefix('http://')} \(4 times"):
        install(catalogued(UrlSource(f"{gone.url}/model.ckpt")), tmp_path)


def test_a_server_that_stays_down_is_given_up(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, statuses=[500] * 50))
    with pytest.raises(InstallError, match="HTTP 500"):
        install(catalogued(), tmp_path)
    assert len(hub.ranges()) == download.ATTEMPTS


def test_a_server_that_stalls_is_left_and_what_it_sent_is_kept(hub, catalogued, body, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    hub.serve("slow/repo", "model.ckpt", Served(body, stall_after=1_048_576))
    hub.serve("good/repo", "model.ckpt", Served(body))
    file = catalogued(HubSource("slow/repo", "model.ckpt"), HubSource("good/repo", "model.ckpt"))
    assert install(file, tmp_path).read_bytes() == body
    asked = [(path, wanted) for _, path, wanted in hub.log if path.startswith("/cdn/")]
    path = "/cdn/{}/repo/resolve/main/model.ckpt"
    assert asked == [(path.format("slow"), None), (path.format("good"), "bytes=1048576-")]


def test_a_server_without_ranges_starts_anew(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, cuts=[1_000_000], ignores_range=True))
    assert install(catalogued(), tmp_path).read_bytes() == body


def test_a_server_that_answers_another_range_is_not_believed(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, cuts=[1_048_576], wrong_range=True))
    with pytest.raises(InstallError, match="was asked for byte 1,048,576"):
        install(catalogued(), tmp_path)


@pytest.mark.parametrize("length", [2_000_000, 4_000_000])
def test_a_lie_about_the_length_is_found_at_once(hub, catalogued, body, tmp_path, length):
    hub.files["/model.ckpt"] = Served(body, length=length)
    with pytest.raises(InstallError, match=f"it sends {length:,} bytes, the file has {len(body):,}"):
        install(catalogued(UrlSource(f"{hub.url}/model.ckpt")), tmp_path)
    assert not (tmp_path / "model.ckpt").exists()


def test_a_lie_about_the_size_in_the_metadata_is_found(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body, announced_size=10**12))
    with pytest.raises(InstallError, match="announces 1,000,000,000,000 bytes"):
        install(catalogued(), tmp_path)
    with pytest.raises(InstallError, match="announces 1,000,000,000,000 bytes"):
        install(catalogued(nbytes=None), tmp_path)
    assert hub.bytes_sent == 0


def test_a_part_longer_than_the_file_is_started_anew(hub, catalogued, body, tmp_path):
    hub.files["/model.ckpt"] = Served(body)
    for nbytes in (len(body), None):  # with no size known, the server's 416 tells
        file = catalogued(UrlSource(f"{hub.url}/model.ckpt"), nbytes=nbytes)
        (tmp_path / f"model.ckpt.{file.sha256[:8]}.part").write_bytes(bytes(len(body) + 5))
        path = install(file, tmp_path)
        assert path.read_bytes() == body
        path.unlink()


@pytest.mark.parametrize("nbytes", [3_000_000, None])  # with no size known, the server's 416 tells
def test_a_part_that_is_complete_is_not_fetched_anew(hub, catalogued, body, tmp_path, nbytes):
    hub.files["/model.ckpt"] = Served(body)
    file = catalogued(UrlSource(f"{hub.url}/model.ckpt"), nbytes=nbytes)
    (tmp_path / f"model.ckpt.{file.sha256[:8]}.part").write_bytes(body)
    assert install(file, tmp_path).read_bytes() == body
    assert hub.ranges() == ([] if nbytes else [f"bytes={len(body)}-"])
    assert hub.bytes_sent == 0


def test_a_complete_part_is_known_by_the_size_that_the_hub_says(hub, catalogued, body, tmp_path):
    """Not each server that has nothing more to send says so in its answer."""
    hub.serve("some/repo", "model.ckpt", Served(body, end_unknown=True))
    file = catalogued(nbytes=None)
    (tmp_path / f"model.ckpt.{file.sha256[:8]}.part").write_bytes(body)
    assert install(file, tmp_path).read_bytes() == body
    assert hub.bytes_sent == 0


def test_a_body_without_a_length_that_does_not_end_is_left(hub, catalogued, body, tmp_path):
    hub.files["/model.ckpt"] = Served(body + b"and more", unmeasured=True)
    with pytest.raises(InstallError, match=r"it sends more than the 3,000,000 bytes it announced"):
        install(catalogued(UrlSource(f"{hub.url}/model.ckpt")), tmp_path)
    assert not (tmp_path / "model.ckpt").exists()
    hub.files["/model.ckpt"] = Served(body, unmeasured=True)
    assert install(catalogued(UrlSource(f"{hub.url}/model.ckpt")), tmp_path).read_bytes() == body


def test_the_page_of_a_network_that_wants_a_login_costs_nothing_of_what_arrived(hub, catalogued, body, tmp_path):
    page = Served(b"<html>Log in</html>", unmeasured=True, ignores_range=True, content_type="text/html; charset=utf-8")
    hub.files["/model.ckpt"] = page
    file = catalogued(UrlSource(f"{hub.url}/model.ckpt"))
    part = tmp_path / f"model.ckpt.{file.sha256[:8]}.part"
    part.write_bytes(body[:1000])
    with pytest.raises(InstallError, match="it sends a web page"):
        install(file, tmp_path)
    assert part.read_bytes() == body[:1000]


def test_wrong_bytes_of_an_earlier_run_are_fetched_anew_from_the_same_source(hub, catalogued, body, tmp_path):
    hub.serve("some/repo", "model.ckpt", Served(body))
    (tmp_path / f"model.ckpt.{catalogued().sha256[:8]}.part").write_bytes(b"x" * 1000)
    assert install(catalogued(), tmp_path).read_bytes() == body
    assert hub.ranges() == ["bytes=1000-", None]


def test_sha256_is_the_files(tmp_path, body):
    (tmp_path / "x").write_bytes(body)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(body).hexdigest()


def test_what_was_verified_before_need_not_be_read(hub, catalogued, body, tmp_path):
    notes: dict[str, str] = {}
    computed: list[str] = []

    def digest_of(path, compute):
        if path.name not in notes:
            notes[path.name] = compute()
            computed.append(notes[path.name])
        return notes[path.name]

    hub.serve("some/repo", "model.ckpt", Served(body))
    path = install(catalogued(), tmp_path, digest_of=digest_of)
    assert notes == {"model.ckpt": catalogued().sha256}, "what was just verified is noted under its name"
    path.write_bytes(bytes(len(body)))  # of the same size: only who reads it can tell
    assert install(catalogued(), tmp_path, digest_of=digest_of) == path
    assert len(computed) == 1
    notes.clear()
    with pytest.raises(InstallError, match="is another file"):
        install(catalogued(), tmp_path, digest_of=digest_of)


def test_the_yaml_of_the_pair_comes_even_when_the_checkpoint_does_not(hub, tmp_path):
    with pytest.raises(InstallError, match=r"512-depth-ema-fp16\.safetensors could not be downloaded"):
        install_pair("fp16", tmp_path)
    assert "LatentDepth2ImageDiffusion" in (tmp_path / "512-depth-ema-fp16.yaml").read_text()
    assert pair_installed(tmp_path) is None


def test_a_pair_is_a_checkpoint_of_the_right_size_and_its_yaml(tmp_path):
    assert pair_installed(tmp_path) is None
    checkpoint = tmp_path / "512-depth-ema.ckpt"
    with checkpoint.open("wb") as file:
        file.truncate(5_707_592_867)
    assert pair_installed(tmp_path) is None
    checkpoint.with_suffix(".yaml").write_text(pair_yaml())
    assert pair_installed(tmp_path) == checkpoint
    assert pair_installed(tmp_path, "ckpt") == checkpoint
    assert pair_installed(tmp_path, "fp16") is None
    with checkpoint.open("wb") as file:
        file.truncate(5_707_592_866)
    assert pair_installed(tmp_path) is None


def test_install_pair_keeps_a_yaml_that_is_there(hub, tmp_path):
    yaml = tmp_path / "512-depth-ema.yaml"
    mine = f"# mine\n{pair_yaml('dpt_large')}"
    yaml.write_text(mine)
    with pytest.raises(InstallError, match="could not be downloaded"):
        install_pair("ckpt", tmp_path)
    assert yaml.read_text() == mine


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>404: Not Found</body></html>\n",
        pair_yaml().encode("utf-16"),
        b"mine: true\n",
        b"",
        b"\x00\x01\x02",
    ],
)
def test_a_yaml_that_is_none_is_said_and_left_alone(hub, tmp_path, content):
    yaml = tmp_path / "512-depth-ema.yaml"
    yaml.write_bytes(content)
    with (tmp_path / "512-depth-ema.ckpt").open("wb") as file:
        file.truncate(5_707_592_867)
    with pytest.raises(InstallError, match=r"512-depth-ema\.yaml is already there but does not describe a depth model"):
        install_pair("ckpt", tmp_path)
    assert yaml.read_bytes() == content
    assert hub.log == []
    assert pair_installed(tmp_path) is None


def test_a_yaml_is_there_whole_or_not_at_all(tmp_path):
    """The system stops the writing after 100 bytes, as a full disk does."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from lib_depth2img.checkpoint.pair import install_pair\n"
        "from lib_depth2img.errors import InstallError\n"
        "try: install_pair('fp16', sys.argv[1])\n"
        "except InstallError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    assert "takes no file that large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_pair_honours_cancel(hub, tmp_path):
    with pytest.raises(InstallCancelled):
        install_pair("fp16", tmp_path, cancelled=lambda: True)
    assert hub.log == []


def test_what_is_not_for_commercial_use_is_installed_once_that_is_accepted(
    hub, catalogued, body, tmp_path, monkeypatch, capsys
):
    hub.serve("some/repo", "model.ckpt", Served(body))
    file = replace(catalogued(), licence=NC_DAV2)
    monkeypatch.setattr(command, "estimator_file", lambda _: file)
    asked = ["install", "--estimator", "depth_anything_v2_large", "--to", str(tmp_path), "--quiet"]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "CC-BY-NC-4.0, not for commercial use" in said
    assert "--accept-licence" in said
    assert hub.log == []
    assert main([*asked, "--accept-licence"]) == 0
    assert (tmp_path / "model.ckpt").read_bytes() == body


def test_a_file_of_unknown_sha256_is_taken_with_a_remark(hub, catalogued, body, tmp_path, monkeypatch, capsys):
    hub.serve("some/repo", "model.ckpt", Served(body))
    file = replace(catalogued(), sha256=None)
    monkeypatch.setattr(command, "estimator_file", lambda _: file)
    for _ in range(2):  # downloaded, and found there
        assert main(["install", "--estimator", "dpt_swin2_tiny_256", "--to", str(tmp_path), "--quiet"]) == 0
        assert "No sha256 of model.ckpt is known to compare with" in capsys.readouterr().err
    assert (tmp_path / "model.ckpt").read_bytes() == body
