"""How reForge recognises the small packaged checkpoint, as it recognises Stable Diffusion 2.

It guesses a checkpoint's kind by the sizes in its UNet (ldm_patched/modules/model_detection.py), and builds VAE and
text encoder in the sizes of the big models, whatever the yaml says.
"""

from __future__ import annotations

import functools
from typing import Any

from ...checkpoint.small_model import SMALL_CONFIG
from .forge_small_model import TEXT_ENCODER, UNET

__all__ = ["small_model", "with_small_vae"]

# As in ldm_patched/modules/text_encoders/sd2_clip.py and sd2_clip_config.json.
_TOKENS = {"start": 49406, "end": 49407, "pad": 0}
_AS_SD2 = {"hidden_act": "gelu", "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407}


def small_model(supported_models: Any) -> Any:
    """The small checkpoint's kind, for the ``models`` of that module."""

    class SmallDepthModel(supported_models.SD20):
        unet_config = UNET
        unet_extra_config = {**supported_models.SD20.unet_extra_config, "num_head_channels": 32}  # noqa: RUF012 - theirs is

        def clip_target(self, state_dict: Any = None) -> Any:
            target = super().clip_target(state_dict or {})
            target.clip = functools.partial(_with_small_text, target.clip)
            return target

    return SmallDepthModel


def _with_small_text(original: Any, *, model_options: Any = None, **params: Any) -> Any:
    """The host's ``SD2ClipModel``, told by its own option (sd1_clip.py:731) what to build inside."""
    return original(model_options={**(model_options or {}), "clip_h_class": _text_encoder}, **params)


def _text_encoder(device: str = "cpu", dtype: Any = None, model_options: Any = None) -> Any:
    """In the place of ``SD2ClipHModel`` (text_encoders/sd2_clip.py:4)."""
    from ldm_patched.modules.sd1_clip import SDClipModel

    return SDClipModel(
        device=device,
        dtype=dtype,
        layer="last",
        textmodel_json_config=_AS_SD2 | TEXT_ENCODER,
        special_tokens=_TOKENS,
        model_options=model_options or {},
    )


def with_small_vae(original: Any) -> Any:
    """The host's ``VAE`` (ldm_patched/modules/sd.py), which builds the small one in its own sizes."""

    @functools.wraps(original, updated=())
    def vae(sd: Any = None, *args: Any, config: Any = None, **keywords: Any) -> Any:
        params = _vae_params()
        first = (sd or {}).get("encoder.conv_in.weight")
        if config is None and first is not None and first.shape[0] == params["ddconfig"]["ch"]:
            config = {"params": params}
        return original(sd, *args, config=config, **keywords)

    return vae


@functools.cache
def _vae_params() -> dict[str, Any]:
    from omegaconf import OmegaConf

    config = OmegaConf.load(SMALL_CONFIG).model.params.first_stage_config.params
    return {"embed_dim": config.embed_dim, "ddconfig": OmegaConf.to_container(config.ddconfig)}
