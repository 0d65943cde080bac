"""A run survives its units: failures are kept and told, what is unknown is tried once more, nothing else is lost."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from samecast.errors import SamecastError
from samecast.experiments.executors import Watch
from samecast.experiments.executors.local import LocalExecutor
from samecast.experiments.runner import Ended, failures, run_units
from samecast.experiments.store import Store
from tests.experiments.makers import Doubler, Number, log_of


def run(tmp_path: Path, units: list[Number], **others: Any) -> Ended[Any]:
    store = Store(tmp_path / "store")
    with store.locked():
        return run_units(store, units, partial(Doubler, tmp_path / "log"), LocalExecutor(), **others)


def kept(tmp_path: Path) -> dict[str, tuple[str, str, int]]:
    found = failures(Store(tmp_path / "store"))
    return {data["unit"]: (data["kind"], data["reason"], data["tries"]) for data in found}


def test_units_are_worked_on_by_one_worker_the_longest_first(tmp_path: Path) -> None:
    ended = run(tmp_path, [Number(1), Number(2, cost=5), Number(3, cost=2)])
    assert (ended.results, ended.failed) == ((4, 6, 2), 0)
    assert [words for _, words in log_of(tmp_path / "log")] == ["made", "2", "3", "1"]
    assert run(tmp_path, []).results == ()


def test_failures_are_kept_and_end_nothing(tmp_path: Path) -> None:
    tempers = ("", "mistake", "bug", "unspeakable", "panic", "exit", "flaky")
    units = [Number(number, temper) for number, temper in enumerate(tempers)]
    said: list[str] = []
    ended = run(tmp_path, units, watch=Watch(message=said.append))
    assert (sorted(ended.results), ended.failed) == ([0, 12], 5)
    assert kept(tmp_path) == {
        "number 1": ("SamecastError", "this number cannot be doubled", 1),
        "number 2": ("RuntimeError", "a bug", 2),
        "number 3": ("UnspeakableError", "its message cannot be read: ValueError", 2),
        "number 4": ("PanicError", "index out of bounds", 2),
        "number 5": ("SystemExit", "enough", 2),
    }
    # What is unknown is tried again after all others, each time by a worker that is made anew.
    assert [words for _, words in log_of(tmp_path / "log")] == [
        *("made", "0", "1", "2", "made", "3", "made", "4", "made", "5", "made", "6"),
        *("made", "2", "made", "3", "made", "4", "made", "5", "made", "6"),
    ]
    assert len(said) == 5
    assert "number 2 will be retried after the others: RuntimeError: a bug" in said[0]


def test_details_are_kept_for_those_who_mend(tmp_path: Path) -> None:
    run(tmp_path, [Number(1, "bug")])
    (data,) = failures(Store(tmp_path / "store"))
    assert "in _bug" in data["details"]


def test_a_failure_is_forgotten_when_its_unit_succeeds(tmp_path: Path) -> None:
    assert run(tmp_path, [Number(1, "bug"), Number(2, "mistake")]).failed == 2
    assert run(tmp_path, [Number(1), Number(2, "mistake")]).failed == 1
    assert list(kept(tmp_path)) == ["number 2"]
    run(tmp_path, [Number(2)])
    assert list((tmp_path / "store").iterdir()) == []  # nothing is left over


def test_a_worker_that_cannot_be_made_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    def make(progress: object) -> Any:
        raise SamecastError("there is no model")

    store = Store(tmp_path)
    with pytest.raises(SamecastError, match="there is no model"), store.locked():
        run_units(store, [Number(1)], make, LocalExecutor())
    assert not list(failures(store))


def test_an_interruption_ends_the_run_and_accuses_nobody(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [Number(1, "interrupt", 2), Number(2)])
    assert not list((tmp_path / "store").rglob("*.json"))
    assert run(tmp_path, [Number(1, "interrupt", 2), Number(2)]).results == (2, 4)


def test_a_unit_that_killed_an_earlier_run_comes_last(tmp_path: Path) -> None:
    units = [Number(1, "poison", cost=9), Number(2, cost=2), Number(3)]
    for numbers in (["1"], ["2", "3", "1"], ["1"]):
        child = os.fork()
        if child == 0:
            waiting = [unit for unit in units if str(unit.value) in numbers]
            run(tmp_path, waiting)
            os._exit(0)
        _, data = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(data) == -signal.SIGKILL
    worked = [words for _, words in log_of(tmp_path / "log") if words != "made"]
    assert worked == ["1", "2", "3", "1", "1"]


def test_those_who_watch_hear_of_units_and_their_progress(tmp_path: Path) -> None:
    heard: list[Any] = []
    watch = Watch(progress=lambda *data: heard.append(data), begun=lambda unit: heard.append(unit.name))
    ends: list[Any] = []
    run(tmp_path, [Number(1, "long")], watch=watch, finished=lambda outcome, *data: ends.append(data))
    assert heard[:2] == ["number 1", ("number 1", 0, 40)]
    assert heard[-1] == ("number 1", 39, 40)
    assert ends == [(1, 1)]


def test_a_disk_that_is_full_stops_nothing_that_needs_none(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for kind in ("failures", "begun"):
        (tmp_path / "store" / kind).write_text("in the way")
    ended = run(tmp_path, [Number(1), Number(2, "mistake"), Number(3)])
    assert (ended.results, ended.failed) == ((2, 6), 1)
