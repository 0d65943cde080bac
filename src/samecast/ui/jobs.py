"""The queue: one worker thread, since there is one model, and jobs that can be watched and stopped from anywhere.

A job belongs to no page: it goes on when the browser closes, and a page that comes back finds it by its id, or by the
browser that started it.
"""

import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from samecast.checked import one_line
from samecast.errors import SamecastError

State = Literal["waiting", "running", "done", "failed", "stopped"]
MOST_WAITING = 50
_KEPT = 200
"""Finished jobs that are remembered, so that pages which come back can show them."""
_ABANDONED_AFTER = 4.0
"""Seconds without a question after which a page is taken to be closed."""

_log = logging.getLogger(__name__)


class StoppedError(KeyboardInterrupt):
    """The job was stopped: like Ctrl-C, this ends what would go on after an error, and lets it keep its state."""


@dataclass
class Job:
    """One piece of work.

    Args:
        kind: what it is: `render`, `mask`, `learn`, `sweep`, ...
        work: does it, and returns what the page shows.
        owner: the browser that asked for it.
        page: the page there.
        about: what the page needs to show it after a reload.
    """

    kind: str
    work: Callable[["Job"], Any]
    owner: str = ""
    page: str = ""
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "waiting"
    stage: str = ""
    done: int = 0
    total: int = 0
    previews: Sequence[Image.Image] = ()
    shots: int = 0
    result: Any = None
    error: str = ""
    began: float = 0.0
    ended: float = 0.0
    asked: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ends it at its next step."""
        self._stop.set()

    def check(self) -> None:
        """Raises StoppedError if it was stopped."""
        if self._stop.is_set():
            raise StoppedError

    def report(self, stage: str, done: int, total: int) -> None:
        """Says how far the work is, and ends it if it was stopped."""
        self.check()
        self.stage, self.done, self.total = stage, done, total

    def show(self, previews: Sequence[Image.Image]) -> None:
        """Shows what the pictures are going to be."""
        self.previews, self.shots = previews, self.shots + 1

    @property
    def over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state in ("done", "failed", "stopped")

    @property
    def seconds(self) -> float:
        """How long it has been at work."""
        return (self.ended or time.monotonic()) - self.began if self.began else 0.0


class Jobs:
    """The queue and its worker, which is a daemon: it ends with the process.

    Args:
        prepare: called first in the worker's thread, such as to load the model; what it raises, every job says.
    """

    def __init__(self, prepare: Callable[[], None]) -> None:
        self._prepare = prepare
        self._queue: queue.PriorityQueue[tuple[int, int, Job]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self.fault = ""
        self.ready = threading.Event()

    def start(self) -> None:
        """Starts the worker."""
        threading.Thread(target=self._work, name="samecast-worker", daemon=True).start()

    def add(self, job: Job, *, soon: bool = False) -> Job:
        """Queues a job.

        Args:
            job: to be done.
            soon: whether it goes before all that wait, for what takes a second.

        Raises:
            SamecastError: too many wait.
        """
        with self._lock:
            if sum(not each.over for each in self._jobs.values()) >= MOST_WAITING:
                raise SamecastError(f"{MOST_WAITING} runs are waiting: stop one, or try again later")
            over = [each.id for each in self._jobs.values() if each.over]
            for old in over[: max(0, len(over) - _KEPT)]:
                del self._jobs[old]
            self._jobs[job.id] = job
            self._queue.put((0 if soon else 1, next(self._numbers), job))
        return job

    def get(self, name: object) -> Job | None:
        """The job of an id; None where there is none."""
        found = self._jobs.get(name) if isinstance(name, str) else None
        if found is not None:
            found.asked = time.monotonic()
        return found

    def ahead(self, job: Job) -> int:
        """How many come before a job that waits."""
        with self._lock:
            return sum(each.state == "running" for each in self._jobs.values()) + sum(
                each.state == "waiting" for each in itertools.takewhile(lambda one: one is not job, self._jobs.values())
            )

    def of_page(self, kind: str, owner: str, page: str) -> Job | None:
        """The newest job of a kind of a page; or one that goes on, of another page of this browser, which is closed."""
        now = time.monotonic()
        with self._lock:
            mine = [job for job in self._jobs.values() if job.owner == owner and job.kind == kind]
        here = [job for job in mine if job.page == page]
        left = [job for job in mine if not job.over and now - job.asked > _ABANDONED_AFTER]
        found = (here or left)[-1:]
        return found[0] if found else None

    def _work(self) -> None:
        try:
            self._prepare()
        except SamecastError as error:
            self.fault = str(error)
        except BaseException as error:  # the page says so, and stays
            _log.exception("the model cannot be loaded")
            self.fault = f"the model cannot be loaded: {one_line(error)}"
        self.ready.set()
        while True:
            _, _, job = self._queue.get()
            self._run(job)

    def _run(self, job: Job) -> None:
        job.state, job.began = "running", time.monotonic()
        try:
            job.check()
            if self.fault:
                raise SamecastError(self.fault)
            job.result = job.work(job)
            state: State = "done"
        except StoppedError:
            state = "stopped"
        except SamecastError as error:
            job.error, state = str(error), "failed"
        except (KeyboardInterrupt, SystemExit, Exception) as error:  # one run's crash is its own
            _log.exception("a run failed")
            job.error, state = f"the run failed: {type(error).__name__}: {one_line(error)}"[:500], "failed"
        job.previews, job.ended = (), time.monotonic()
        job.state = state
