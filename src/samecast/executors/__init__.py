"""Who works on the units of a job: this process, or a cluster. They know nothing of what the work is."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Make = Callable[[], Callable[[Unit], Result]]
"""Makes a worker, once in each process; the worker is called with units, one after another."""


class Executor(Protocol):
    """Runs units on workers."""

    def run(self, make: "Make[Unit, Result]", units: Sequence[Unit]) -> Iterator[tuple[Unit, Result]]:
        """Each unit with its result, in the order in which they are finished."""
        ...
