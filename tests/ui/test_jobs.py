"""The queue: in order, watched and stopped from anywhere; one job's end is its own."""

import threading
import time

import pytest

from samecast.errors import SamecastError
from samecast.ui import jobs as module
from samecast.ui.jobs import Job, Jobs


@pytest.fixture
def jobs() -> Jobs:
    made = Jobs(lambda: None)
    made.start()
    return made


def ended(job: Job) -> Job:
    for _ in range(1000):
        if job.over:
            return job
        time.sleep(0.01)
    raise AssertionError(job.state)


def test_jobs_run_in_order_and_what_takes_a_second_goes_first(jobs: Jobs) -> None:
    gate, order = threading.Event(), list[str]()
    first = jobs.add(Job("render", lambda job: gate.wait(10)))
    second = jobs.add(Job("render", lambda job: order.append("second")))
    third = jobs.add(Job("mask", lambda job: order.append("mask")), soon=True)
    assert jobs.ahead(second) == 1
    gate.set()
    ended(first), ended(second), ended(third)
    assert order == ["mask", "second"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SamecastError("one line"), "one line"),
        (ValueError("odd\nlines"), "the run failed: ValueError: odd lines"),
        (SystemExit(3), "the run failed: SystemExit: 3"),
        (MemoryError(), "the run failed: MemoryError"),
    ],
)
def test_a_failed_job_says_so_in_one_line_and_the_next_one_runs(jobs: Jobs, error: BaseException, said: str) -> None:
    def fail(job: Job) -> None:
        raise error

    failed = ended(jobs.add(Job("render", fail)))
    assert (failed.state, failed.error.startswith(said)) == ("failed", True)
    assert "\n" not in failed.error
    assert ended(jobs.add(Job("render", lambda job: 5))).result == 5


def test_stopping_ends_what_runs_and_what_waits(jobs: Jobs) -> None:
    def work(job: Job) -> None:
        while True:
            job.report("denoise", 1, 2)
            time.sleep(0.005)

    running, waiting = jobs.add(Job("render", work)), jobs.add(Job("render", work))
    waiting.stop()
    running.stop()
    assert {ended(running).state, ended(waiting).state} == {"stopped"}


def test_pages_find_their_own_jobs_and_those_that_a_closed_page_left(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    mine = jobs.add(Job("render", lambda job: gate.wait(10), "browser", "page"))
    assert jobs.of_page("render", "browser", "page") is mine
    assert jobs.of_page("learn", "browser", "page") is None
    assert jobs.of_page("render", "stranger", "page") is None
    assert jobs.of_page("render", "browser", "other page") is None  # the first one still asks
    monkeypatch.setattr(module, "_ABANDONED_AFTER", 0.0)
    time.sleep(0.01)
    assert jobs.of_page("render", "browser", "other page") is mine
    gate.set()
    ended(mine)
    assert jobs.of_page("render", "browser", "third page") is None  # it is over: History has it


def test_a_model_that_cannot_be_loaded_is_said_by_every_job() -> None:
    def load() -> None:
        raise SamecastError("no such model")

    jobs = Jobs(load)
    jobs.start()
    assert ended(jobs.add(Job("render", lambda job: 1))).error == "no such model"


def test_the_queue_is_bounded(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    gate = threading.Event()
    for _ in range(2):
        jobs.add(Job("render", lambda job: gate.wait(10)))
    with pytest.raises(SamecastError, match="waiting"):
        jobs.add(Job("render", lambda job: None))
    gate.set()
