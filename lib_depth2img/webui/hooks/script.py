"""The always-on script of the img2img tab: what the host calls, and when. What is done stands elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import Depth2ImgError, RequestError
from ...request.panel import script_values
from ...request.request import Depth2ImgRequest
from .. import infotext, settings, xyz
from ..depth_stage import refuse_damaged
from ..estimators import ESTIMATORS
from ..host_services import HostServices
from ..hosts import host
from ..ui.panel import TITLE, build_panel
from . import batch, guard, override, results
from .sequence import STEADY_KEY

__all__ = ["Depth2ImgScript"]


_Script: Any = host.script_class()


class Depth2ImgScript(_Script):
    """Depth for img2img in all its tabs. It has no effect while the loaded checkpoint is no depth model."""

    def __init__(self) -> None:
        self._host_widgets: dict[str, Any] = {}

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return host.always_visible() if is_img2img else False

    def after_component(self, component: Any, **keywords: Any) -> None:
        """Note the host's picture widgets, whose picture the preview shows."""
        name = host.init_image_of(component, keywords)
        if name is not None:
            self._host_widgets[name] = component

    def ui(self, is_img2img: bool) -> list[Any]:  # noqa: ARG002 - the host's signature
        probed = self.args_from != self.args_to  # the API asks an already placed script for its defaults (api.py:333)
        widgets = self._host_widgets
        panel = build_panel(
            HostServices(),
            init_images=() if probed else [widgets[name] for name in host.init_image_widgets if name in widgets],
            append_by_default=not probed,
        )
        self.infotext_fields = infotext.paste_functions(panel.widgets, panel.note)
        self.paste_field_names = list(infotext.KEYS)
        return panel.inputs

    def process(self, p: Any, *args: Any) -> None:
        """The model is final here (processing.py:915): bind the request to ``p``, or let ``p`` refuse."""
        override.unbind(p)
        for key in (*infotext.KEYS, results.NOT_SAVED, STEADY_KEY):
            p.extra_generation_params.pop(key, None)  # left by the picture before, in a batch
        try:
            request = self._request(p, args)
            if host.selected().is_depth_model:
                refuse_damaged()
            if request.enabled and host.selected().is_depth_model:
                override.bind(p, request)
                infotext.write(p.extra_generation_params, request, from_api=p.is_api)
                p.extra_generation_params.update(batch.described(p))
            else:
                guard.refuse_depth_refiner(p)
                _refuse_unused_depth(p, request)
        except Depth2ImgError as error:
            override.refuse(p, error)

    def process_before_every_sampling(self, p: Any, *_args: Any, **_keywords: Any) -> None:
        """The sampler is there, and the depth channel too (processing.py:1767)."""
        generation = override.current(p)
        if generation is not None and not generation.control.is_identity:
            host.answer_for_unet(p, generation.control.answer)

    def postprocess(self, p: Any, processed: Any, *_args: Any) -> None:
        generation = override.current(p)
        override.unbind(p)
        ESTIMATORS.after_generation()
        if generation is not None and generation.depth_maps:
            results.deliver(generation, processed)

    @staticmethod
    def _request(p: Any, args: Sequence[Any]) -> Depth2ImgRequest:
        """What the panel or the client says, then the cell of an X/Y/Z plot, then the batch."""
        said = script_values(args) | xyz.cell_values(p)
        said |= batch.picture_values(p, meaning=said.get("meaning", "nearness"))
        request = Depth2ImgRequest.from_mapping(said, base=Depth2ImgRequest(estimator=settings.current().estimator))
        _refuse_outpainting(p, request)
        return request


def _refuse_unused_depth(p: Any, request: Depth2ImgRequest) -> None:
    """A client that sends a depth source expects it to count; in the tabs the panel says that it does not."""
    if p.is_api and request.enabled and request.source != "init_image":
        raise RequestError(
            f"source: got {request.source}, but the loaded checkpoint ({host.selected().name}) is "
            "no depth model. Load a depth model, or leave the source out."
        )


def _refuse_outpainting(p: Any, request: Depth2ImgRequest) -> None:
    """A map of the picture says nothing of what lies outside of it."""
    script = host.selected_script(p)
    if (
        request.enabled
        and request.source != "init_image"
        and script is not None
        and "outpainting" in script.title().lower()
    ):
        raise RequestError(
            f"source: got {request.source}, but {script.title()} adds parts that the depth map does not cover. "
            "Set the source to init_image, which estimates the depth of the extended picture."
        )
