"""Hooking in and out, and the files that the host runs itself."""

from __future__ import annotations

import argparse
import configparser
import io
import runpy
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lib_depth2img.errors import InstallError
from lib_depth2img.webui import extension
from lib_depth2img.webui.hosts import Point
from lib_depth2img.webui.hosts import host as facade
from tests.webui.hooks.stand_in import Host, Processing, Txt2Img

ROOT = Path(__file__).resolve().parents[3]

MEMORY = "backend/memory_management.py"
A1111 = ("modules/launch_utils.py", "modules/sd_models_config.py")
FORGE = (*A1111, "modules_forge/config.py", "backend/diffusion_engine/sd20.py", MEMORY)
REFORGE = (*A1111, "modules_forge/forge_loader.py", "ldm_patched/modules/text_encoders/sd2_clip.py")
NEO = ("modules/launch_utils.py", "modules_forge/config.py", "backend/diffusion_engine/sdxl.py", MEMORY)
CLASSIC = (*A1111, "modules_forge/config.py", "ldm_patched/modules/sd1_clip.py")
SDNEXT = ("installer.py", "modules/sd_models.py")
"""Files of hosts before they run."""


def places(host: Host) -> dict[str, Any]:
    """Every function of the host that may be replaced."""
    import ldm.modules.midas.api

    modules = host.modules
    return {
        "midas": ldm.modules.midas.api.MiDaSInference,
        "find_config": modules.sd_models_config.find_checkpoint_config,
        "unload": modules.sd_models.unload_model_weights,
        "split_grid": modules.images.split_grid,
        "process_batch": modules.img2img.process_batch,
        "txt2img_init": Txt2Img.init,
        "txt2img_conditioning": Processing.txt2img_image_conditioning,
    }


