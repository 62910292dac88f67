"""A stand-in of Ray that has one process, and runs what it is given at once."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

__all__ = ["Died", "pretend"]


class Died(BaseException):
    """What ends a worker, as kill -9 does."""


class Dataset:
    """Ray Data with one worker; in the place of one that died there is another, which begins the row again."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def map_batches(
        self,
        worker: Callable[..., Any],
        *,
        batch_size: int,
        fn_constructor_args: tuple[Any, ...] | None = None,
        fn_args: tuple[Any, ...] = (),
        **_: Any,
    ) -> Dataset:
        assert batch_size == 1
        stays = fn_constructor_args is not None
        assert isinstance(worker, type) == stays
        fn_constructor_args = pickle.loads(pickle.dumps(fn_constructor_args))  # as to another machine
        made = worker(*fn_constructor_args) if fn_constructor_args is not None else worker
        answers = []
        for row in self._rows:
            answer = None
            while answer is None:
                try:
                    (answer,) = made({name: [value] for name, value in row.items()}, *fn_args)["answer"]
                except Died:
                    made = worker(*fn_constructor_args) if fn_constructor_args is not None else worker
            answers.append({"answer": answer})
        return Dataset(answers)

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        return iter(reversed(self._rows))  # in whatever order


def pretend(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Put it in the place of Ray: a cluster of a machine with two cores.

    ``asked``: what it was asked for. ``hangs``: whether it answers late. ``machines``: what each of them has.
    """
    seen = SimpleNamespace(asked=[], hangs=False, machines=[{"CPU": 2.0}])

    def init(address: str, **_: Any) -> None:
        seen.asked.append(address)
        if seen.hangs:
            time.sleep(5)

    context = SimpleNamespace(get_current=lambda: SimpleNamespace(enable_progress_bars=True))
    module: Any = ModuleType("ray")
    module.init, module.shutdown = init, lambda: seen.asked.append("shutdown")
    module.nodes = lambda: [{"Alive": True, "Resources": each} for each in seen.machines]
    module.data = SimpleNamespace(
        DataContext=context,
        from_items=lambda rows, override_num_blocks: Dataset(rows),
        ActorPoolStrategy=lambda size: size,
    )
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.data", module.data)
    return seen
