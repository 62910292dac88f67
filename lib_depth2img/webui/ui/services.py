"""What the panel and the Extras tab ask of the host, as one protocol: they are built and tested without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ...estimators.detail import AS_TRAINED, Detail

if TYPE_CHECKING:
    from PIL import Image

    from ...depth.depth_map import DepthMap
    from ...progress import Progress

__all__ = ["Download", "EstimatorStatus", "ModelStatus", "PanelServices"]


@dataclass(frozen=True)
class ModelStatus:
    """The loaded checkpoint's name, None while there is none, and whether it is a depth model."""

    checkpoint: str | None
    is_depth_model: bool


@dataclass(frozen=True)
class EstimatorStatus:
    """One estimator, ``checkpoint`` included: can it run now, and in a few words why or from where.

    ``in_panel``: the note in the panel's words, where they are others.
    """

    name: str
    ready: bool
    note: str
    in_panel: str = ""


@dataclass(frozen=True)
class Download:
    """One thing that can be installed: the model pair in one form, or one estimator's weights.

    ``remark``: what is to be said beside the licence, mostly nothing.
    """

    name: str
    title: str
    nbytes: int
    licence: str
    licence_url: str
    installed: bool
    remark: str = ""


class PanelServices(Protocol):
    """Every method may raise a ``Depth2ImgError``, whose text is shown to the user as it is."""

    def model(self) -> ModelStatus:
        """The checkpoint as it is loaded now. Cheap: asked whenever the page is looked at."""

    def estimators(self) -> Sequence[EstimatorStatus]:
        """All estimators in the order in which they are offered. Cheap, and opens no weights."""

    def default_estimator(self) -> str:
        """The estimator the settings page names."""

    def init_picture(self, picture: Image.Image) -> Image.Image:
        """A picture of the tab, of any mode, as a generation would begin from it: RGB, turned, without transparency."""

    def estimate(self, picture: Image.Image, estimator: str, detail: Detail = AS_TRAINED) -> DepthMap:
        """The depth of an RGB picture, from the cache where it was seen before; waits behind a running generation."""

    def downloads(self) -> Sequence[Download]:
        """What the install box offers, the recommended one first."""

    def install(self, name: str, *, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> str:
        """Download and verify ``Download.name``; one sentence on what was done and what to do next.

        Raises:
            InstallError: it could not be brought in; ``InstallCancelled`` once ``cancelled()`` is true.
        """

    def add_trial_checkpoint(self) -> str:
        """Copy the small trial checkpoint into the models folder; its title in the list, for the page to select."""
