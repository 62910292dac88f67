"""What this extension asks of the WebUI it runs in, as one interface: another host is another file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ...depth.control import Rows
    from ...estimators.estimator import Manage

__all__ = ["Answer", "Event", "Host", "Point", "Selected"]

Answer = Callable[["Callable[[torch.Tensor], torch.Tensor]", "torch.Tensor", "Rows", float], "torch.Tensor"]
"""What answers for the UNet in one pass: as ``Control.answer``."""

Event = Literal["script_unloaded", "ui_settings", "before_ui", "app_started"]
"""When a host calls back, by the names of ``modules.script_callbacks``."""


class Point(Enum):
    """Where this extension hangs something into a host; each host knows where that is in its own modules."""

    DEPTH_STAGE = auto()
    """The class of the depth stage that a checkpoint is built with."""
    CHECKPOINT_YAML = auto()
    """From (state dict, checkpoint info) to the yaml that a checkpoint is built by."""
    CHECKPOINT_TENSORS = auto()
    """From the state dict of the selected checkpoint to the one it is built from, in a host that asks for no yaml."""
    UNLOAD = auto()
    """Called when the checkpoint leaves the memory."""
    TXT2IMG_INIT = auto()
    """Where every text-to-image comes along before it samples."""
    TXT2IMG_CONDITIONING = auto()
    """Where text-to-image makes the channels beside the latent."""
    IMG2IMG_CONDITIONING = auto()
    """Where image-to-image makes them, in a host that makes none of depth."""
    TILES = auto()
    """Cuts a picture into tiles."""
    BATCH = auto()
    """Runs the img2img Batch tab."""


@dataclass(frozen=True)
class Selected:
    """The checkpoint that a generation would run on; ``name`` as the host's dropdown shows it, None for none yet."""

    name: str | None
    is_depth_model: bool


