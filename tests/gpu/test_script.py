"""``benchmarks/gpu.py`` tried out on the CPU, and its checks on a GPU that is pretended."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.gpu import checks
from tests.gpu.subjects import Subject, subject
from tests.pretend import pretended

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose by more, above all on a machine that has other things to do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as it finds its neighbours when it is started."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


def named(results: list[dict[str, str]]) -> dict[tuple[str, str], str]:
    """Outcomes by check and precision."""
    return {(result["check"], result["precision"]): result["outcome"] for result in results}


ALL = {
    *((name, precision) for name in checks.EACH_PRECISION for precision in checks.PRECISIONS),
    *((name, "") for name in (*checks.EACH_NETWORK, *checks.ONCE)),
}
TIMINGS = {("timings, network", ""), ("timings, conditioning", "")}
LEFT_OUT_ON_A_CPU = {
    *((name, "float16") for name in checks.EACH_PRECISION),
    ("depth stage to the CPU and back", ""),
    ("depth stage on the device for one pass", ""),
    ("depth stage brought in by lowvram's hook", ""),
    ("out of memory, own network", ""),
}


def test_on_a_cpu_every_check_is_reported_and_the_tables_have_their_rows(gpu, tmp_path, capsys) -> None:
    output = tmp_path / "gpu.json"
    assert gpu.main(["--device", "cpu", "--quick", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    outcomes = named(found["results"])
    assert outcomes.keys() == ALL | TIMINGS
    assert {key for key, outcome in outcomes.items() if outcome == "left out"} == LEFT_OUT_ON_A_CPU
    assert set(outcomes.values()) == {"passed", "left out"}

    printed = capsys.readouterr().out
    for name, precision in ALL | TIMINGS:
        assert f"| {', '.join(filter(None, (name, precision)))} |" in printed
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    for precision in ("float32", "bfloat16"):
        for size in (1, 2):
            (row,) = [row for row in rows if row[0] == f"| {precision}, {size}"]
            assert row[1].endswith("x"), "no ratio"
            assert all(cell.endswith("/s") for cell in row[2:5])
            assert row[5:] == ["-", "-", "- |"], "a CPU's memory is not counted"
    assert [row[0] for row in rows if row[0].startswith("| batch")] == ["| batch 1", "| batch 2"]
    assert "Peak memory was not measured" in printed
    assert "The bare host was not measured" in printed
    assert "The figures say nothing." in printed


def test_a_failing_check_is_said_and_makes_the_script_fail(gpu, monkeypatch, capsys) -> None:
    def failing(*_: object) -> dict[str, float]:
        raise AssertionError("it does not hold")

    for table in (checks.EACH_PRECISION, checks.EACH_NETWORK, checks.ONCE):
        for name in table:
            monkeypatch.setitem(table, name, lambda *_: {})
    for name in ("_measure_network", "_measure_conditioning"):
        monkeypatch.setattr(gpu, name, lambda *_: {})
    assert gpu.main(["--device", "cpu", "--quick"]) == 0
    assert "failed" not in capsys.readouterr().out

    monkeypatch.setitem(checks.EACH_NETWORK, "depth stage in half", failing)
    assert gpu.main(["--device", "cpu", "--quick"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("failed: depth stage in half: small") == 2, "once as it comes, once at the end"
    assert "AssertionError: it does not hold" in printed
    assert printed.count("passed: ") == len(ALL | TIMINGS) - 1, "the others run all the same"


def test_timings_that_break_fail_too_and_leave_the_others(gpu, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(checks, "run_all", lambda *_: iter(()))
    monkeypatch.setattr(gpu, "_measure_network", lambda *_: 1 / 0)
    assert gpu.main(["--device", "cpu", "--quick", "--output", str(tmp_path / "gpu.json")]) == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert named(found["results"]) == {("timings, network", ""): "failed", ("timings, conditioning", ""): "passed"}
    assert found["conditioning"].keys() == {"1", "2"}


def test_a_device_that_is_not_here_is_named(gpu, capsys) -> None:
    assert gpu.main([]) == 2
    assert "finds no cuda device" in capsys.readouterr().err


def test_carried_wheels_come_first(gpu, tmp_path, capfd) -> None:
    """Here a timm that says so when it is imported."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    command = ["--device", "cpu", "--wheels", str(wheels)]
    assert gpu.main(command) == 2
    assert "there is no wheel in" in capfd.readouterr().err
    with zipfile.ZipFile(wheels / "timm-9.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("timm.py", "raise ImportError('this is the carried one')")
        wheel.writestr("timm-9.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: timm\nVersion: 9.0\n")
        wheel.writestr("timm-9.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("timm-9.0.dist-info/RECORD", "")
    assert gpu.main(command) == 2
    assert "error: this is the carried one" in capfd.readouterr().err


def test_a_package_called_tests_is_not_taken_for_ours(gpu, monkeypatch, tmp_path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tests")
    assert importlib.util.find_spec("tests").origin == str(tmp_path / "tests" / "__init__.py")
    gpu.use_own_tests()
    assert importlib.util.find_spec("tests.gpu.checks").origin == checks.__file__


def test_all_checks_run_on_a_pretended_gpu() -> None:
    with pretended():
        results = list(checks.run_all([subject("small", torch.device("cuda"), quick=True)]))
    assert {(result.check, result.precision) for result in results} == ALL
    assert {str(result) for result in results if result.outcome == "failed"} == set()
    assert [result.check for result in results if result.outcome == "left out"] == ["out of memory, own network"]


class TestTheChecksCanFail:
    """On a pretended GPU, with a stage that does what it should not."""

    @pytest.fixture
    def on(self) -> Subject:
        with pretended():
            return subject("small", torch.device("cuda"), quick=True)

    def outcome(self, on: Subject, name: str, monkeypatch: pytest.MonkeyPatch, spoil: nn.Module) -> str:
        """What the check says of a stage whose output goes through ``spoil``."""
        stage = Subject.stage

        def spoiled(self: Subject) -> nn.Module:
            made = stage(self)
            made.register_forward_hook(lambda module, args, output: spoil(output))
            return made

        monkeypatch.setattr(Subject, "stage", spoiled)
        with pretended(), contextlib.redirect_stderr(None):
            return checks.run(name, "small", "", lambda: checks.EACH_NETWORK[name](on)).said

    def test_something_stays_on_the_device(self, on, monkeypatch) -> None:
        kept = []

        class Keeps(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                kept.append(torch.zeros(2 * checks.MIB, dtype=torch.uint8, device="cuda"))
                return x

        said = self.outcome(on, "depth stage to the CPU and back", monkeypatch, Keeps())
        assert "MiB stay on the device" in said

    def test_the_map_is_another(self, on, monkeypatch) -> None:
        class Rounds(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return 300 * (x / 300).to(torch.int32).to(torch.float32)

        assert "the correlation is" in self.outcome(on, "depth stage in half", monkeypatch, Rounds())
