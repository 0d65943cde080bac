"""What the person at the terminal sees of a long job: how many units are done, and how far those under way are."""

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from samecast.cli.console import CONSOLE, notify
from samecast.experiments.executors import Watch

HEARTBEAT = 60.0
"""Seconds between two lines where the output is no terminal."""
_MOST_BARS, _MOST_FAILURES = 8, 5


@dataclass
class Showing:
    """A bar for all units and one for each that is under way; or, where there is no terminal, a line now and then.

    Args:
        what: the units are called, in the plural.
        bars: on the terminal.
    """

    what: str
    bars: Progress
    _tasks: dict[str, Any] = field(default_factory=dict[str, Any])
    _latest: str = ""
    _count: str = ""
    _said: float = field(default_factory=time.monotonic)

    def watch(self) -> Watch:
        """What a runner tells."""
        return Watch(progress=self._progress, message=notify)

    def finished(self, unit: str, count: int, total: int) -> None:
        """One unit has ended; so many have, of so many."""
        for name in [name for name in self._tasks if name == unit or name.startswith(f"{unit},")]:
            self.bars.remove_task(self._tasks.pop(name))
        self._bar(self.what, count, total)
        self._count = f"{count} of {total} {self.what}"
        self._heartbeat()

    def _progress(self, name: str, done: int, total: int) -> None:
        if name in self._tasks or len(self._tasks) < _MOST_BARS:
            self._bar(name, done, total)
        self._latest = f"{name} {done / max(1, total):.0%}"
        self._heartbeat()

    def _bar(self, name: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self.bars.add_task(escape(name), total=total)
        self.bars.update(self._tasks[name], completed=done, total=total)

    def _heartbeat(self) -> None:
        if CONSOLE.is_terminal or time.monotonic() - self._said < HEARTBEAT:
            return
        self._said = time.monotonic()
        CONSOLE.print(", ".join(data for data in (self._count, self._latest) if data), markup=False)


@contextmanager
def watching(what: str) -> Generator[Showing]:
    """Shows a job of units while a block lasts."""
    bars = Progress(
        TextColumn("{task.description:<18}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=CONSOLE,
        disable=not CONSOLE.is_terminal,
    )
    with bars:
        yield Showing(what, bars)


def report_failures(failures: Sequence[Mapping[str, Any]], place: Path) -> None:
    """The first of what failed, and where the rest is told."""
    for failure in failures[:_MOST_FAILURES]:
        kind = "" if failure["kind"] in ("", "SamecastError") else f"{failure['kind']}: "
        tries = f" (tried {failure['tries']} times)" if failure.get("tries", 1) > 1 else ""
        notify(f"not made: {failure['unit']}: {kind}{failure['reason']}{tries}")
    if len(failures) > _MOST_FAILURES:
        notify(f"{len(failures) - _MOST_FAILURES} more are told in {place}")
