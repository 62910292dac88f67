"""The depth maps that a user brings for the frames of a film: a folder of them, paired by name, or a clip."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..depth.depth_map import DepthMap, Meaning
from ..depth.io.clips import frames_in, read_frame
from ..depth.io.files import read_depth_map
from ..errors import DepthMapError, RequestError
from .film import Film
from .folders import is_folder, listed
from .pairs import Pairing, in_turn, pair

__all__ = ["OwnMaps", "pair_clip"]


class OwnMaps:
    """Knows the file of each frame's map, and reads it where it lies. Can be sent to another process.

    ``path``: a folder, or a NPY or NPZ of (T, H, W). ``meaning``: what their numbers say.

    Raises:
        RequestError: there is nothing, or some frames have no map there.
    """

    def __init__(self, film: Film, path: Path, meaning: Meaning) -> None:
        pictures = film.paths()
        if not is_folder(path) and not path.is_file():
            raise RequestError(f"There are no depth maps at {path}; name a folder, or a clip: .npy or .npz.")
        found = pair(pictures, path) if is_folder(path) else pair_clip(pictures, path)
        missing = [picture for picture, partner in found.maps.items() if partner is None]
        if missing:
            raise RequestError(
                f"No depth map in {path} for {listed(missing)}. {found.remark or 'A map has the name of its frame.'} "
                "Add the maps, or take these frames away."
            )
        self.remark = found.remark
        self._meaning = meaning
        self._partners = {
            picture.stem: (partner.resolve(), found.frames.get(picture))
            for picture, partner in found.maps.items()
            if partner is not None
        }

    @property
    def files(self) -> list[Path]:
        """What is read, in the order of the frames; a clip is there once for each."""
        return [path for path, _ in self._partners.values()]

    def read(self, name: str) -> DepthMap:
        """The map of the frame of that name. Raises: DepthMapError, which names the file."""
        path, number = self._partners[name]
        if number is None:
            return read_depth_map(path, meaning=self._meaning)
        try:
            return DepthMap.from_array(read_frame(path, number), meaning=self._meaning)
        except DepthMapError as error:
            raise DepthMapError(f"{path}[{number}]: {error}") from error


def pair_clip(pictures: Iterable[Path], clip: Path) -> Pairing:
    """The maps of one file for pictures: those of a clip in their order, or the only map for the only picture.

    Raises:
        RequestError: it holds more or fewer maps than there are pictures.
    """
    shown = list(pictures)
    count = frames_in(clip)
    if len(shown) == 1 and not count:
        return Pairing({shown[0]: clip})
    if count != len(shown):
        holds = f"holds {count} maps" if count else "is no clip of maps, (T, H, W) in a .npy or .npz,"
        raise RequestError(f"{clip} {holds} for {len(shown)} frames. Name a clip with as many, or a folder of maps.")
    return Pairing(dict.fromkeys(shown, clip), frames=in_turn(shown))