class TestRegister:
    def test_twice_is_once_and_unregistering_restores_all(self, host: Host) -> None:
        before = places(host)
        extension.register()
        once = places(host)
        assert all(once[name] is not before[name] for name in before)
        extension.register()
        assert {name: once[name].__qualname__ for name in once} == {
            name: place.__qualname__ for name, place in places(host).items()
        }
        extension.unregister()
        assert places(host) == before
        extension.unregister()
        assert places(host) == before

    def test_the_way_back_is_known_before_anything_is_done(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise RuntimeError("half-way")

        monkeypatch.setattr(extension.tiles, "hook", fail)
        before = places(host)
        with pytest.raises(RuntimeError):
            extension.register()
        (unregister,) = host.callbacks["on_script_unloaded"]
        unregister()
        assert places(host) == before

    def test_replacing_what_is_replaced_already(self, host: Host) -> None:
        images = host.modules.images
        before = images.split_grid
        for _ in range(3):
            facade.replace(Point.TILES, lambda original: ("mine over", original))
        assert images.split_grid == ("mine over", before)
        facade.undo()
        assert images.split_grid is before


class TestInstallFlag:
    def run(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, *, refusal: str = "no source had it", **flags: Any
    ) -> list[str]:
        asked: list[str] = []

        def download(file: Any, **_: Any) -> str:
            asked.append(file.name)
            raise InstallError(refusal)

        vars(host.modules.shared.cmd_opts).update(flags)
        monkeypatch.setattr(extension, "download_file", download)
        extension._install_as_asked(None, None)
        for thread in threading.enumerate():
            if thread.name == extension._THREAD:
                thread.join(10)
        return asked

    def test_nothing_is_fetched_unless_asked_for(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(host, monkeypatch) == []
        assert self.run(host, monkeypatch, depth2img_install=None) == []

    def test_a_failure_is_told_and_the_host_goes_on(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(host, monkeypatch, depth2img_install="fp16") == ["512-depth-ema-fp16.safetensors"]
        assert "no source had it" in capsys.readouterr().out

    def test_a_failure_is_told_on_a_console_that_knows_few_letters(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
        monkeypatch.setattr(sys, "stdout", console)
        self.run(host, monkeypatch, depth2img_install="fp16", refusal="there is no room in 模型")
        assert console.buffer.getvalue().startswith(b"Depth2Img: there is no room in \\u6a21\\u578b")
        assert console.errors == "strict", "the host's own stream stays as it is"

    def test_without_a_console_it_is_followed_all_the_same(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", None)
        assert self.run(host, monkeypatch, depth2img_install="fp16") == ["512-depth-ema-fp16.safetensors"]
        assert self.run(host, monkeypatch, depth2img_install="fp16", no_download_sd_model=True) == []

    def test_no_download_sd_model_is_honoured(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(host, monkeypatch, depth2img_install="ckpt", no_download_sd_model=True) == []
        assert "--no-download-sd-model" in capsys.readouterr().out


class TestFilesOfTheHostsContract:
    @pytest.mark.parametrize(
        ("arguments", "value"),
        [([], None), (["--depth2img-install"], "ckpt"), (["--depth2img-install", "fp16"], "fp16")],
    )
    def test_preload_adds_the_flag(self, arguments: list[str], value: str | None) -> None:
        parser = argparse.ArgumentParser()
        runpy.run_path(str(ROOT / "preload.py"))["preload"](parser)
        assert parser.parse_args(arguments).depth2img_install == value

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """The folder of a host, which has nothing yet."""
        (tmp_path / "launch.py").write_text("")
        return tmp_path

    @staticmethod
    def lay(root: Path, *files: str) -> None:
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("import torch\n\n\ndef cleanup_models():\n")

    def install(
        self, monkeypatch: pytest.MonkeyPatch, root: Path, *installed: str, failing: str = "no such package"
    ) -> list[str]:
        """modules/launch_utils.py:96 and 139: what an extension's install.py is given. Its commands."""
        commands: list[str] = []

        def run_pip(command: str, _description: str) -> None:
            commands.append(command)
            if failing in command:
                raise RuntimeError("Couldn't install it.")  # launch_utils.py:118

        file = str(root / "launch.py")
        launch = SimpleNamespace(is_installed=installed.__contains__, run_pip=run_pip, __file__=file)
        monkeypatch.setitem(sys.modules, "launch", launch)
        runpy.run_path(str(ROOT / "install.py"))
        return commands

    @pytest.mark.parametrize("files", [A1111, FORGE, REFORGE])
    def test_install_adds_what_is_missing_and_replaces_nothing(
        self, monkeypatch: pytest.MonkeyPatch, root: Path, files: tuple[str, ...]
    ) -> None:
        self.lay(root, *files)
        assert self.install(monkeypatch, root, "timm", "OpenEXR") == []
        assert self.install(monkeypatch, root, "OpenEXR") == ["install --no-deps timm"]
        assert self.install(monkeypatch, root, "timm") == ["install --no-deps --only-binary :all: OpenEXR"]

    @pytest.mark.parametrize(("package", "lost"), [("timm", "no depth with"), ("OpenEXR", "reads no OpenEXR files")])
    def test_without_the_one_the_other_is_installed(
        self,
        monkeypatch: pytest.MonkeyPatch,
        root: Path,
        capsys: pytest.CaptureFixture[str],
        package: str,
        lost: str,
    ) -> None:
        self.lay(root, *A1111)
        assert len(self.install(monkeypatch, root, failing=package)) == 2
        assert lost in capsys.readouterr().out

    @pytest.mark.parametrize("files", [SDNEXT, NEO, CLASSIC])
    def test_install_brings_nothing_into_a_host_that_is_left_alone(
        self, monkeypatch: pytest.MonkeyPatch, root: Path, files: tuple[str, ...]
    ) -> None:
        self.lay(root, *files)
        assert self.install(monkeypatch, root) == []

    def test_nor_into_a_child_of_forge_that_manages_memory_in_another_way(
        self, monkeypatch: pytest.MonkeyPatch, root: Path
    ) -> None:
        self.lay(root, *FORGE)
        (root / MEMORY).write_text("")
        assert self.install(monkeypatch, root) == []

    def test_metadata_names_the_extension(self) -> None:
        metadata = configparser.ConfigParser()
        metadata.read(ROOT / "metadata.ini")
        assert metadata["Extension"]["Name"] == "sd-webui-depth2img"

    def test_the_entry_of_the_extras_tab_is_a_class_of_the_hosts(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """scripts_postprocessing.py:80-92 registers every subclass it finds."""
        base = type("ScriptPostprocessing", (), {})
        monkeypatch.setattr(
            host.modules, "scripts_postprocessing", SimpleNamespace(ScriptPostprocessing=base), raising=False
        )
        monkeypatch.setattr(host.modules, "ui_components", SimpleNamespace(), raising=False)
        namespace = runpy.run_path(str(ROOT / "scripts" / "depth2img_extras.py"))
        found = [each for each in namespace.values() if isinstance(each, type) and issubclass(each, base)]
        assert [each.__name__ for each in found] == ["ScriptPostprocessingDepth2Img"]
        assert found[0].name == "Depth map"

    def test_the_entry_shows_one_script_to_the_host(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        """scripts.py:500-508 registers every Script class it finds in the module."""
        monkeypatch.setattr(extension, "register", lambda: None)
        names = runpy.run_path(str(ROOT / "scripts" / "depth2img.py"))
        found = [
            value
            for value in names.values()
            if isinstance(value, type) and issubclass(value, host.modules.scripts.Script)
        ]
        assert [each.__name__ for each in found] == ["Depth2ImgScript"]
