"""All units of a job, worked on until each is finished or has failed; what failed is kept, and ends nothing.

A failure is a file of the store until the unit succeeds, so that it can be told when the run has ended and the day
after. Units that an earlier run was at when it was killed come last: if one of them kills its process, the others are
finished by then.
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
    """What came of a run.

    Args:
        results: of the units that were worked on and did not fail.
        failed: how many did.
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
    """Works on units, the longest first.

    Args:
        store: of the job; the caller holds its lock.
        units: what there is to do.
        make: makes a worker.
        executor: where; it is entered if there is anything to do.
        watch: who is told what meanwhile.
        finished: told of each unit's outcome, how many there are by then, and how many there will be.

    Raises:
        SamecastError: no worker can be made, or the cluster is lost; what was finished is kept.
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
        for key in under_way:  # the process lives: none of them has killed it
            store.remove(BEGUN, key)
        store.tidy(BEGUN)
        store.tidy(FAILURES)
    return Ended(tuple(results), failed)


def _keep(store: Store, kind: str, key: str, data: dict[str, Any]) -> None:
    """A full disk must not stop what needs no disk."""
    try:
        store.write(kind, key, data)
    except SamecastError as error:
        _log.warning("%s", error)


def failures(store: Store) -> Iterator[dict[str, Any]]:
    """All failures that are kept, in order of their keys, each with `key`, `unit`, `kind` and `reason`."""
    for key, data in store.every(FAILURES):
        if isinstance(data.get("reason"), str):
            yield {"key": key, "kind": "", "unit": "", **data}
