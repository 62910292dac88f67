"""The pictures of a folder."""

from __future__ import annotations

import time
from pathlib import Path

from lib_depth2img.sequences.folders import map_targets, pictures_in
from lib_depth2img.sequences.pairs import pair

MANY = 20_000


def test_a_folder_of_many_files_takes_no_time_with_the_square_of_their_number(tmp_path):
    """Some forty seconds, when it did; half a second since. An hour of film has 90,000 frames."""
    for number in range(MANY):
        Path(tmp_path, f"f{number:05d}.png").touch()
    began = time.monotonic()
    pictures = pictures_in(tmp_path).pictures
    targets = map_targets(pictures, tmp_path / "maps", ".png")
    found = pair(pictures, tmp_path).maps
    assert time.monotonic() - began < 20
    assert len(targets) == len(found) == MANY
    assert not any(found.values())
