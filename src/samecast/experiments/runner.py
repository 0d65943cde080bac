"""Runs all units of a job until each has finished or failed; failures are recorded and do not stop the job.

A failure stays in the store as a file until the unit succeeds, so that it can be reported at any time. Units in
progress when an earlier run was killed come last: if one of them kills its process, the others are already finished.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic

from samecast.errors import SamecastError
from samecast.experiments.executors import Executor, Watch
from samecast.experiments.store import Store
from samecast.experiments.work import AnyUnit, Make, Outcome, Result

_log = logging.getLogger(__name__)
FAILURES, BEGUN = "failures", "begun"


@dataclass(frozen=True)
class Ended(Generic[Result]):
    """The outcome of a run.

    Args:
        results: results of the units that succeeded.
        failed: number of failed units.
    """

    results: tuple[Result, ...]
    failed: int


def run_units(
    store: Store,
    units: Iterable[AnyUnit],
    make: Make[AnyUnit, Result],
    executor: Executor,
    watch: Watch | None = None,
    finished: Callable[[Outcome[AnyUnit, Result], int, int], None] | None = None,
) -> Ended[Result]:
    """Runs units, the longest first.

    Args:
        store: the job's store; the caller holds its lock.
        units: the units to run.
        make: creates a worker.
        executor: where to run; entered if there is any unit.
        watch: callbacks for progress and messages.
        finished: called with each unit's outcome, the number of outcomes so far, and the total.

    Raises:
        SamecastError: no worker can be created, or the cluster is lost; finished results are kept.
    """
    waiting = sorted(units, key=lambda unit: (store.has(BEGUN, unit.key), -unit.cost))
    if not waiting:
        return Ended((), 0)
    heard, under_way, results, failed = watch or Watch(), set[str](), list[Result](), 0

    def begun(unit: Any) -> None:
        under_way.add(unit.key)
        _keep(store, BEGUN, unit.key, {"unit": unit.name})
        heard.begun(unit)

    try:
        with executor:
            for number, outcome in enumerate(executor.run(make, waiting, replace(heard, begun=begun)), start=1):
                key = outcome.unit.key
                if outcome.trouble is None:
                    store.remove(FAILURES, key)
                    results.append(outcome.result)  # pyright: ignore[reportArgumentType]
                else:
                    failed += 1
                    _keep(store, FAILURES, key, {"unit": outcome.unit.name, **asdict(outcome.trouble)})
                under_way.discard(key)
                store.remove(BEGUN, key)
                if finished is not None:
                    finished(outcome, number, len(waiting))
    finally:
        for key in under_way:  # the process is alive, so none of them has killed it
            store.remove(BEGUN, key)
        store.tidy(BEGUN)
        store.tidy(FAILURES)
    return Ended(tuple(results), failed)


def _keep(store: Store, kind: str, key: str, data: dict[str, Any]) -> None:
    """Writes a record; a full disk must not stop the job."""
    try:
        store.write(kind, key, data)
    except SamecastError as error:
        _log.warning("%s", error)


def failures(store: Store) -> Iterator[dict[str, Any]]:
    """All recorded failures in the order of their keys, each with `key`, `unit`, `kind` and `reason`."""
    for key, data in store.every(FAILURES):
        if isinstance(data.get("reason"), str):
            yield {"key": key, "kind": "", "unit": "", **data}
