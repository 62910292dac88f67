"""The comparison notices what it is there for, and a row that cannot run is never one that passed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.versions import __main__ as runner
from tests.versions.table import REFERENCE, ROWS, SUITE, Environment, Row
from tests.versions.values import differences, refused

ROOT = Path(__file__).parents[2]


def written(**changes):
    """The values of one estimator whose map goes from 100 to 300."""
    nearness = np.linspace(100, 300, 64, dtype=np.float64).reshape(8, 8)
    return {"nearness dpt": nearness, "names dpt": np.array(["a (1,)", "b (2, 3)"]), **changes}


def shifted(share: float) -> np.ndarray:
    nearness = written()["nearness dpt"].copy()
    nearness[3, 4] -= share * 200
    return nearness


def test_equal_values_are_equal():
    assert differences(written(), written()) == ({"dpt": 0.0}, [])


@pytest.mark.parametrize(("share", "fails"), [(0.5e-5, False), (2e-5, True), (np.nan, True)])
def test_a_difference_counts_in_shares_of_the_range(share, fails):
    largest, wrong = differences(written(), written(**{"nearness dpt": shifted(share)}))
    assert largest["dpt"] == pytest.approx(share, rel=1e-6, nan_ok=True)
    assert [line.split(":")[0] for line in wrong] == ["dpt"] * fails


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a (1,)"], r"1 missing .* as b \(2, 3\)"),
        (["a (1,)", "b (2, 3)", "c (4,)"], r"1 left over .* as c \(4,\)"),
        (["a (1,)", "b (3, 2)"], r"1 missing .* as b \(2, 3\)"),
    ],
)
def test_a_name_or_shape_of_another_kind_is_named(names, said):
    _, wrong = differences(written(), written(**{"names dpt": np.array(names)}))
    assert re.search(said, wrong[0])


def test_an_estimator_or_a_part_of_its_map_must_not_be_missing():
    everything = written()
    for other in ({}, {**everything, "nearness dpt": everything["nearness dpt"][:4]}):
        assert any("no map" in line for line in differences(everything, other)[1])


def test_an_estimator_that_a_timm_is_too_old_for_is_refused_in_the_rows_that_say_so_and_in_no_other():
    everything, said = written(), {"refused dpt": np.array("needs timm 0.9.0")}
    assert differences(everything, said) == ({}, [])
    assert refused(said) == {"dpt": "needs timm 0.9.0"}
    assert refused(everything) == {}
    old = Row("old", SUITE, None, (), refused=frozenset({"dpt"}))
    assert runner._not_refused_as_asked(old, refused(said)) == []
    assert runner._not_refused_as_asked(old, {}) == ["dpt: was built, though this timm is called too old"]
    assert runner._not_refused_as_asked(REFERENCE, refused(said)) == ["dpt: needs timm 0.9.0"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run one made-up row in place of the table; gives the exit status and what was printed."""

    def run(row: Row, *, tests: int = 0, values=None) -> tuple[int, str]:
        monkeypatch.setattr(runner, "MADE", tmp_path)
        monkeypatch.setattr(runner, "ROWS", (row,))
        versions = '{"python": "3", "torch": "2.1.2+cu121"}'
        given = {name: {"versions": np.array(versions), **(values or written())} for name in (row.name,)}
        given[REFERENCE.name] = {"versions": np.array(versions), **written()}
        monkeypatch.setattr(runner, "_values", lambda row, *_: given[row.name])
        monkeypatch.setattr(runner, "_call", lambda *_: (tests, "1 passed" if not tests else "1 failed"))
        return runner.main([]), capsys.readouterr().out

    return run


def test_a_row_passes_with_its_tests_and_values(run):
    status, said = run(Row("made-up", SUITE, None, ()))
    assert status == 0
    assert said.startswith("made-up: passed, ")
    assert said.endswith("versions: 1 passed, 0 failed\n")


def test_a_row_fails_with_a_test(run):
    status, said = run(Row("made-up", SUITE, None, ()), tests=1)
    assert status == 1
    assert said.endswith("versions: 0 passed, 1 failed\n")


def test_a_row_fails_with_its_values(run):
    status, said = run(Row("made-up", SUITE, None, ()), values=written(**{"nearness dpt": shifted(2e-5)}))
    assert status == 1
    assert "dpt: differs by 2.0e-05" in said


def test_a_row_fails_when_another_version_than_its_own_was_imported(run, monkeypatch):
    monkeypatch.setattr(runner, "_python", lambda environment: "python")
    status, said = run(Row("made-up", Environment("made-up", ("3.10",), ("torch==2.0.1",)), None, ()))
    assert status == 1
    assert "torch 2.1.2+cu121 was imported instead of 2.0.1" in said


def test_a_row_without_its_python_is_not_one_that_passed(run):
    status, said = run(Row("made-up", Environment("made-up", ("3.99",)), None, ()))
    assert status == 1
    assert re.match(r"made-up: not run, 0 s, no python3\.99 on this machine\n", said)
    assert said.endswith("versions: 0 passed, 0 failed, 1 not run\n")


def test_what_the_rows_leave_out_and_pick_is_there():
    """A file that was renamed would silently be no longer left out, or no longer run."""
    named = {argument.removeprefix("--ignore=") for row in ROWS for argument in row.tests}
    assert [path for path in named if not (ROOT / path).exists()] == []
