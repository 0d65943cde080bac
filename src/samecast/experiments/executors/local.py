"""Runs units one after another in this process."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Self

from samecast.experiments.executors import Answer, Watch
from samecast.experiments.work import TRIES, AnyUnit, Make, Outcome, Result, guarded


class LocalExecutor:
    """A single worker in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *data: object) -> None:
        pass

    def ask(self, question: Callable[[], Answer], watch: Watch) -> Answer:
        """Calls a function and returns its result."""
        return question()

    def run(
        self, make: Make[AnyUnit, Result], units: Sequence[AnyUnit], watch: Watch
    ) -> Iterator[Outcome[AnyUnit, Result]]:
        """Yields the outcome of each unit; see `Executor`."""
        waiting = deque((unit, 1) for unit in units)
        worker: Callable[[AnyUnit], Result] | None = None
        while waiting:
            unit, tries = waiting.popleft()
            worker = worker or make(watch.progress)
            watch.begun(unit)
            result, trouble = guarded(partial(worker, unit))
            if trouble is None:
                yield Outcome(unit, result)
                continue
            trouble = replace(trouble, tries=tries)
            if not trouble.mistake:
                worker = None  # its state is unknown
            if trouble.mistake or tries >= TRIES:
                yield Outcome(unit, trouble=trouble)
            else:
                watch.message(f"{unit.name} will be retried after the others: {trouble}")
                waiting.append((unit, tries + 1))
