"""The panel's small pieces of HTML: status line, notes, errors. Everything that comes from outside is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

from ...errors import Depth2ImgError
from ...progress import Progress
from .services import EstimatorStatus, ModelStatus

__all__ = [
    "GRID",
    "done_line",
    "error_line",
    "estimator_note",
    "licence_line",
    "note_line",
    "progress_bar",
    "status_line",
]


GRID = ["depth2img-grid"]
"""The class of rows whose widgets stand side by side where labels need not wrap for it (style.css)."""


def status_line(model: ModelStatus, *, asked: bool = False) -> str:
    """Whether the loaded checkpoint is a depth model; depth2img.js reads both from the ``data-``.

    ``asked``: the page asked for it, so it is not what was true when the panel was built.
    """
    if model.checkpoint is None:
        kind, text = "idle", "No checkpoint is loaded yet."
    elif model.is_depth_model:
        kind, text = "ready", f"Depth model loaded: {model.checkpoint}"
    else:
        kind = "idle"
        text = (
            f"{model.checkpoint} is not a depth model, so this panel has no effect on generation. "
            "Choose a depth model as the checkpoint, or get one below."
        )
    data = (
        f'data-depth-model="{str(model.is_depth_model).lower()}" data-asked="{str(asked).lower()}" '
        f'data-checkpoint="{html.escape(model.checkpoint or "")}"'
    )
    return f'<p class="depth2img-status depth2img-{kind}" {data}>{html.escape(text)}</p>'


def estimator_note(estimators: Sequence[EstimatorStatus], chosen: str) -> str:
    """What there is to say about the chosen estimator; a warning when it cannot run."""
    for estimator in estimators:
        if estimator.name == chosen:
            kind = "note" if estimator.ready else "warning"
            return f'<p class="depth2img-{kind}">{html.escape(estimator.in_panel or estimator.note)}</p>'
    return ""


def error_line(error: object) -> str:
    """A refusal, in the words that its author has for the panel."""
    text = error.in_panel if isinstance(error, Depth2ImgError) else str(error)
    return f'<p class="depth2img-error" role="alert">{html.escape(text)}</p>'


def done_line(text: str, *, select_checkpoint: str | None = None) -> str:
    """A good end; depth2img.js selects the named checkpoint where one is given."""
    select = f' data-select-checkpoint="{html.escape(select_checkpoint)}"' if select_checkpoint else ""
    return f'<p class="depth2img-done"{select}>{html.escape(text)}</p>'


def note_line(text: str) -> str:
    """A remark."""
    return f'<p class="depth2img-note">{html.escape(text)}</p>'


def licence_line(name: str, url: str) -> str:
    """A licence with its link."""
    link = f'<a href="{html.escape(url)}" target="_blank" rel="noreferrer">{html.escape(name)}</a>'
    return f'<p class="depth2img-note">Licence: {link}</p>'


def progress_bar(progress: Progress) -> str:
    """A bar with size, rate and time left, as far as they are known; a sentence where there are no bytes to count."""
    if not progress.can_be_counted:
        return f'<div class="depth2img-progress"><p>{html.escape(str(progress))}</p><progress max="1"></progress></div>'
    facts = [_size(progress.done) + (f" of {_size(progress.total)}" if progress.total else "")]
    if progress.phase == "downloading" and progress.rate > 0:
        facts.append(f"{progress.rate / 1e6:.1f} MB/s")
    if progress.seconds_left is not None:
        facts.append(f"{_duration(progress.seconds_left)} left")
    value = f' value="{min(1.0, progress.done / progress.total):.4f}"' if progress.total else ""
    return (
        f'<div class="depth2img-progress"><p>{progress.phase.capitalize()} {html.escape(progress.name)}: '
        f'{" · ".join(facts)}</p><progress max="1"{value}></progress></div>'
    )


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