class Host(ABC):
    """One WebUI. Every answer is looked up when it is asked for: hosts replace their models and modules while they run.

    ``init_image_widgets``: the elem_ids of the picture widgets of the img2img tabs, in the order of these tabs.
    ``keeps_depth_stage``: whether a depth model in memory has its depth stage with it, as ``depth_model``; where not,
    that is in the checkpoint's file only.
    """

    init_image_widgets: tuple[str, ...]
    keeps_depth_stage: bool

    # The checkpoint.

    @abstractmethod
    def selected(self) -> Selected:
        """The checkpoint that the next generation runs on; asking does not load one."""

    @abstractmethod
    def loaded_model(self) -> Any:
        """The checkpoint in memory, or None."""

    @abstractmethod
    def checkpoint_file(self) -> Path:
        """The file of the checkpoint in use; it may have gone since."""

    @abstractmethod
    def file_of(self, name: str | None) -> Path | None:
        """The file of the checkpoint whose name comes nearest, or None."""

    @abstractmethod
    def title_of(self, name: str) -> str:
        """What the dropdown of checkpoints calls the one of that name."""

    @abstractmethod
    def refresh_checkpoints(self) -> None:
        """Look at the checkpoint folder again."""

    @abstractmethod
    def under_lowvram(self, model: Any) -> bool:
        """Whether the host itself brings the parts of this model to the device, each for its pass."""

    # Folders.

    @abstractmethod
    def checkpoint_folder(self) -> Path:
        """Where checkpoints are put."""

    @abstractmethod
    def midas_folder(self) -> Path:
        """Where MiDaS weights are put."""

    @abstractmethod
    def checkpoint_sha256(self, file: Path, compute: Callable[[], str]) -> str:
        """The sha256 of a file in the checkpoint folder, computed once for as long as its size and time stay the same.

        Raises: OSError.
        """

    # The machine.

    @abstractmethod
    def compute_device(self) -> torch.device:
        """Where the host computes."""

    @abstractmethod
    def computes_in_float32(self) -> bool:
        """Whether the user keeps the host from half precision."""

    @abstractmethod
    def uses_low_memory(self) -> bool:
        """Whether the host spares the device's memory at the cost of time."""

    @abstractmethod
    def free_memory(self) -> None:
        """Give what torch keeps but does not use back to the device."""

    @property
    @abstractmethod
    def manage(self) -> Manage | None:
        """How the host's own management of the device's memory takes in a network of ours; None where it has none."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[Any]:
        """The lock that generations wait for; not reentrant."""

    # Options and flags.

    @abstractmethod
    def options(self) -> Any:
        """The user's settings, as attributes: the host's and those that extensions have added."""

    @abstractmethod
    def command_line(self) -> Any:
        """The flags the host was started with, as attributes."""

    @abstractmethod
    def serves_api(self) -> bool:
        """Whether the host serves its API."""

    @abstractmethod
    def add_option(
        self,
        page: tuple[str, str, str],
        name: str,
        default: Any,
        *,
        label: str,
        info: str,
        component: Any,
        arguments: Any,
    ) -> None:
        """Add a line to the page (id, title, category) of the settings, drawn as the gradio class ``component``."""

    @abstractmethod
    def remove_options(self, names: Collection[str]) -> None:
        """Take options off the settings; what the user chose stays in the host's file."""

    # Pictures.

    @abstractmethod
    def flattened(self, image: Image.Image) -> Image.Image:
        """A picture without transparency, as a generation sees it."""

    @abstractmethod
    def init_picture(self, picture: Image.Image) -> Image.Image:
        """A picture of the img2img tab as a generation begins from it: turned and flattened."""

    @abstractmethod
    def save_image(
        self, picture: Image.Image, folder: str, *, in_subfolders: bool | None = None, **details: Any
    ) -> None:
        """Save a PNG as the host saves its own pictures, under the name that its settings make.

        ``in_subfolders``: None for what the settings say. ``details``: seed, prompt, info, p and suffix.
        Raises: OSError.
        """

    @abstractmethod
    def keeps_16_bits(self) -> bool:
        """Whether a 16-bit picture stays one on its way to the user: as a file, in a reply, in the live preview."""

    # A generation.

    @abstractmethod
    def selected_script(self, p: Any) -> Any:
        """The selectable script that runs this generation, or None."""

    @abstractmethod
    def answer_for_unet(self, p: Any, answer: Answer) -> None:
        """Let ``answer`` answer for the UNet in this generation, whose sampling is about to begin."""

    @abstractmethod
    def status(self, text: str) -> AbstractContextManager[None]:
        """Show a few words over the progress bar meanwhile."""

    @abstractmethod
    def batch_pictures(self, source: Any, suffixes: Collection[str]) -> list[str]:
        """The very names that the Batch tab reads from ``source``: a folder, or files that were uploaded."""

    @abstractmethod
    def watching_batch(
        self, reads: Callable[[Any], None], fails: Callable[[Any, Exception], None]
    ) -> AbstractContextManager[None]:
        """In it, ``reads`` is told what the Batch tab reads, before it does, and ``fails`` what it could not read.

        What it could not read it passes over; the host alone would end there, or go on without a word.
        """

    # Where this extension is hung in.

    @abstractmethod
    def prepare(self) -> None:
        """Make the host able to load the small packaged checkpoint, and to sample from any depth model."""

    @abstractmethod
    def init_image_of(self, component: Any, keywords: Mapping[str, Any]) -> str | None:
        """Which of ``init_image_widgets`` a gradio component is that was just built with ``keywords``, or None."""

    @abstractmethod
    def script_class(self) -> Any:
        """The class that a script of the host inherits."""

    @abstractmethod
    def always_visible(self) -> Any:
        """What ``show`` of an always-on script answers."""

    @abstractmethod
    def extras_class(self) -> Any:
        """The class that a script of the Extras tab inherits."""

    @abstractmethod
    def accordion_class(self) -> Any:
        """A gradio accordion whose being open means yes."""

    @abstractmethod
    def xyz_grid(self) -> Any:
        """The module of the X/Y/Z plot, or None."""

    @abstractmethod
    def call_back(self, event: Event, function: Callable[..., None]) -> None:
        """Ask to be called at ``event``."""

    @abstractmethod
    def replace(self, point: Point, make: Callable[[Any], Any]) -> None:
        """Put ``make(what stands there)`` in the place of what stands at ``point``; twice is the same as once.

        Nothing happens where the host has no such point.
        """

    @abstractmethod
    def undo(self) -> None:
        """Take back what ``prepare`` did, and put back everything that ``replace`` replaced, the latest first."""
