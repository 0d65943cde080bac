"""On a Ray cluster: one actor for each device, which makes its worker once and pulls unit after unit.

A unit whose actor is lost, with its process or its machine, is given to another; mistakes and bugs are not tried again.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from samecast.errors import SamecastError
from samecast.executors import Make, Result, Unit


@dataclass(frozen=True)
class RayExecutor:
    """Actors of Ray Core.

    Args:
        workers: how many; None is one for each GPU of the cluster, or one where there is none.
        address: of a cluster to join; None starts one on this machine, for as long as the job runs.
        tries: how often a unit is begun before its loss is told.

    Raises:
        SamecastError: Ray is not installed.
    """

    workers: int | None = None
    address: str | None = None
    tries: int = 3

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SamecastError(f"workers must be 1 or more; got {self.workers}")
        _ray()

    def run(self, make: Make[Unit, Result], units: Sequence[Unit]) -> Iterator[tuple[Unit, Result]]:
        """Each unit with its result, as they are finished.

        Raises:
            SamecastError: the cluster cannot be joined, a unit was lost too often, or a worker raised one.
        """
        if not units:
            return
        ray = _ray()
        joined = ray.is_initialized()
        if not joined:
            _start(ray, self.address, self.workers)
        try:
            yield from self._pull(ray, make, units)
        finally:
            if not joined:
                ray.shutdown()

    def _pull(self, ray: Any, make: Any, units: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        # More actors than there is room for would wait for ever, each with a unit of its own.
        room = gpus or max(1, int(there.get("CPU", 1)))
        count = min(self.workers or max(1, gpus), room, len(units))
        actor = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(_Actor)
        waiting, begun = list(units), dict.fromkeys(range(len(units)), 0)
        numbers = list(range(len(units)))
        running: dict[Any, tuple[int, Any]] = {}

        def begin(worker: Any) -> None:
            if numbers:
                number = numbers.pop(0)
                begun[number] += 1
                running[worker.work.remote(waiting[number])] = (number, worker)

        for _ in range(count):
            begin(actor.remote(make))
        while running:
            done, _ = ray.wait(list(running))
            number, worker = running.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                cause: Any = getattr(error, "cause", None)
                raise cause if isinstance(cause, SamecastError) else error from None
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.OutOfMemoryError,
            ) as error:
                told = " ".join(str(error).split())
                if getattr(error, "actor_init_failed", False):
                    raise SamecastError(f"a worker could not be started: {told}") from None
                if begun[number] >= self.tries:
                    raise SamecastError(f"{waiting[number]!r} was lost {self.tries} times: {told}") from None
                ray.kill(worker)  # it may be only out of reach
                numbers.insert(0, number)
                begin(actor.remote(make))
                continue
            yield waiting[number], result
            begin(worker)
            del worker  # an idle actor's last handle: with it goes its place, for one that waits


class _Actor:
    """One process of the cluster, with its worker."""

    def __init__(self, make: Any) -> None:
        self._make, self._worker = make, None

    def work(self, unit: Any) -> Any:
        """One unit; the first one makes the worker, so that what goes wrong there is told like the rest."""
        if self._worker is None:
            self._worker = self._make()
        return self._worker(unit)


def _start(ray: Any, address: str | None, workers: int | None) -> None:
    told: dict[str, Any] = {"address": address} if address else {"num_cpus": max(workers or 1, os.cpu_count() or 1)}
    # Ours to decide where GPUs are not asked for; Ray would hide them, and says so in a warning of its own.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False, **told)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the cluster at {address}" if address else "a cluster here"
        raise SamecastError(f"cannot use {where}: {' '.join(str(error).split())}") from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise SamecastError("Ray is not installed: pip install 'samecast[ray]', or --executor local") from None
    return ray
