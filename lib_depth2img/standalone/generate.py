"""From a picture, its depth map and a prompt to new pictures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ..depth.adjust import Adjustments
from ..depth.conditioning import conditioning
from ..depth.control import Control
from ..depth.extent import UNIT, Extent
from ..devices import out_of_memory_as, without_autocast
from ..errors import CheckpointError, RequestError
from ..estimators.detail import AS_TRAINED, Detail
from ..progress import Listener
from . import pictures
from .sampling import Sampling

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..depth.depth_map import DepthMap
    from .loading import Model
    from .parameters import Parameters

__all__ = ["estimate_depth", "generate"]


def estimate_depth(model: Model, picture: Image.Image, detail: Detail = AS_TRAINED) -> DepthMap:
    """Nearness of the picture by the depth stage that the checkpoint brought, so finely.

    Raises:
        CheckpointError: the checkpoint brought none.
        EstimatorError: the estimate failed.
    """
    if model.estimator is None:
        raise CheckpointError(
            "The checkpoint holds no depth_model.*, so it cannot estimate depth. Bring a map with --depth-map, or make "
            "one: python -m lib_depth2img depth."
        )
    depth_map = model.estimator.estimate([picture], detail)[0]
    if model.offload:
        model.estimator.release()
    return depth_map


def generate(  # noqa: PLR0913 - what one generation can be told
    model: Model,
    picture: Image.Image,
    depth_map: DepthMap,
    parameters: Parameters,
    *,
    mask: Image.Image | None = None,
    adjustments: Adjustments | None = None,
    control: Control | None = None,
    extent: Extent | None = None,
    noise: Tensor | None = None,
    progress: Listener | None = None,
) -> list[Image.Image]:
    """``parameters.batch_size`` pictures of ``parameters.size``; number i of them is that of the seed plus i alone.

    ``mask``: white is painted anew, black stays as it is in the picture; of any size. ``depth_map``: over the whole
    of ``picture``. ``control``: how much depth counts, by default everywhere and once. Its region: as
    ``pictures.region`` makes it. ``extent``: of the map's nearness, to scale by; by default its own lowest and highest.
    ``noise``: (batch_size, 4, H/8, W/8) float32, standard normal, to begin with in the place of the seeds' own.

    Raises:
        RequestError: not enough memory for the size and batch, or noise of another shape.
        CheckpointError: UNet or autoencoder gave numbers that are not finite.
    """
    import torch

    _check_shape(noise, parameters)
    depth_map = depth_map.adjusted(adjustments or Adjustments(), extent=extent)
    init = pictures.crop_and_resize(picture, parameters.size)
    lies = pictures.placement(picture, parameters.size)
    depth = conditioning(depth_map, lies, extent=None if extent is None else UNIT).to(model.device)
    with (
        out_of_memory_as(functools.partial(_too_large, parameters)),
        torch.inference_mode(),
        without_autocast(model.device),
    ):
        with model.at_work(model.text):
            prompt, negative = (model.text(text) for text in (parameters.prompt, parameters.negative_prompt))
        with model.at_work(model.vae):
            latent = _encoded(model, init)
        keep = None if mask is None else 1 - pictures.mask_tensor(mask, init.size).to(model.device)
        sampling = Sampling(model, parameters, depth, prompt, negative, control or Control(), noise)
        sampled = sampling.run(latent, keep, progress)
        with model.at_work(model.vae):
            results = _decoded(model, sampled)
    return results if mask is None else [_composed(init, result, mask) for result in results]


def _check_shape(noise: Tensor | None, parameters: Parameters) -> None:
    wanted = (parameters.batch_size, *parameters.latent_shape)
    if noise is not None and tuple(noise.shape) != wanted:
        raise RequestError(f"noise: got the shape {tuple(noise.shape)}, expected {wanted}.")


def _too_large(parameters: Parameters) -> RequestError:
    width, height = parameters.size
    return RequestError(
        f"Not enough memory for {parameters.batch_size} x {width}x{height}. Use a smaller --width and --height, a "
        "smaller --batch-size, --precision float16 (on a CPU bfloat16), --offload, or --device cpu."
    )


def _encoded(model: Model, init: Image.Image) -> Tensor:
    """(1, 4, H/8, W/8): the mode of the encoder, so that the seed decides about the noise alone."""
    latent: Tensor = model.vae.encode(pictures.to_tensor(init).to(model.device)).latent_dist.mode()
    return latent * model.scale_factor


def _decoded(model: Model, latents: Tensor) -> list[Image.Image]:
    """One picture at a time: together they would need the more memory, and take as long."""
    results = []
    for latent in latents:
        decoded = model.vae.decode(latent[None] / model.scale_factor, return_dict=False)[0]
        if not bool(decoded.isfinite().all()):
            raise CheckpointError("The autoencoder gave numbers that are not finite (NaN): the checkpoint is broken.")
        results += pictures.from_tensor(decoded)
    return results


def _composed(init: Image.Image, result: Image.Image, mask: Image.Image) -> Image.Image:
    """The result where the mask is white, the picture itself where it is black: the VAE's losses stay inside."""
    from PIL import Image

    return Image.composite(result, init, pictures.crop_and_resize(mask.convert("L"), init.size))
