"""Frames spread over GPUs and machines by Ray: shots go to workers that hold the loaded network.

What is sent about are paths, never pixels: every worker reads and writes the same folder. Targets are what tells how
far the work is, so a worker that dies is replaced by Ray and its shot is gone through again, without what is there.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import Depth2ImgError, RequestError
from ..replacing import replacing

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["LOCAL", "Attempts", "connected", "room", "spread"]

LOCAL = "local"
"""In the place of an address: a cluster of this machine alone, which ends with the command."""

PATIENCE = 8.0
"""Seconds to wait for a cluster's answer."""

MOST_ATTEMPTS = 3
"""Beginnings of one row, after which it is reported in the place of being begun again."""


class Attempts:
    """Counts in a folder how often a row was begun, so that one that kills its worker does not kill all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, row: str, shown: str = "") -> None:
        """Note one more. ``shown``: what the user is told of the row, by default its name.

        Raises:
            RequestError: ``MOST_ATTEMPTS`` have ended their worker.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        note = self._folder / row
        count = int(note.read_text()) if note.exists() else 0
        if count >= MOST_ATTEMPTS:
            raise RequestError(
                f"{shown or row} has ended its worker {count} times and was left out; look at its pictures alone."
            )
        with replacing(note) as part:
            part.write_text(str(count + 1))

    def end(self, row: str) -> None:
        """Note that it is through."""
        (self._folder / row).unlink(missing_ok=True)


def connected(address: str, cores: int) -> ModuleType:
    """The package ray, in a cluster at ``address``; ``cores``: that a worker without a GPU takes.

    Raises:
        RequestError: Ray is missing, or nothing answers there.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its C++ writes riddles to the console
    try:
        import ray
    except ImportError as error:
        raise RequestError(
            'Spreading needs Ray: pip install "sd-webui-depth2img[ray]", or pip install "ray[data]".'
        ) from error
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    settings = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(cores)}
    options: dict[str, Any] = {"runtime_env": {"env_vars": settings}, "log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        ray.init(address=LOCAL, include_dashboard=False, **options)
        return ray
    _knock(address)
    _within(PATIENCE, address, lambda: ray.init(address=address, **options))
    return ray


def spread(
    ray: ModuleType,
    worker: type,
    arguments: tuple[Any, ...],
    rows: Sequence[dict[str, Any]],
    *,
    gpu: bool,
    cores: int,
    stays: bool = True,
) -> Iterator[dict[str, Any]]:
    """What ``worker(*arguments)`` makes of each row, as it comes; a worker is called with one row, and gives one.

    One worker for each GPU of the cluster, or for each ``cores`` cores. Rows and answers are what JSON holds.
    ``stays``: a worker has something to keep; else there is a new one for each row, which costs nothing.

    Raises:
        RequestError: no machine of the cluster has what one worker needs.
        Depth2ImgError: what a worker raised.
    """
    count = room(ray, gpu=gpu, cores=cores)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    data = ray.data.from_items([{"row": json.dumps(row)} for row in rows], override_num_blocks=len(rows))
    needed = {"batch_size": 1, "num_gpus": 1 if gpu else 0, "num_cpus": 0 if gpu else cores}
    if stays:
        pool = ray.data.ActorPoolStrategy(size=min(count, len(rows)))
        answers = data.map_batches(_Each, fn_constructor_args=(worker, arguments), compute=pool, **needed)
    else:
        answers = data.map_batches(_once, fn_args=(worker, arguments), **needed)
    for text in answers.iter_rows():
        answer = json.loads(text["answer"])
        if "refused" in answer:
            raise Depth2ImgError(answer["refused"])
        yield answer


class _Each:
    """A worker as Ray Data calls one, with columns of batches; made at the first row, which says what was wrong."""

    def __init__(self, worker: type, arguments: tuple[Any, ...]) -> None:
        self._make = functools.partial(worker, *arguments)
        self._worker: Any = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"answer": [json.dumps(self._answer(json.loads(row))) for row in batch["row"]]}

    def _answer(self, row: dict[str, Any]) -> Any:
        try:
            self._worker = self._worker or self._make()
            return self._worker(row)
        except Depth2ImgError as error:
            return {"refused": str(error)}


def _once(batch: dict[str, Any], worker: type, arguments: tuple[Any, ...]) -> dict[str, Any]:
    return _Each(worker, arguments)(batch)


def room(ray: ModuleType, *, gpu: bool, cores: int) -> int:
    """How many workers the machines hold. Raises: RequestError for none, since Ray would wait for ever."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    count = sum(int(there.get("GPU", 0) if gpu else there.get("CPU", 0) // cores) for there in machines)
    if not count:
        need = "a GPU; use --device cpu" if gpu else f"{cores} cores; use a smaller --ray-cores"
        raise RequestError(f"No machine of the Ray cluster has {need}.")
    return count


def _knock(address: str) -> None:
    """Raises: RequestError when nothing listens there."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = parts.hostname, parts.port
        socket.create_connection((host or "", port or 0), timeout=5.0).close()
    except (OSError, ValueError) as error:
        raise _no_answer(address, error) from error


def _within(seconds: float, address: str, do: Callable[[], Any]) -> None:
    """Do it, unless it takes longer: what listens there may be no Ray. Raises: RequestError."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as error:  # noqa: BLE001 - of many kinds; told in one sentence
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise _no_answer(address, f"not within {seconds:g} s")
    if failed:
        raise _no_answer(address, failed[0]) from failed[0]


def _no_answer(address: str, why: object) -> RequestError:
    # Of a cluster that asks for a token, which `ray start` may set up, a client without one hears nothing.
    return RequestError(
        f"No Ray cluster answers at {address} ({str(why).splitlines()[0][:120]}). See that it runs; if it asks for a "
        "token, set RAY_AUTH_MODE=token."
    )
