"""The entry that the host executes: it finds the script class here, and the rest of the extension behind it.

A host that this extension does not know finds no class, and is told why in one sentence.
"""

from lib_depth2img.webui import hosts

if hosts.is_known():
    from lib_depth2img.webui import extension
    from lib_depth2img.webui.hooks.script import Depth2ImgScript

    __all__ = ["Depth2ImgScript"]

    extension.register()
else:
    print(hosts.UNKNOWN)
