"""The Extras tab's entry: "Depth map"; none in a host that this extension does not know."""

from lib_depth2img.webui.hosts import known as known_host

if known_host.is_known():
    from modules import scripts_postprocessing, shared, ui_components

    from lib_depth2img.webui.host_services import HostServices
    from lib_depth2img.webui.ui import extras

    class ScriptPostprocessingDepth2Img(scripts_postprocessing.ScriptPostprocessing):
        name = extras.NAME
        order = extras.ORDER

        def ui(self):
            return extras.build(HostServices(), ui_components.InputAccordion)

        def process(self, pp, **values):
            # JPEG and WEBP replies of the API (api/api.py:99-125) and of the progress (progress.py:113) take no 16
            # bits.
            deep = shared.opts.samples_format.lower() == "png" and shared.opts.live_previews_image_format == "png"
            extras.process(HostServices(in_queue=True), pp, deep=deep, **values)
