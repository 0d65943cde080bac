"""In this process, one unit after another."""

from collections.abc import Iterator, Sequence

from samecast.executors import Make, Result, Unit


class LocalExecutor:
    """One worker, here."""

    def run(self, make: Make[Unit, Result], units: Sequence[Unit]) -> Iterator[tuple[Unit, Result]]:
        """Each unit with its result, in order."""
        if not units:
            return
        worker = make()
        for unit in units:
            yield unit, worker(unit)
