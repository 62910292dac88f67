"""Other files to install than the published ones, where the data folder's ``swap.json`` names some.

``catalog``: sizes and hashes by file name, so that a local server with small files can stand for Hugging Face.
``small_checkpoint``: a checkpoint in the place of the small trial checkpoint.
"""

import dataclasses
import json
import sys
from pathlib import Path

from modules import paths


def swap(wanted):
    # Extensions load by name, so this one is loaded; but its folder is no longer on the path.
    catalog = sys.modules["lib_depth2img.checkpoint.catalog"]
    small_model = sys.modules["lib_depth2img.checkpoint.small_model"]
    facts = wanted.get("catalog", {})
    catalog.FILES = tuple(dataclasses.replace(file, **facts.get(file.name, {})) for file in catalog.FILES)
    if "small_checkpoint" in wanted:
        small_model.SMALL_CHECKPOINT = Path(wanted["small_checkpoint"])
        small_model.SMALL_CONFIG = small_model.SMALL_CHECKPOINT.with_suffix(".yaml")


_file = Path(paths.data_path) / "swap.json"
if _file.is_file() and "lib_depth2img" in sys.modules:
    swap(json.loads(_file.read_text()))
