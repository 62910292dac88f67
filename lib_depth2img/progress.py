"""How a long piece of work tells where it is, and learns that it should stop."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .errors import InstallCancelled

__all__ = ["Listener", "Phase", "Progress", "Reporter"]

Phase = Literal[
    "waiting", "asking", "downloading", "verifying", "writing", "checking", "sampling", "estimating", "writing video"
]

RATE_WINDOW = 5.0  # seconds over which the rate is taken: long enough to be calm, short enough to show a stall
REPORT_EVERY = 0.2  # seconds between two calls of the listener
_UNCOUNTED = {
    "waiting": "waiting for another installation of it to finish",
    "asking": "asking where it can be had",
}


@dataclass(frozen=True)
class Progress:
    """A moment of a long piece of work: what is being done with what, and how much of how many, where that is known.

    ``unit``: of ``done`` and ``total``; bytes, or what the word says. ``rate``: in bytes per second. ``seconds_left``:
    None where nothing is known.
    """

    phase: Phase
    name: str
    done: int
    total: int | None
    rate: float = 0.0
    seconds_left: float | None = None
    unit: Literal["B", "step", "picture", "frame"] = "B"

    @property
    def can_be_counted(self) -> bool:
        """Whether there is anything to count; the other phases are told by a sentence alone."""
        return self.phase not in _UNCOUNTED

    def __str__(self) -> str:
        """One line for people, such as "downloading x.ckpt: 1.20 of 5.71 GB, 24.0 MB/s, 3 min 8 s left"."""
        if not self.can_be_counted:
            return f"{self.name}: {_UNCOUNTED[self.phase]}"
        size = f"{self.done / 1e9:.2f} of {self.total / 1e9:.2f} GB" if self.total else f"{self.done / 1e9:.2f} GB"
        left = "" if self.seconds_left is None else f", {_duration(self.seconds_left)} left"
        return f"{self.phase} {self.name}: {size}, {self.rate / 1e6:.1f} MB/s{left}"


Listener = Callable[[Progress], None]
"""Called with each moment worth telling of."""


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


class Reporter:
    """Turns byte counts into `Progress` for a listener, a few times a second; raises when the user has cancelled."""

    def __init__(self, name: str, listener: Listener | None, cancelled: Callable[[], bool] | None) -> None:
        self.name = name
        self._listener = listener
        self._cancelled = cancelled
        self._phase: Phase | None = None
        self._moments: deque[tuple[float, int]] = deque()
        self._last_report = 0.0

    def check(self) -> None:
        """Raise if the user has cancelled.

        Raises:
            InstallCancelled: the user said so.
        """
        if self._cancelled is not None and self._cancelled():
            raise InstallCancelled(
                f"The installation of {self.name} was cancelled. What was downloaded is kept for the next one."
            )

    def at(self, phase: Phase, done: int, total: int | None) -> None:
        """Report `done` bytes of `total`; the first and the last call of a phase always reach the listener.

        Raises:
            InstallCancelled: the user said so.
        """
        self.check()
        now = time.monotonic()
        if phase != self._phase or (self._moments and done < self._moments[-1][1]):
            self._phase = phase
            self._moments.clear()
            self._last_report = 0.0
        self._moments.append((now, done))
        while now - self._moments[0][0] > RATE_WINDOW and len(self._moments) > 2:
            self._moments.popleft()
        if self._listener is None or (now - self._last_report < REPORT_EVERY and done != total):
            return
        self._last_report = now
        (began, done_then) = self._moments[0]
        rate = (done - done_then) / (now - began) if now > began else 0.0
        left = (total - done) / rate if total is not None and rate > 0 else None
        self._listener(Progress(phase, self.name, done, total, rate, left))
