"""What the panel and the Extras tab ask of the host, as one protocol: they are built and tested without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from ..depth.depth_map import DepthMap

__all__ = ["Download", "EstimatorStatus", "InstallProgress", "ModelStatus", "PanelServices"]


@dataclass(frozen=True)
class ModelStatus:
    """The loaded checkpoint's name, None while there is none, and whether it is a depth model."""

    checkpoint: str | None
    is_depth_model: bool


@dataclass(frozen=True)
class EstimatorStatus:
    """One estimator, ``checkpoint`` included: can it run now, and in a few words why or from where."""

    name: str
    ready: bool
    note: str


@dataclass(frozen=True)
class Download:
    """One thing that can be installed: the model pair in one form, or one estimator's weights."""

    name: str
    title: str
    nbytes: int
    licence: str
    licence_url: str
    installed: bool


@dataclass(frozen=True)
class InstallProgress:
    """How far a download is: bytes done and in all, bytes per second, seconds left (None while unknown)."""

    file: str
    done: int
    total: int
    rate: float
    seconds_left: float | None


class PanelServices(Protocol):
    """Every method may raise a ``Depth2ImgError``, whose text is shown to the user as it is."""

    def model(self) -> ModelStatus:
        """The checkpoint as it is loaded now. Cheap: asked whenever the page is looked at."""

    def estimators(self) -> Sequence[EstimatorStatus]:
        """All estimators in the order in which they are offered. Cheap, and opens no weights."""

    def default_estimator(self) -> str:
        """The estimator the settings page names."""

    def estimate(self, picture: Image.Image, estimator: str) -> DepthMap:
        """The depth of a picture, from the cache where it was seen before; waits its turn behind a running generation."""

    def downloads(self) -> Sequence[Download]:
        """What the install box offers, the recommended one first."""

    def install(
        self, name: str, *, on_progress: Callable[[InstallProgress], None], cancelled: Callable[[], bool]
    ) -> str:
        """Download and verify; what was done and what to do next, in one sentence. Raises: InstallError, InstallCancelled."""

    def use_trial_checkpoint(self) -> str:
        """Copy the small trial checkpoint into the models folder and select it; one sentence on what was done."""
