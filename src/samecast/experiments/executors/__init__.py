"""Executors, which run units in this process or on a cluster."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from samecast.experiments.work import AnyUnit, Make, Outcome, Progress, Result, no_progress

Answer = TypeVar("Answer")


def _begun(unit: Any) -> None:
    pass


def _message(words: str) -> None:
    pass


@dataclass(frozen=True)
class Watch:
    """Callbacks during a run.

    Args:
        progress: called with the progress of a unit.
        begun: called before a unit starts.
        message: called with a line about waiting or about a worker's problem.
    """

    progress: Progress = no_progress
    begun: Callable[[Any], None] = _begun
    message: Callable[[str], None] = _message


class Executor(Protocol):
    """Runs units; a context manager that acquires and releases its resources."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *data: object) -> None: ...

    def ask(self, question: Callable[[], Answer], watch: Watch) -> Answer:
        """Calls a function where units run and returns its result; errors as for `run`."""
        ...

    def run(
        self, make: Make[AnyUnit, Result], units: Sequence[AnyUnit], watch: Watch
    ) -> Iterator[Outcome[AnyUnit, Result]]:
        """Yields the outcome of each unit, in the order in which they finish.

        A unit that raises `SamecastError` fails; one that raises another exception, or whose worker dies, is retried
        once at the end by a new worker.

        Raises:
            SamecastError: no worker can be created, or the cluster is lost.
        """
        ...
