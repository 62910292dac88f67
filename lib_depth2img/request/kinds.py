"""The kinds of a request's fields: which values each takes, and how these are shown, written and read."""

from __future__ import annotations

import numbers
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..depth.extent import Extent, checked_extent
from ..errors import RequestError
from .user_image import UserImage, shortened

__all__ = ["Choice", "Count", "Field", "Flag", "Interval", "Number", "Picture", "text_of"]


@dataclass(frozen=True)
class Field(ABC):
    """One field of a request and how it is shown; the children say which values it takes.

    ``infotext``: its key in a picture's generation parameters; None for what a text cannot hold. ``axis``: it is on
    the X/Y/Z plot. ``in_tabs``: the panel's first value, where that is not the API's default.
    """

    name: str
    label: str
    default: Any
    hint: str
    infotext: str | None = None
    axis: bool = False
    in_tabs: Any = None

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value as the request keeps it.

        Raises:
            RequestError: wrong type or out of range.
        """

    @abstractmethod
    def parse(self, text: str) -> Any:
        """The value from its text in an infotext or on an axis. Raises: RequestError."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """The allowed values, in words."""

    @property
    def panel_default(self) -> Any:
        """The value the panel shows at first."""
        return self.default if self.in_tabs is None else self.in_tabs

    def value_of(self, shown: Any) -> Any:
        """The value behind what the panel's widget shows; what makes no sense comes back as it is, to be checked."""
        return shown

    def shown(self, value: Any) -> Any:
        """What the panel's widget shows for a value; :meth:`value_of` reads it back."""
        return value

    def refusal(self, value: Any) -> RequestError:
        """The error for a value that is not allowed."""
        got = shortened(value)
        return RequestError(
            f"{self.name}: got {got}, expected {self.allowed}.",
            in_panel=f"{self.label}: got {got}, expected {self.allowed}.",
        )


@dataclass(frozen=True)
class Flag(Field):
    """True or false, and nothing that merely looks like it."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self.refusal(value)
        return value

    def parse(self, text: str) -> bool:
        values = {"true": True, "false": False}
        if text.strip().lower() not in values:
            raise self.refusal(text)
        return values[text.strip().lower()]


@dataclass(frozen=True)
class Number(Field):
    """A finite number in [low, high]; true and false are not numbers here."""

    low: float = 0.0
    high: float = 1.0
    step: float = 0.01

    @property
    def allowed(self) -> str:
        return f"a number from {self.low:g} to {self.high:g}"

    @property
    def least(self) -> float:
        """Where a slider begins."""
        return self.low

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise self.refusal(value)
        if not self.low <= value <= self.high:  # type: ignore[operator] # false for NaN too
            raise self.refusal(value)
        return float(value)

    def parse(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError as error:
            raise self.refusal(text) from error
        return self.check(number)


@dataclass(frozen=True)
class Count(Number):
    """A whole number in [low, high], or 0 where ``zero`` says what that means."""

    step: float = 1
    zero: str = ""

    @property
    def allowed(self) -> str:
        if self.zero:
            return f"a whole number from {self.low:g} to {self.high:g}, or 0 for {self.zero}"
        return f"a whole number from {self.low:g} to {self.high:g}"

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or value % 1 != 0:
            raise self.refusal(value)
        if not (value == 0 and self.zero) and not self.low <= value <= self.high:  # type: ignore[operator]
            raise self.refusal(value)
        return int(value)  # type: ignore[call-overload] # numbers.Real has no __int__

    @property
    def least(self) -> float:
        return 0 if self.zero else self.low


@dataclass(frozen=True)
class Choice(Field):
    """One of ``choices()``, each a (value, label). The panel shows labels; everything else speaks in values."""

    choices: Callable[[], Sequence[tuple[str, str]]] = tuple

    @property
    def values(self) -> list[str]:
        """What a request may hold."""
        return [value for value, _ in self.choices()]

    @property
    def labels(self) -> list[str]:
        """What the panel shows, in the order of ``values``."""
        return [label for _, label in self.choices()]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(self.values)}"

    def check(self, value: Any) -> str:
        if value == self.default:
            return self.default
        if not isinstance(value, str) or value not in self.values:
            raise self.refusal(value)
        return value

    def parse(self, text: str) -> str:
        return self.check(text.strip())

    def label_of(self, value: str) -> str:
        """The label of a value of ``values``."""
        return dict(self.choices())[value]

    def shown(self, value: Any) -> str:
        return self.label_of(value)

    def value_of(self, shown: Any) -> Any:
        for value, label in self.choices():
            if shown == label:
                return value
        return shown


@dataclass(frozen=True)
class Interval(Field):
    """Two numbers, the lower one first, or None. As a text "0.5 to 20"; also "0.5:20", "[0.5, 20]", "" for None."""

    @property
    def allowed(self) -> str:
        return "two numbers, the lower one first"

    def check(self, value: Any) -> Extent | None:
        return None if value is None else checked_extent(self.name, value)

    def parse(self, text: str) -> Extent:
        try:
            lowest, highest = map(float, re.split("to|[:,]", text.strip(" []()")))
        except ValueError as error:
            raise self.refusal(text) from error
        return checked_extent(self.name, (lowest, highest))

    def value_of(self, shown: Any) -> Any:
        if not isinstance(shown, str):
            return shown
        return self.parse(shown) if shown.strip() else None

    def shown(self, value: Any) -> str:
        return "" if value is None else text_of(value)  # the host pastes no None: the widget would stay as it was


@dataclass(frozen=True)
class Picture(Field):
    """A decoded picture or depth map, or None."""

    def parse(self, text: str) -> Any:
        """A text holds no picture. Raises: RequestError, always."""
        raise self.refusal(text)

    @property
    def allowed(self) -> str:
        return "base64 of the bytes of a file"

    def check(self, value: Any) -> UserImage | None:
        if value is not None and not isinstance(value, UserImage):
            raise self.refusal(value)
        return value


def text_of(value: Any) -> str:
    """A field's value as an infotext has it; :meth:`Field.parse` reads it back."""
    if isinstance(value, tuple):
        return " to ".join(map(text_of, value))
    return f"{value:.10g}" if isinstance(value, float) else str(value)
