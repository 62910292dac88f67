"""``python -m tests.versions [ROW ...]``: the rows of the table, or those named, one after the other.

What a row needs and is not there is made under ``.versions/``: a virtual environment for each of the table's, a folder
for each timm, which goes before it on the path. A row fails when a test fails, when it did not get the versions it
asks for, and when the values of an estimator are not those of the reference.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.versions.table import REFERENCE, ROWS, SUITE, Environment, Row
from tests.versions.values import Written, differences, read, refused, written_versions

ROOT = Path(__file__).parents[2]
MADE = ROOT / ".versions"


class NotRunError(Exception):
    """The machine lacks what the row needs."""


class FailedError(Exception):
    """The row does not hold; the text says why."""


def main(names: Sequence[str]) -> int:
    """Run the rows of these names, or all; 1 if any failed, or if all that were asked for could not be run."""
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        print(f"No row is called {', '.join(sorted(unknown))}; expected {', '.join(row.name for row in ROWS)}.")
        return 2
    chosen = [row for row in ROWS if not names or row.name in names]
    try:
        reference = _values(REFERENCE, sys.executable, _environment(REFERENCE))
    except FailedError as reason:
        print(f"There are no values to compare with: {reason}")
        return 1
    results = [_result(row, reference) for row in chosen]
    passed, failed, not_run = (results.count(result) for result in ("passed", "failed", "not run"))
    print(f"versions: {passed} passed, {failed} failed" + (f", {not_run} not run" if not_run else ""))
    return 1 if failed or not passed else 0


def _result(row: Row, reference: Written) -> str:
    """Run one row and say in a line what came of it."""
    begun = time.monotonic()
    try:
        said = _run(row, reference)
        result = "passed"
    except NotRunError as reason:
        result, said = "not run", str(reason)
    except FailedError as reason:
        result, said = "failed", str(reason)
    print(f"{row.name}: {result}, {time.monotonic() - begun:.0f} s, {said}", flush=True)
    return result


def _run(row: Row, reference: Written) -> str:
    python = _python(row.environment)
    environment = _environment(row)
    values = reference if row is REFERENCE else _values(row, python, environment)
    versions = written_versions(values)
    largest, wrong = differences(reference, values)
    wrong += _not_as_asked(row, versions) + _not_refused_as_asked(row, refused(values))
    # Warnings are errors by the suite's own settings; its cache is the main suite's.
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_ignored(row), *_without(row), *row.tests]
    ended, tests = _call(row, "tests", environment, command)
    if ended:
        wrong.append(f"tests, exit status {ended}:\n{tests}")
    said = "\n  ".join(
        (
            ", ".join(f"{name} {version}" for name, version in versions.items()),
            "tests: " + tests.rpartition("\n")[2],
            "differences: " + ", ".join(f"{name} {value:.1e}" for name, value in largest.items()),
        )
    )
    if wrong:
        raise FailedError("\n  ".join([said, *wrong]))
    return said


def _not_as_asked(row: Row, versions: dict[str, str]) -> list[str]:
    """Pinned packages of which another version was imported."""
    asked = (
        requirement.split("==") for requirement in (*row.environment.packages, row.timm or "") if "==" in requirement
    )
    return [
        f"{name} {versions[name]} was imported instead of {pinned}"
        for name, pinned in asked
        if name in versions and versions[name].partition("+")[0] != pinned
    ]


def _not_refused_as_asked(row: Row, said: dict[str, str]) -> list[str]:
    """Estimators that could not be built though they should, or could though they should not."""
    wrong = [f"{name}: {said[name]}" for name in sorted(said.keys() - row.refused)]
    return wrong + [f"{name}: was built, though this timm is called too old" for name in row.refused - said.keys()]


def _values(row: Row, python: str, environment: dict[str, str]) -> Written:
    path = MADE / "values" / f"{row.name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [python, "-W", "error", *_ignored(row), "-m", "tests.versions.values", str(path)]
    ended, said = _call(row, "values", environment, command)
    if ended:
        raise FailedError(f"values, exit status {ended}:\n{said}")
    return read(path)


def _without(row: Row) -> list[str]:
    """Tests of estimators that this timm is too old for."""
    return ["-k", " and ".join(f"not {name}" for name in sorted(row.refused))] if row.refused else []


def _ignored(row: Row) -> list[str]:
    """Options that Python and pytest have in common."""
    return [f"-Wignore:{beginning}:FutureWarning" for beginning in row.ignored]


def _environment(row: Row) -> dict[str, str]:
    """The variables of its processes: its timm goes before all that is installed."""
    if row.timm is None:
        return dict(os.environ)
    folder = MADE / row.timm.replace("==", "-")
    _made(folder, [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder)], (row.timm,))
    return {**os.environ, "PYTHONPATH": str(folder)}


def _python(environment: Environment) -> str:
    if environment is SUITE:
        return sys.executable
    found = next((python for python in map(_interpreter, environment.pythons) if python), None)
    if found is None:
        raise NotRunError(f"no {' or '.join(f'python{version}' for version in environment.pythons)} on this machine")
    folder = MADE / environment.name
    python = folder / "bin" / "python"
    if not python.exists():
        _install([found, "-m", "venv", str(folder)])
    _made(folder, [str(python), "-m", "pip", "install"], environment.packages)
    return str(python)


def _interpreter(version: str) -> str | None:
    """The one of that version; a name on the path may be a shim behind which there is none."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-c", ""], check=False, stderr=subprocess.DEVNULL).returncode == 0:
        return found
    return None


def _made(folder: Path, install: list[str], requirements: tuple[str, ...]) -> None:
    """Install into ``folder``, unless these requirements were installed into it before."""
    ready = folder / ".ready"
    wanted = "\n".join(requirements)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"Making {folder.relative_to(ROOT)}, once.", flush=True)
        _install([*install, "--quiet", "--disable-pip-version-check", *requirements])
        ready.write_text(wanted)


def _install(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise FailedError(f"could not be made: {' '.join(command)}")


def _call(row: Row, what: str, environment: dict[str, str], command: list[str]) -> tuple[int, str]:
    """Its exit status and the end of what it printed; all of that is kept beside the values."""
    log = MADE / "values" / f"{row.name}-{what}.txt"
    with log.open("w") as file:
        ended = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False)
    return ended.returncode, "\n".join(log.read_text(errors="replace").splitlines()[-30:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
