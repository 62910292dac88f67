"""A timm that does not know a backbone, as hosts with other extensions have it."""

from __future__ import annotations

import pytest
import timm

from lib_depth2img.errors import EstimatorError
from lib_depth2img.estimators.networks.building import without_weights
from lib_depth2img.estimators.presets import PRESETS

UNKNOWN_BEFORE = {
    "dinov2": ("depth_anything_v2_small", "0.9.0"),
    "swinv2": ("dpt_swin2_tiny_256", "0.6.5"),
    "beit": ("dpt_beit_large_384", "0.5.4"),
}


@pytest.mark.parametrize("family", UNKNOWN_BEFORE)
def test_one_sentence_says_which_timm_is_needed_and_the_others_work(family, monkeypatch):
    is_model = timm.is_model
    monkeypatch.setattr(timm, "is_model", lambda name: family not in name and is_model(name))
    name, oldest = UNKNOWN_BEFORE[family]
    with pytest.raises(EstimatorError, match=rf"needs timm {oldest} or newer .* timm {timm.__version__} is installed"):
        PRESETS[name].build()
    known = [each for each in UNKNOWN_BEFORE if any(each in model for model in timm.list_models())]
    for other in ("midas_v21_small", *(UNKNOWN_BEFORE[unknown][0] for unknown in known if unknown != family)):
        assert without_weights(PRESETS[other].build).state_dict()
