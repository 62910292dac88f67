"""What ``gpu.py`` found out, as JSON and as tables for ``docs/numbers.md``; the standard library alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.gpu.checks import Result

OURS, THEIRS, FROM_PICTURES = "ours", "transformers", "ours, pictures to maps"
SIDES = (OURS, THEIRS)


@dataclass(frozen=True)
class Timing:
    """Of one precision and batch size, by side: seconds per batch, and where it is counted the peak memory in MiB,
    weights included.
    """

    precision: str
    batch_size: int
    seconds: Mapping[str, float]
    peak_mib: Mapping[str, float]


@dataclass
class Report:
    """All that is found out; ``not_measured`` says what is missing, and why."""

    machine: dict[str, str]
    quick: bool
    results: list[Result] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    conditioning: dict[str, dict[str, float]] = field(default_factory=dict)
    not_measured: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Result]:
        """The checks that did not hold."""
        return [result for result in self.results if result.outcome == "failed"]

    def note(self, said: str) -> None:
        """Say once that something was not measured."""
        if said not in self.not_measured:
            self.not_measured.append(said)

    def save(self, path: Path | None) -> None:
        """Write all that there is so far as JSON."""
        if path is not None:
            path.write_text(json.dumps(dataclasses.asdict(self), indent=1), encoding="utf-8")

    def markdown(self) -> str:
        """The machine, the tables, and below them what is missing and what failed."""
        machine = [value if name == "device" else f"{name} {value}" for name, value in self.machine.items()]
        parts = [
            [", ".join(machine) + "."],
            ["Quick: a small network at small sizes, to try the script out. The figures say nothing."] * self.quick,
            _check_table(self.results),
            _network_table(self.timings),
            _conditioning_table(self.conditioning),
            *([said] for said in self.not_measured),
            *([str(result)] for result in self.failed),
        ]
        return "\n\n".join("\n".join(part) for part in parts if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _check_table(results: Iterable[Result]) -> list[str]:
    """A row for each check and precision, over all networks."""
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(", ".join(filter(None, (result.check, result.precision))), []).append(result)
    head = ("check", "networks", "the worst of them")
    return _table(head, [(name, _outcomes(row), _worst(row)) for name, row in rows.items()])


def _outcomes(results: Sequence[Result]) -> str:
    outcomes = [result.outcome for result in results]
    return ", ".join(f"{outcomes.count(name)} {name}" for name in dict.fromkeys(outcomes))


def _worst(results: Sequence[Result]) -> str:
    """Of each number: the least correlation, the largest of all else."""
    found: dict[str, list[float]] = {}
    for result in results:
        for name, number in result.numbers.items():
            found.setdefault(name, []).append(number)
    worst = {name: min(each) if name.startswith("correlation") else max(each) for name, each in found.items()}
    return ", ".join(f"{name} {number:.5g}" for name, number in worst.items())


def _network_table(timings: Iterable[Timing]) -> list[str]:
    """Pictures per second and peak memory; ratios above 1 and below 1 respectively are in our favour."""
    head = ("precision, batch", "ratio", *SIDES, FROM_PICTURES, "memory: ratio", *SIDES)
    return _table(head, [_network_row(timing) for timing in timings])


def _network_row(timing: Timing) -> list[str]:
    rates = {side: timing.batch_size / seconds for side, seconds in timing.seconds.items()}
    peaks = timing.peak_mib
    return [
        f"{timing.precision}, {timing.batch_size}",
        _ratio(rates, OURS, THEIRS),
        *(_cell(rates, side, "{:.1f}/s") for side in (*SIDES, FROM_PICTURES)),
        _ratio(peaks, OURS, THEIRS),
        *(_cell(peaks, side, "{:.0f} MiB") for side in SIDES),
    ]


def _conditioning_table(times: Mapping[str, Mapping[str, float]]) -> list[str]:
    head = ("conditioning", "ratio", "bare host", "ours", "picture seen before")
    rows = []
    for batch, seconds in times.items():
        milliseconds = {side: 1e3 * each for side, each in seconds.items()}
        sides = ("host", "ours", "ours, seen before")
        cells = [_cell(milliseconds, side, "{:.1f} ms") for side in sides]
        rows.append([f"batch {batch}", _ratio(seconds, "host", "ours"), *cells])
    return _table(head, rows)


def _ratio(values: Mapping[str, float], above: str, below: str) -> str:
    return f"{values[above] / values[below]:.2f}x" if above in values and below in values else "-"


def _cell(values: Mapping[str, float], name: str, form: str) -> str:
    return form.format(values[name]) if name in values else "-"
