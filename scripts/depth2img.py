"""The entry that the host executes: it finds the script class here, and the rest of the extension behind it."""

from lib_depth2img.webui import extension
from lib_depth2img.webui.script import Depth2ImgScript

__all__ = ["Depth2ImgScript"]

extension.register()
