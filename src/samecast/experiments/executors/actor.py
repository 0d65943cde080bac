"""The actor class of a worker's process on a Ray cluster, imported by that process."""

from collections.abc import Callable
from functools import partial
from typing import Any

from ray import cloudpickle as _cloudpickle

from samecast.experiments.work import Trouble, check_code, guarded

cloudpickle: Any = _cloudpickle


class Actor:
    """A process of the cluster with its worker. Errors are returned as text, so that any exception can be sent."""

    def __init__(self) -> None:
        self._worker: Callable[[Any], Any] | None = None
        self._number = 0
        self._latest: tuple[int, str, int, int] | None = None

    def start(self, make: bytes, code: str) -> Trouble | None:
        """Creates the worker, if this process has the job's version of samecast."""
        return guarded(partial(self._start, make, code))[1]

    def _start(self, make: bytes, code: str) -> None:
        check_code(code)
        self._worker = cloudpickle.loads(make)(self._progress)

    def work(self, number: int, unit: bytes) -> tuple[bytes | None, Trouble | None]:
        """Runs one unit: returns its pickled result, or the reason of its failure."""
        self._number, self._latest = number, None
        return guarded(partial(self._work, unit))

    def _work(self, unit: bytes) -> bytes:
        assert self._worker is not None
        return cloudpickle.dumps(self._worker(cloudpickle.loads(unit)))

    def answer(self, question: bytes, code: str) -> tuple[bytes | None, Trouble | None]:
        """Calls a function in this process."""

        def call() -> bytes:
            check_code(code)
            return cloudpickle.dumps(cloudpickle.loads(question)())

        return guarded(call)

    def data(self) -> tuple[int, str, int, int] | None:
        """The number of the current unit and its progress."""
        return self._latest

    def _progress(self, name: str, done: int, total: int) -> None:
        self._latest = self._number, name, done, total
