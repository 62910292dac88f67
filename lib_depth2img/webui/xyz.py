"""The X/Y/Z plot's axes: one per field of the table that a single number, word or yes/no says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import EstimatorError
from ..request.fields import FIELDS
from ..request.kinds import Choice, Field, Flag, Number
from .estimators import CHECKPOINT, ESTIMATORS
from .hosts import host

__all__ = ["axis_options", "cell_values", "register", "unregister"]

_PREFIX = "[Depth2Img] "
_CELL = "_depth2img_axes"


def register() -> None:
    """Add the axes to the host's X/Y/Z plot; registering twice is the same as once."""
    unregister()
    module = host.xyz_grid()
    if module is not None:
        module.axis_options.extend(axis_options(module.AxisOptionImg2Img))


def unregister() -> None:
    """Take the axes away again."""
    module = host.xyz_grid()
    if module is not None:
        module.axis_options[:] = [option for option in module.axis_options if not option.label.startswith(_PREFIX)]


def axis_options(option_class: Callable[..., Any]) -> list[Any]:
    """The axes; ``option_class``: the host's ``AxisOptionImg2Img`` (scripts/xyz_grid.py:218)."""
    return [_axis(option_class, entry) for entry in FIELDS if entry.axis]


def cell_values(p: Any) -> dict[str, Any]:
    """What the cell of ``p`` asks for, by field name; nothing outside of a plot."""
    values: dict[str, Any] = getattr(p, _CELL, {})
    return values


def _axis(option_class: Callable[..., Any], entry: Field) -> Any:
    number = isinstance(entry, Number)

    def parsed(value: Any) -> Any:
        # A range such as 0.5-1 (+0.1) comes with the rounding errors of numpy.arange.
        return entry.check(round(value, 6)) if number else entry.parse(str(value))

    def confirm(_p: Any, values: Sequence[Any]) -> None:
        for value in values:
            checked = parsed(value)
            if entry.name == "estimator":
                _refuse_missing(checked)

    def apply(p: Any, value: Any, _values: Sequence[Any]) -> None:
        # A new dict: cells are shallow copies of one p (xyz_grid.py:711).
        setattr(p, _CELL, {**getattr(p, _CELL, {}), entry.name: parsed(value)})

    return option_class(
        _PREFIX + entry.label, float if number else str, apply, confirm=confirm, choices=_choices(entry)
    )


def _refuse_missing(estimator: str) -> None:
    """A cell whose estimator is not installed would come out black, without a word (xyz_grid.py:392)."""
    for status in ESTIMATORS.statuses():
        if status.name == estimator != CHECKPOINT and not status.ready:
            raise EstimatorError(status.in_panel or status.note)


def _choices(entry: Field) -> Callable[[], list[str]] | None:
    if entry.name == "estimator":
        return lambda: [status.name for status in ESTIMATORS.statuses() if status.ready or status.name == CHECKPOINT]
    if isinstance(entry, Flag):
        return lambda: ["True", "False"]
    if isinstance(entry, Choice):
        return lambda: entry.values
    return None
