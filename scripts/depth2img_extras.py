"""The Extras tab's entry: "Depth map"; none in a host that this extension does not know."""

from lib_depth2img.webui import hosts

if hosts.is_known():
    from lib_depth2img.webui.host_services import HostServices
    from lib_depth2img.webui.ui import extras

    class ScriptPostprocessingDepth2Img(hosts.host.extras_class()):
        name = extras.NAME
        order = extras.ORDER

        def ui(self):
            return extras.build(HostServices(), hosts.host.accordion_class())

        def process(self, pp, **values):
            extras.process(HostServices(in_queue=True), pp, deep=hosts.host.keeps_16_bits(), **values)
