"""A worker's process on a Ray cluster; imported there."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ray import cloudpickle as _cloudpickle

from samecast.experiments.work import Trouble, check_code, guarded

cloudpickle: Any = _cloudpickle


class Actor:
    """One process of the cluster, with its worker. Says everything in words, so that it arrives whatever is raised."""

    def __init__(self) -> None:
        self._worker: Callable[[Any], Any] | None = None
        self._number = 0
        self._told: tuple[int, str, int, int] | None = None

    def start(self, make: bytes, code: str) -> Trouble | None:
        """Makes the worker, if this is the samecast that is asked for."""
        return guarded(partial(self._start, make, code))[1]

    def _start(self, make: bytes, code: str) -> None:
        check_code(code)
        self._worker = cloudpickle.loads(make)(self._progress)

    def work(self, number: int, unit: bytes) -> tuple[bytes | None, Trouble | None]:
        """One unit: its result, pickled, or why there is none."""
        self._number, self._told = number, None
        return guarded(partial(self._work, unit))

    def _work(self, unit: bytes) -> bytes:
        assert self._worker is not None
        return cloudpickle.dumps(self._worker(cloudpickle.loads(unit)))

    def answer(self, question: bytes, code: str) -> tuple[bytes | None, Trouble | None]:
        """What a function says here."""

        def say() -> bytes:
            check_code(code)
            return cloudpickle.dumps(cloudpickle.loads(question)())

        return guarded(say)

    def data(self) -> tuple[int, str, int, int] | None:
        """How far the unit is that is worked on, after its number."""
        return self._told

    def _progress(self, name: str, done: int, total: int) -> None:
        self._told = self._number, name, done, total
