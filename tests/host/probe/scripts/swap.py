"""Other files to install than the published ones, where the data folder's ``swap.json`` names some.

``catalog``: sizes and hashes by file name, so that a local server with small files can stand for Hugging Face.
"""

import dataclasses
import json
import sys
from pathlib import Path

from modules import paths


def swap(wanted):
    # Extensions load by name, so this one is loaded; but its folder is no longer on the path.
    catalog = sys.modules["lib_depth2img.weights.catalog"]
    facts = wanted.get("catalog", {})
    catalog.FILES = tuple(dataclasses.replace(file, **facts.get(file.name, {})) for file in catalog.FILES)


_file = Path(paths.data_path) / "swap.json"
if _file.is_file() and "lib_depth2img" in sys.modules:
    swap(json.loads(_file.read_text()))
