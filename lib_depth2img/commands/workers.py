"""What the commands that take ``--ray`` have in common: the options, the cluster, and what is sent to its workers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import RequestError
from ..sequences.spread import LOCAL, connected, room, spread

__all__ = ["Workers", "add_ray"]


def add_ray(parser: argparse.ArgumentParser, what: str) -> None:
    """The options that become :class:`Workers`. ``what``: is spread."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const=LOCAL,
        metavar="ADDRESS",
        help=f"spread {what} over the GPUs, or cores, of this machine, or of the Ray cluster at ADDRESS; interrupted, "
        "the same command goes on with what is not there yet",
    )
    parser.add_argument("--ray-cores", type=int, default=1, metavar="N", help="of a worker without a GPU; default 1")


class Workers:
    """The cluster that ``--ray`` names, with a worker for each GPU, or for each ``--ray-cores`` cores.

    ``count``: of the workers. ``sent``: the options as workers take them, who stand in other folders and see no GPU but
    their own.

    Raises:
        RequestError: Ray is missing or does not answer, or such workers cannot be had.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        if arguments.ray_cores < 1:
            raise RequestError(f"--ray-cores: got {arguments.ray_cores}, expected 1 or more.")
        self._gpu = str(arguments.device).startswith("cuda")
        self._cores = arguments.ray_cores
        self.sent = argparse.Namespace(**{name: _absolute(value) for name, value in vars(arguments).items()})
        self.sent.run = None
        self.sent.device = "cuda" if self._gpu else arguments.device
        self._ray = connected(arguments.ray, arguments.ray_cores)
        self.count = room(self._ray, gpu=self._gpu, cores=self._cores)

    def close(self) -> None:
        """Leave the cluster; one of this machine alone ends."""
        self._ray.shutdown()

    def each(
        self, worker: type, arguments: tuple[Any, ...], rows: Sequence[dict[str, Any]], *, light: bool = False
    ) -> Iterator[dict[str, Any]]:
        """As :func:`spread`. ``light``: it has nothing to load, and needs no GPU."""
        if not rows:
            return iter(())
        gpu = self._gpu and not light
        return spread(self._ray, worker, arguments, rows, gpu=gpu, cores=self._cores, stays=not light)


def _absolute(value: Any) -> Any:
    """An option whose paths mean the same in any folder."""
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, (list, tuple)):
        return type(value)(_absolute(each) for each in value)
    return value
