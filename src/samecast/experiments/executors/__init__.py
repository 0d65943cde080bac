"""Where units are worked on: in this process, or on a cluster."""

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
    """Who is told what while units are worked on.

    Args:
        progress: how far a unit is.
        begun: that a unit is about to be begun.
        message: what is waited for, and what is odd about a worker; a line each.
    """

    progress: Progress = no_progress
    begun: Callable[[Any], None] = _begun
    message: Callable[[str], None] = _message


class Executor(Protocol):
    """Works on units. Used in a `with`, which joins and leaves what it needs."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *data: object) -> None: ...

    def ask(self, question: Callable[[], Answer], watch: Watch) -> Answer:
        """What a function says where units are worked on; errors as for `run`."""
        ...

    def run(
        self, make: Make[AnyUnit, Result], units: Sequence[AnyUnit], watch: Watch
    ) -> Iterator[Outcome[AnyUnit, Result]]:
        """Each unit with what came of it, in the order in which they are finished.

        A unit that meets a mistake (`SamecastError`) fails; one that meets anything else, or whose worker dies, is
        tried once more at the end, by a fresh worker.

        Raises:
            SamecastError: no worker can be made, or the cluster is lost.
        """
        ...
