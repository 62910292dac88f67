"""The panel's box that brings in a depth model: the model pair with its licence, or the small trial checkpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...errors import Depth2ImgError
from . import markup

if TYPE_CHECKING:
    from ...progress import Progress
    from .services import Download, PanelServices

__all__ = ["InstallJobs", "build"]

POLL_SECONDS = 0.3


class InstallJobs:
    """One installation at a time, on a thread of its own, so that it outlives the page that asked for it.

    Safe from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._cancel = threading.Event()
        self._state = ""

    def start(self, services: PanelServices, name: str) -> None:
        """Start installing ``name``, unless an installation is running already."""
        with self._lock:
            if self.running:
                return
            self._cancel.clear()
            self._state = markup.note_line("Asking for the file…")
            self._thread = threading.Thread(
                target=self._run, args=(services, name), name="depth2img-install", daemon=True
            )
            self._thread.start()

    def cancel(self) -> None:
        """Ask the running installation to stop; what was downloaded is kept."""
        self._cancel.set()

    @property
    def running(self) -> bool:
        """True while an installation is under way."""
        return self._thread is not None and self._thread.is_alive()

    def watch(self) -> Iterator[str]:
        """The state as HTML, again and again until the end, which comes last."""
        while self.running:
            yield self._state
            time.sleep(POLL_SECONDS)
        yield self._state

    def _run(self, services: PanelServices, name: str) -> None:
        def show(progress: Progress) -> None:
            self._state = markup.progress_bar(progress)

        try:
            self._state = markup.done_line(services.install(name, progress=show, cancelled=self._cancel.is_set))
        except Depth2ImgError as error:
            self._state = markup.error_line(error)
        except Exception as error:
            self._state = markup.error_line(f"The installation failed: {error!r}. The console has more.")
            raise


_JOBS = InstallJobs()  # of the process: a download goes on while the UI is reloaded


def build(services: PanelServices) -> None:
    """Add the box to the current Blocks."""
    offers = {_offer(download): download for download in services.downloads()}
    first = next(iter(offers), "")
    with gr.Accordion("Get a depth model", open=False, elem_id="depth2img_install"):
        choice = gr.Dropdown(
            label="To install", choices=list(offers), value=first or None, elem_id="depth2img_install_choice"
        )
        described = gr.HTML(_described(offers.get(first)), elem_id="depth2img_licence")
        with gr.Row(elem_id="depth2img_install_row"):
            install = gr.Button("Accept the licence and install", elem_id="depth2img_install_button", variant="primary")
            cancel = gr.Button("Cancel", elem_id="depth2img_install_cancel", interactive=False)
        state = gr.HTML("", elem_id="depth2img_install_state")
        with gr.Row(elem_id="depth2img_trial"):
            gr.HTML(markup.note_line("Nothing to download, and no more than a trial:"))
            trial = gr.Button("Try the small checkpoint", elem_id="depth2img_trial_button", size="sm")
    for widget in (choice, install, cancel, trial):
        widget.do_not_save_to_config = True

    def run(offer: str) -> Iterator[tuple[str, Any, Any]]:
        _JOBS.start(services, offers[offer].name)
        for html in _JOBS.watch():
            running = _JOBS.running
            yield html, gr.update(interactive=not running), gr.update(interactive=running)

    def describe(offer: str) -> str:
        return _described(offers.get(offer))

    def try_small() -> str:
        try:
            title = services.add_trial_checkpoint()
        except Depth2ImgError as error:
            return markup.error_line(error)
        text = f"{title} lies in the models folder and is being selected. It is tiny: it shows that all works, no more."
        return markup.done_line(text, select_checkpoint=title)

    choice.change(
        lambda offer: _described(offers.get(offer)), [choice], [described], queue=False, show_progress="hidden"
    )
    install.click(run, [choice], [state, install, cancel], show_progress="hidden")
    cancel.click(_JOBS.cancel, queue=False, show_progress="hidden")
    trial.click(try_small, outputs=[state])


def _offer(download: Download) -> str:
    """Without a word: what a dropdown has chosen stands in an input, which no localization reaches."""
    return f"{download.name} ({download.nbytes / 1e9:.2f} GB)"


def _described(download: Download | None) -> str:
    if download is None:
        return ""
    remarks = [f"{download.title} (installed)" if download.installed else download.title, download.remark]
    lines = [markup.note_line(remark) for remark in remarks if remark]
    return "".join([lines[0], markup.licence_line(download.licence, download.licence_url), *lines[1:]])
