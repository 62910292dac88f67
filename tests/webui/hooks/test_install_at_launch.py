"""install.py as the host runs it: in a process of its own, its output kept until the end, below ``launch.py``."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib_depth2img.checkpoint.progress import Progress
from lib_depth2img.webui.launch_flag import ConsoleProgress
from tests.checkpoint.hub import Hub, Served

ROOT = Path(__file__).resolve().parents[3]
NAME = "512-depth-ema-fp16.safetensors"
BODY = bytes(range(256)) * 4000
ASKED = "--depth2img-install fp16"

LAUNCH = '''
"""launch.py with modules/launch_utils.py:84-147 and 228-241, as far as an extension's install.py goes."""
import os, subprocess, sys
from modules.cmd_args import parser

args, _ = parser.parse_known_args()

def is_installed(package):
    return True

def run_pip(command, desc=None):
    raise AssertionError(command)

if __name__ == "__main__":
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), os.environ["PYTHONPATH"]]))
    command = f'"{sys.executable}" "{os.environ["INSTALL_PY"]}"'
    live = os.environ.get("WEBUI_LAUNCH_LIVE_OUTPUT") == "1"
    pipes = {} if live else {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    result = subprocess.run(command, shell=True, env=environment, encoding="utf8", errors="ignore", **pipes)
    print(f"install.py ended with {result.returncode}:", result.stdout or "", result.stderr or "", "the host starts")
'''

PATHS = '''
"""modules/paths_internal.py:11-28."""
import argparse, os, shlex, sys
sys.argv += shlex.split(os.environ.get("COMMANDLINE_ARGS", ""))
parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("--data-dir", type=str, default=os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
parser.add_argument("--models-dir", type=str, default=None)
found = parser.parse_known_args()[0]
models_path = found.models_dir or os.path.join(found.data_dir, "models")
'''

ARGUMENTS = '''
"""modules/cmd_args.py, those that matter here."""
import argparse, os
from modules.paths_internal import models_path
parser = argparse.ArgumentParser()
parser.add_argument("--ckpt-dir", type=os.path.abspath, default=None)
parser.add_argument("--no-download-sd-model", action="store_true")
parser.add_argument("--skip-install", action="store_true")
'''

CATALOGUE = f'''
"""The catalogue's file is a small one here; where it is asked for stays what it is."""
from dataclasses import replace
from lib_depth2img.checkpoint import catalog
facts = dict(nbytes={len(BODY)}, about_bytes={len(BODY)}, sha256="{hashlib.sha256(BODY).hexdigest()}")
catalog.FILES = tuple(replace(file, **facts) if file.name == "{NAME}" else file for file in catalog.FILES)
'''


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    server.serve("webui/stable-diffusion-2-depth", NAME, Served(BODY))
    yield server
    server.close()


@pytest.fixture
def webui(tmp_path: Path) -> Path:
    folder = tmp_path / "webui"
    files = {
        "launch.py": LAUNCH,
        "modules/paths_internal.py": PATHS,
        "modules/cmd_args.py": ARGUMENTS,
        "guard/sitecustomize.py": CATALOGUE,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def variables(webui: Path, hub: Hub) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "PYTHONPATH": os.pathsep.join([str(webui / "guard"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "HF_ENDPOINT": hub.url,
        "INSTALL_PY": str(ROOT / "install.py"),
    }


def launch(webui: Path, hub: Hub, *flags: str, **environment: str) -> str:
    """Start the host without a terminal; what it prints, which ends with its start whatever happens before."""
    command = [sys.executable, "launch.py", *flags]
    running = subprocess.Popen(
        command,
        cwd=webui,
        env=variables(webui, hub) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = running.communicate(timeout=600)
    assert "install.py ended with 0" in output, output
    assert output.endswith("the host starts\n"), output
    return output


def models(webui: Path) -> Path:
    return webui / "models" / "Stable-diffusion"


def test_the_flag_on_the_command_line_brings_in_the_pair(webui: Path, hub: Hub) -> None:
    output = launch(webui, hub, "--listen", "--depth2img-install", "fp16")
    assert (models(webui) / NAME).read_bytes() == BODY
    assert sorted(entry.name for entry in models(webui).iterdir()) == [NAME, "512-depth-ema-fp16.yaml"]
    assert f"{NAME} is in {models(webui)}, verified." in output


def test_it_is_fetched_once(webui: Path, hub: Hub) -> None:
    launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    asked = len(hub.log)
    assert "Depth2Img" not in launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    assert len(hub.log) == asked


def test_commandline_args_and_the_folders_of_the_host(webui: Path, hub: Hub, tmp_path: Path) -> None:
    launch(webui, hub, "--ckpt-dir", str(tmp_path / "mine"), COMMANDLINE_ARGS=ASKED)
    assert (tmp_path / "mine" / NAME).read_bytes() == BODY
    launch(webui, hub, COMMANDLINE_ARGS=f"{ASKED} --models-dir '{tmp_path / 'the models'}'")
    assert (tmp_path / "the models" / "Stable-diffusion" / NAME).read_bytes() == BODY
    assert not models(webui).exists()


@pytest.mark.parametrize("arguments", ["--skip-install", f"{ASKED} --no-download-sd-model"])
def test_nothing_is_fetched_unasked_or_forbidden(webui: Path, hub: Hub, arguments: str) -> None:
    assert "Depth2Img" not in launch(webui, hub, COMMANDLINE_ARGS=arguments)
    assert hub.log == []
    assert not models(webui).exists()


def test_the_host_starts_when_no_source_has_it(webui: Path, hub: Hub) -> None:
    hub.files.clear()
    output = launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    assert "could not be downloaded" in output
    assert "The WebUI starts without it" in output


def test_the_host_starts_whatever_happens(webui: Path, hub: Hub) -> None:
    with (webui / "guard" / "sitecustomize.py").open("a") as guard:
        guard.write("from lib_depth2img.checkpoint import install\ninstall.install = None\n")
    output = launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    assert "TypeError" in output
    assert "the WebUI starts without it" in output


def test_another_file_of_the_name_is_told_and_kept(webui: Path, hub: Hub) -> None:
    models(webui).mkdir(parents=True)
    (models(webui) / NAME).write_bytes(b"mine")
    assert "is already there but is another file" in launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    assert (models(webui) / NAME).read_bytes() == b"mine"


def test_without_a_terminal_progress_comes_in_lines(webui: Path, hub: Hub) -> None:
    output = launch(webui, hub, COMMANDLINE_ARGS=ASKED, WEBUI_LAUNCH_LIVE_OUTPUT="1")
    lines = [line for line in output.splitlines() if line.startswith("Depth2Img: downloading")]
    assert 2 <= len(lines) <= 11


def test_progress_reaches_the_terminal_although_the_host_keeps_the_output(webui: Path, hub: Hub) -> None:
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(webui)
        os.execve(sys.executable, [sys.executable, "launch.py"], variables(webui, hub) | {"COMMANDLINE_ARGS": ASKED})
    seen = b""
    try:
        while block := os.read(terminal, 65536):
            seen += block
    except OSError:  # how a pseudo-terminal ends on Linux
        pass
    os.waitpid(pid, 0)
    os.close(terminal)
    shown = seen.decode()
    assert f"\rDepth2Img: downloading {NAME}: 0.00 of 0.00 GB" in shown
    assert shown.index("downloading") < shown.index("install.py ended with 0")


def test_a_console_that_knows_few_letters_takes_nothing_from_an_installation(
    webui: Path, hub: Hub, tmp_path: Path
) -> None:
    """What the output is on a Windows of Western Europe: a pipe in cp1252, and the folder has a name in Chinese."""
    folder = tmp_path / "模型"
    output = launch(webui, hub, "--ckpt-dir", str(folder), COMMANDLINE_ARGS=ASKED, PYTHONIOENCODING="cp1252")
    assert (folder / NAME).read_bytes() == BODY
    assert f"{NAME} is in {tmp_path}{os.sep}\\u6a21\\u578b, verified." in output
    assert "failed" not in output
    hub.files.clear()
    (folder / NAME).unlink()
    output = launch(webui, hub, "--ckpt-dir", str(folder), COMMANDLINE_ARGS=ASKED, PYTHONIOENCODING="cp1252")
    assert f"save it as {tmp_path}{os.sep}\\u6a21\\u578b" in output
    assert "and then tries once more" in output


def test_a_terminal_that_goes_away_does_not_end_an_installation(webui: Path, hub: Hub) -> None:
    with (webui / "guard" / "sitecustomize.py").open("a") as guard:
        guard.write("from lib_depth2img.webui import launch_flag\nlaunch_flag._TERMINAL = '/dev/full'\n")
    output = launch(webui, hub, COMMANDLINE_ARGS=ASKED)
    assert (models(webui) / NAME).read_bytes() == BODY
    assert f"{NAME} is in {models(webui)}, verified." in output


def test_a_line_that_is_written_over_leaves_no_rest(capsys: pytest.CaptureFixture[str]) -> None:
    console = ConsoleProgress(sys.stdout)
    for rate, done in ((1e6, 10**8), (1e6, 10**9), (1e7, 2 * 10**9)):
        console.show(Progress("downloading", "x.ckpt", done, 2 * 10**9, rate, 100 if done < 10**9 else 9))
    first, second, third = capsys.readouterr().out.split("\r")[1:]
    assert len(first) == len(second)
    assert third.endswith("\n")
