"""What runs in the process that has joined a Ray cluster for a job; `main` is its whole life.

It keeps as many workers as are wanted and there is room for, gives each a unit at a time, and tells what comes of it.
Only workers that are up get units, so that none waits for room while others have nothing to do. Workers are threads
apart from their work, so that they can be asked how far they are; one that does not answer is lost.
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
    Begun,
    Broken,
    Done,
    Failed,
    Message,
    Ready,
    Run,
    Setup,
    Told,
)
from samecast.experiments.work import TRIES, Trouble, trouble_of

_POLL = 1.0
"""Seconds between two looks at what is going on."""
_PATIENCE = 5.0
"""Seconds before it is said what is waited for."""
_STARTS = 2
"""How often the start of a worker may go wrong, other than by a mistake, before its place is given up."""


_ray: Any = ray
"""The same; its types are known in part."""


class BrokenError(Exception):
    """Nothing can go on, for the reason that is the message."""


@dataclass(eq=False)
class Worker:
    """A place for a worker, and what it is at.

    Args:
        actor: its process.
        task: what is waited for: its start, or the unit's end.
        number: of its unit; None while it starts.
        asked: how far it is, under way.
        heard: when it last answered; None until its process is up.
    """

    actor: Any
    task: Any
    number: int | None = None
    asked: Any = None
    heard: float | None = None


class Cluster:
    """A cluster that is joined.

    Args:
        connection: to the job.
        setup: what it asked for.
    """

    def __init__(self, connection: Connection, setup: Setup) -> None:
        self._connection, self.setup = connection, setup
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        # More workers than there is room for would wait for ever.
        room = gpus or max(1, int(there.get("CPU", 1)))
        self.wanted = min(setup.workers or max(1, gpus), room)
        self._needs = "1 CPU and 1 GPU" if gpus else "1 CPU"
        self.actor: Any = _ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_concurrency=2)(Actor)

    def say(self, message: object) -> None:
        """Tells the job; if it is gone, so is this."""
        self._connection.send(message)

    def get(self, reference: Any) -> tuple[Any, Trouble | None]:
        """What a call gave; or how its process was lost, with its machine or alone."""
        try:
            return ray.get(reference), None
        except _ray.exceptions.RayError as error:
            words = " ".join(str(error).split())
            return None, Trouble("lost worker", words.rpartition("is dead because ")[2][:400], str(error))

    def patience(self, since: float, said: bool) -> bool:
        """Says what is waited for, and gives up in the end; whether it is said.

        Raises:
            BrokenError: it has been waited for too long.
        """
        self.say(Alive())
        waited = time.monotonic() - since
        over = waited > self.setup.wait
        if waited < _PATIENCE or (said and not over):
            return said
        free = ray.available_resources()
        there = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs of the cluster are free"
        if over:
            raise BrokenError(f"no worker was up after {waited:.0f} seconds: it takes {self._needs}, and {there}")
        self.say(Message(f"waiting for room on the cluster: a worker takes {self._needs}, and {there}"))
        return True

    def ask(self, question: bytes) -> None:
        """Asks one worker something."""
        actor = self.actor.remote()
        answer, asked, said = actor.answer.remote(question, self.setup.code), time.monotonic(), False
        while not ray.wait([answer], timeout=_POLL)[0]:
            said = self.patience(asked, said)
        data, lost = self.get(answer)
        ray.kill(actor)
        trouble = lost or data[1]
        self.say(Failed(0, trouble) if trouble else Done(0, data[0]))


class Shift:
    """The units of one job, worked on.

    Args:
        cluster: where.
        job: what.
    """

    def __init__(self, cluster: Cluster, job: Run) -> None:
        self._cluster, self._job, self._say = cluster, job, cluster.say
        self._waiting = deque((number, 1) for number in range(len(job.units)))
        self._tries = dict[int, int]()
        self._workers: list[Worker] = []
        self._places = min(cluster.wanted, len(job.units))
        self._bad_starts, self._last = 0, Trouble("", "")

    def work(self) -> None:
        """Until each unit has ended.

        Raises:
            BrokenError: no worker can take part, or none is up in time.
        """
        nobody_since, said = time.monotonic(), False
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
                    nobody_since, said = time.monotonic(), False
                    self._say(Alive())
                else:
                    said = self._cluster.patience(nobody_since, said)
        finally:
            for worker in list(self._workers):
                self._drop(worker)

    def _busy(self) -> int:
        return sum(worker.number is not None for worker in self._workers)

    def _fill(self) -> None:
        """As many workers as there are places and units for."""
        while self._waiting and len(self._workers) < min(self._places, self._busy() + len(self._waiting)):
            actor = self._cluster.actor.remote()
            task = actor.start.remote(self._job.make, self._cluster.setup.code)
            self._workers.append(Worker(actor, task))
        if not self._workers:
            raise BrokenError(f"no worker can take part: {self._last}")

    def _started(self, worker: Worker, trouble: Trouble | None) -> None:
        """One that could not start is told, and tried again unless it would meet the same."""
        if trouble is None:
            return
        self._drop(worker)
        self._last, self._bad_starts = trouble, self._bad_starts + 1
        self._say(Message(f"a worker cannot take part: {trouble}"))
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
            self._say(Message(f"{self._job.names[number]} is tried once more after the others: {trouble}"))
            self._waiting.append((number, trouble.tries + 1))
        if not trouble.mistake:
            self._drop(worker)  # whatever state it is in; a fresh one comes in its place

    def _assign(self, worker: Worker) -> None:
        """The next unit; one for whom there is none makes room for others who wait for it."""
        if not self._waiting:
            self._drop(worker)
            return
        number, tries = self._waiting.popleft()
        worker.number, self._tries[number] = number, tries
        self._say(Begun(number))
        worker.task = worker.actor.work.remote(number, self._job.units[number])

    def _settled(self) -> list[Worker]:
        """A worker whose task has ended, in any way; waits for one for a moment."""
        tasks = {worker.task: worker for worker in self._workers}
        done, _ = ray.wait(list(tasks), num_returns=1, timeout=_POLL)
        now = time.monotonic()
        for worker in self._workers:
            if worker.heard is not None and now - worker.heard > self._cluster.setup.wait:
                ray.kill(worker.actor)  # its task ends as that of any that is lost
                worker.heard = now
        return [tasks[task] for task in done]

    def _hear(self) -> None:
        """How far units are, from those who have answered; and asks those who have not been asked."""
        for worker in self._workers:
            if worker.asked is None:
                worker.asked = worker.actor.data.remote()
            elif ray.wait([worker.asked], timeout=0)[0]:
                data, lost = self._cluster.get(worker.asked)
                worker.asked = None
                if lost is None:
                    worker.heard = time.monotonic()
                    if data is not None and data[0] == worker.number:
                        self._say(Told(*data[1:]))

    def _drop(self, worker: Worker) -> None:
        ray.kill(worker.actor)  # it may be only out of reach
        self._workers.remove(worker)


def join(setup: Setup) -> None:
    """Joins the cluster, or starts one of all the machine's cores.

    Raises:
        BrokenError: it cannot be joined.
    """
    if setup.address in (None, "local"):  # without an address Ray would join any cluster that it has heard of
        data: dict[str, Any] = {"address": "local", "num_cpus": max(setup.workers or 1, os.cpu_count() or 1)}
    else:
        data = {"address": setup.address}
    try:
        _ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False, **data)
    except BaseException as error:
        where = f"the cluster at {setup.address}" if setup.address else f"a cluster on {platform.node()}"
        raise BrokenError(f"cannot use {where}: {_innermost(error)}") from None


def _innermost(error: BaseException) -> str:
    """The first cause of an error, which Ray wraps in several."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = trouble_of(error).reason
    if "AuthToken" in words or "uthentication" in words:
        return "it asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
    return words[:500]


def main(descriptor: int) -> None:
    """Serves one job until it hangs up."""
    connection = Connection(descriptor)
    try:
        setup = connection.recv()
        join(setup)
        connection.send(Ready())
        cluster = Cluster(connection, setup)
        while True:
            job = connection.recv()
            if job.units:
                Shift(cluster, job).work()
            else:
                cluster.ask(job.make)
    except BrokenError as broken:
        connection.send(Broken(str(broken)))
    except (EOFError, OSError):
        pass  # the job has ended, and so does this
    finally:
        ray.shutdown()
