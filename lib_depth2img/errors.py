"""Every refusal of this library, as one tree::

    Depth2ImgError
    ├── PictureError        a picture that cannot be read, or is too large to be decoded
    ├── DepthMapError       a depth map that cannot be read, has no depth in it, or is not a depth map
    ├── RequestError        a field of a request: unknown, of the wrong type, or out of range
    ├── DeviceError         a device or a precision that cannot be had here
    ├── EstimatorError      depth estimation that cannot run: unknown preset, no weights, no memory, picture shape
    ├── TensorFileError     a weights file that is broken, or that would run code when loaded
    │   └── WeightsError    sound weights, but not those that are needed here
    ├── CheckpointError     a checkpoint that cannot be used, converted or merged as asked
    └── InstallError        a file of the model pair that could not be brought in
        └── InstallCancelled  …because the user said so

The text of each says what was got, what was expected, and what to do. Nothing is raised from here that is not one of
them; the host shows ``str(error)`` as it is.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "Depth2ImgError",
    "DepthMapError",
    "DeviceError",
    "EstimatorError",
    "InstallCancelled",
    "InstallError",
    "PictureError",
    "RequestError",
    "TensorFileError",
    "WeightsError",
]


class Depth2ImgError(Exception):
    """Root of the tree above; catch this one to catch every refusal of the library.

    ``in_panel``: the same in the words of the WebUI's panel, whose users see labels and buttons and neither names of
    fields nor a command line.
    """

    def __init__(self, text: str, *, in_panel: str | None = None) -> None:
        super().__init__(text)
        self.in_panel = in_panel or text


class PictureError(Depth2ImgError):
    """A picture that cannot be read, or whose header promises more pixels than the library will decode."""


class DepthMapError(Depth2ImgError):
    """A depth map that cannot be read, holds no depth, or is a coloured picture."""


class RequestError(Depth2ImgError):
    """A field of a request: unknown, of the wrong type or out of range; the text names field, value and range."""


class DeviceError(Depth2ImgError):
    """A device that is not here, or a precision that it cannot compute in."""


class EstimatorError(Depth2ImgError):
    """Depth estimation that cannot run as asked: preset, weights, memory or picture shape."""


class TensorFileError(Depth2ImgError):
    """A ``.safetensors``, ``.ckpt`` or ``.pt`` file that is truncated, malformed, or would run code when unpickled."""


class WeightsError(TensorFileError):
    """Weights that can be read but do not fit: keys, shapes, or another sha256 than the catalogue's."""


class CheckpointError(Depth2ImgError):
    """A checkpoint that cannot be used, converted or merged as asked."""


class InstallError(Depth2ImgError):
    """A file that could not be installed: every source failed, no disk space, wrong hash, not allowed."""


class InstallCancelled(InstallError):  # noqa: N818 - not an error of anything, but the same road out
    """The user stopped the installation; what was downloaded so far is kept and resumed the next time."""
