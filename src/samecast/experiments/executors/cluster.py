"""The process that joins a Ray cluster for a job; `main` is its entry point.

It runs as many workers as requested and possible, gives each one unit at a time, and reports the outcomes. Only running
workers get units, so that no unit waits for a worker that has no room. Workers answer progress requests in a separate
thread; a worker that does not answer is treated as lost.
"""

import os
import platform
import time
from collections import deque
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import ray

from samecast.experiments.executors.actor import Actor
from samecast.experiments.executors.messages import (
    Alive,
    Broken,
    Done,
    Failed,
    Message,
    Ready,
    Run,
    Setup,
    UnitProgress,
    UnitStarted,
)
from samecast.experiments.work import TRIES, Trouble, trouble_of

_POLL = 1.0
"""Polling interval in seconds."""
_PATIENCE = 5.0
"""Seconds of waiting before a message is sent."""
_STARTS = 2
"""Failed starts per worker, other than by a `SamecastError`, before its place is given up."""


_ray: Any = ray
"""Ray without types, which it declares in part only."""


class BrokenError(Exception):
    """The job cannot continue, for the reason in the message."""


@dataclass(eq=False)
class Worker:
    """A worker and its current task.

    Args:
        actor: its process.
        task: the pending call: its start, or its unit.
        number: number of its unit; None while it starts.
        asked: the pending progress request.
        heard: time of its last answer; None until its process runs.
    """

    actor: Any
    task: Any
    number: int | None = None
    asked: Any = None
    heard: float | None = None


class Cluster:
    """A joined cluster.

    Args:
        connection: connection to the job's process.
        setup: settings of the job.
    """

    def __init__(self, connection: Connection, setup: Setup) -> None:
        self._connection, self.setup = connection, setup
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        # More workers than fit would wait forever.
        room = gpus or max(1, int(there.get("CPU", 1)))
        self.wanted = min(setup.workers or max(1, gpus), room)
        self._needs = "1 CPU and 1 GPU" if gpus else "1 CPU"
        self.actor: Any = _ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_concurrency=2)(Actor)

    def say(self, message: object) -> None:
        """Sends a message to the job; ends this process if the job is gone."""
        self._connection.send(message)

    def get(self, reference: Any) -> tuple[Any, Trouble | None]:
        """The result of a call, or the reason why its process was lost."""
        try:
            return ray.get(reference), None
        except _ray.exceptions.RayError as error:
            words = " ".join(str(error).split())
            return None, Trouble("lost worker", words.rpartition("is dead because ")[2][:400], str(error))

    def patience(self, since: float, said: bool) -> bool:
        """Reports a wait once it is long, and gives up at the limit; returns whether it has been reported.

        Raises:
            BrokenError: the wait exceeds the limit.
        """
        self.say(Alive())
        waited = time.monotonic() - since
        over = waited > self.setup.wait
        if waited < _PATIENCE or (said and not over):
            return said
        free = ray.available_resources()
        there = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
        if over:
            raise BrokenError(
                f"no worker had started after {waited:.0f} seconds: a worker needs {self._needs}, and {there}"
            )
        self.say(Message(f"waiting for room on the cluster: a worker needs {self._needs}, and {there}"))
        return True

    def ask(self, question: bytes) -> None:
        """Has one worker answer a question."""
        actor = self.actor.remote()
        answer, asked, said = actor.answer.remote(question, self.setup.code), time.monotonic(), False
        while not ray.wait([answer], timeout=_POLL)[0]:
            said = self.patience(asked, said)
        data, lost = self.get(answer)
        ray.kill(actor)
        trouble = lost or data[1]
        self.say(Failed(0, trouble) if trouble else Done(0, data[0]))


