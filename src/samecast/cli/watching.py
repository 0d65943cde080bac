"""Progress of a long job on the terminal: the number of finished units, and the progress of those in work."""

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
"""Seconds between two lines where the output is not a terminal."""
_MOST_BARS, _MOST_FAILURES = 8, 5


@dataclass
class Showing:
    """A bar for all units and one for each in work; without a terminal, a line now and then.

    Args:
        what: what the units are called, in the plural.
        bars: the progress bars.
    """

    what: str
    bars: Progress
    _tasks: dict[str, Any] = field(default_factory=dict[str, Any])
    _latest: str = ""
    _count: str = ""
    _said: float = field(default_factory=time.monotonic)

    def watch(self) -> Watch:
        """An event of the runner."""
        return Watch(progress=self._progress, message=notify)

    def finished(self, unit: str, count: int, total: int) -> None:
        """One unit has ended: `count` of `total` so far."""
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
    """Shows the progress of a job while the block lasts."""
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
    """Prints the first failures, and where the rest are listed."""
    for failure in failures[:_MOST_FAILURES]:
        kind = "" if failure["kind"] in ("", "SamecastError") else f"{failure['kind']}: "
        tries = f" (tried {failure['tries']} times)" if failure.get("tries", 1) > 1 else ""
        notify(f"not made: {failure['unit']}: {kind}{failure['reason']}{tries}")
    if len(failures) > _MOST_FAILURES:
        notify(f"{len(failures) - _MOST_FAILURES} more are listed in {place}")
