"""The entry that the host executes: it finds the script class here, and the rest of the extension behind it.

A host that this extension does not know finds no class, and is told why in one sentence.
"""

from lib_depth2img.webui.hosts import known as known_host

if known_host.is_known():
    from lib_depth2img.webui import extension
    from lib_depth2img.webui.hooks.script import Depth2ImgScript

    __all__ = ["Depth2ImgScript"]

    extension.register()
else:
    print(known_host.UNKNOWN)
