"""What the panel and API clients hand over by position, by the names of the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .fields import FIELDS

__all__ = ["BATCH_ORDER", "BATCH_RANGES", "MISSING", "PANEL_ORDER", "BatchOptions", "panel_values", "script_values"]

PANEL_ORDER = (*(entry.name for entry in FIELDS), "picture")
"""What the panel returns first, so what positional arguments mean; ``picture`` is where another picture is dropped."""

BATCH_ORDER = ("batch_folder", "batch_missing", "batch_range", "batch_steady")
"""What the panel returns after ``PANEL_ORDER``."""

MISSING = ("Estimate it", "Refuse the batch")
"""What is done with a picture of a batch that has no depth map."""

BATCH_RANGES = ("Each picture's own", "One for all pictures")
"""What the depth of a batch's pictures is scaled by."""


def panel_values(values: Sequence[Any]) -> dict[str, Any]:
    """Values in ``PANEL_ORDER`` by the names of the fields; what is shown becomes values. More are not looked at.

    An upload stays in the panel when the source changes, so what lies in the box of another source is passed over: the
    box of the depth map gives bytes, and so cannot be taken for the text of an API client's picture.
    """
    named = dict(zip(PANEL_ORDER, values, strict=False))
    for entry in FIELDS:
        if entry.name in named:
            named[entry.name] = entry.value_of(named[entry.name])
    picture = named.pop("picture", None)
    if named.get("source") == "image" and (picture is not None or isinstance(named["image"], bytes)):
        named["image"] = picture
    elif named.get("source") == "init_image":
        named["image"] = None
    if named.get("source") != "depth_map":
        named.pop("meaning", None)
    return named


def script_values(args: Sequence[Any]) -> dict[str, Any]:
    """What the host hands an always-on script, by the names of the fields: nothing, one object, or ``PANEL_ORDER``.

    The host fills up with the panel's own values (modules/api/api.py:357-360), so what follows an object is not looked
    at.
    """
    if not args or args[0] is None:
        return {}
    return dict(args[0]) if isinstance(args[0], Mapping) else panel_values(args)


@dataclass(frozen=True)
class BatchOptions:
    """What the panel says about the Batch tab.

    ``folder`` None: maps are not paired. ``one_range``: for the depth of all pictures. ``steady``: the share of each
    estimate that is carried over from the picture before, 0 for none.
    """

    folder: Path | None = None
    refuse_missing: bool = False
    one_range: bool = False
    steady: float = 0.0

    @property
    def asks_nothing(self) -> bool:
        """Whether the batch is the host's own."""
        return self.folder is None and not self.one_range and self.steady == 0.0

    @classmethod
    def from_panel(cls, values: Sequence[Any]) -> BatchOptions:
        """From the panel's values, of which those of ``BATCH_ORDER`` follow those of ``PANEL_ORDER``."""
        if not values or values[PANEL_ORDER.index("enabled")] is not True:
            return cls()
        shown = dict(zip(BATCH_ORDER, values[len(PANEL_ORDER) :], strict=False))
        folder, steady = shown.get("batch_folder"), shown.get("batch_steady")
        name = folder.strip().strip('"') if isinstance(folder, str) else ""
        return cls(
            Path(name) if name else None,
            shown.get("batch_missing") == MISSING[1],
            shown.get("batch_range") == BATCH_RANGES[1],
            float(steady) if isinstance(steady, (int, float)) else 0.0,
        )