class JobRun:
    """A run of the units of one job.

    Args:
        cluster: the cluster.
        job: the units and their worker.
    """

    def __init__(self, cluster: Cluster, job: Run) -> None:
        self._cluster, self._job, self._say = cluster, job, cluster.say
        self._waiting = deque((number, 1) for number in range(len(job.units)))
        self._tries = dict[int, int]()
        self._workers: list[Worker] = []
        self._places = min(cluster.wanted, len(job.units))
        self._bad_starts, self._last = 0, Trouble("", "")

    def work(self) -> None:
        """Runs until every unit has an outcome.

        Raises:
            BrokenError: no worker can be used, or none starts in time.
        """
        idle_since, said = time.monotonic(), False
        try:
            while self._waiting or self._busy():
                self._fill()
                for worker in self._settled():
                    data, lost = self._cluster.get(worker.task)
                    worker.task = None
                    if worker.number is None:
                        self._started(worker, lost or data)
                    else:
                        self._ended(worker, worker.number, None if lost else data[0], lost or data[1])
                    if worker in self._workers:
                        self._assign(worker)
                self._hear()
                if any(worker.heard is not None for worker in self._workers):
                    idle_since, said = time.monotonic(), False
                    self._say(Alive())
                else:
                    said = self._cluster.patience(idle_since, said)
        finally:
            for worker in list(self._workers):
                self._drop(worker)

    def _busy(self) -> int:
        return sum(worker.number is not None for worker in self._workers)

    def _fill(self) -> None:
        """Starts as many workers as there are places and units."""
        while self._waiting and len(self._workers) < min(self._places, self._busy() + len(self._waiting)):
            actor = self._cluster.actor.remote()
            task = actor.start.remote(self._job.make, self._cluster.setup.code)
            self._workers.append(Worker(actor, task))
        if not self._workers:
            raise BrokenError(f"no worker can be used: {self._last}")

    def _started(self, worker: Worker, trouble: Trouble | None) -> None:
        """Handles a start: a failed one is reported, and retried unless it would fail alike."""
        if trouble is None:
            return
        self._drop(worker)
        self._last, self._bad_starts = trouble, self._bad_starts + 1
        self._say(Message(f"a worker cannot be used: {trouble}"))
        if trouble.mistake or self._bad_starts >= _STARTS * self._cluster.wanted:
            self._places -= 1

    def _ended(self, worker: Worker, number: int, result: bytes | None, trouble: Trouble | None) -> None:
        worker.number = None
        if trouble is None:
            self._say(Done(number, result or b""))
            return
        trouble = replace(trouble, tries=self._tries[number])
        if trouble.mistake or trouble.tries >= TRIES:
            self._say(Failed(number, trouble))
        else:
            self._say(Message(f"{self._job.names[number]} will be retried after the others: {trouble}"))
            self._waiting.append((number, trouble.tries + 1))
        if not trouble.mistake:
            self._drop(worker)  # its state is unknown; a new worker replaces it

    def _assign(self, worker: Worker) -> None:
        """Gives a worker the next unit; without one, the worker is dropped to make room for others."""
        if not self._waiting:
            self._drop(worker)
            return
        number, tries = self._waiting.popleft()
        worker.number, self._tries[number] = number, tries
        self._say(UnitStarted(number))
        worker.task = worker.actor.work.remote(number, self._job.units[number])

    def _settled(self) -> list[Worker]:
        """The workers whose task has ended in any way; waits for one polling interval."""
        tasks = {worker.task: worker for worker in self._workers}
        done, _ = ray.wait(list(tasks), num_returns=1, timeout=_POLL)
        now = time.monotonic()
        for worker in self._workers:
            if worker.heard is not None and now - worker.heard > self._cluster.setup.wait:
                ray.kill(worker.actor)  # its task then ends like that of a lost worker
                worker.heard = now
        return [tasks[task] for task in done]

    def _hear(self) -> None:
        """Reports the progress of units from workers' answers, and sends new progress requests."""
        for worker in self._workers:
            if worker.asked is None:
                worker.asked = worker.actor.data.remote()
            elif ray.wait([worker.asked], timeout=0)[0]:
                data, lost = self._cluster.get(worker.asked)
                worker.asked = None
                if lost is None:
                    worker.heard = time.monotonic()
                    if data is not None and data[0] == worker.number:
                        self._say(UnitProgress(*data[1:]))

    def _drop(self, worker: Worker) -> None:
        ray.kill(worker.actor)  # it may be unreachable rather than dead
        self._workers.remove(worker)


def join(setup: Setup) -> None:
    """Joins the cluster, or starts one on all cores of this machine.

    Raises:
        BrokenError: the cluster cannot be joined.
    """
    if setup.address in (None, "local"):  # without an address Ray would join any cluster it finds
        data: dict[str, Any] = {"address": "local", "num_cpus": max(setup.workers or 1, os.cpu_count() or 1)}
    else:
        data = {"address": setup.address}
    try:
        _ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False, **data)
    except BaseException as error:
        where = f"the cluster at {setup.address}" if setup.address else f"a cluster on {platform.node()}"
        raise BrokenError(f"cannot use {where}: {_innermost(error)}") from None


def _innermost(error: BaseException) -> str:
    """The first cause of an error, which Ray wraps several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = trouble_of(error).reason
    if "AuthToken" in words or "uthentication" in words:
        return "it requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    return words[:500]


def main(descriptor: int) -> None:
    """Serves one job until it closes the connection."""
    connection = Connection(descriptor)
    try:
        setup = connection.recv()
        join(setup)
        connection.send(Ready())
        cluster = Cluster(connection, setup)
        while True:
            job = connection.recv()
            if job.units:
                JobRun(cluster, job).work()
            else:
                cluster.ask(job.make)
    except BrokenError as broken:
        connection.send(Broken(str(broken)))
    except (EOFError, OSError):
        pass  # the job has ended
    finally:
        ray.shutdown()
