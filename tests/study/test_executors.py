"""Workers: here, or on a Ray cluster of two; the same table, and lost units are tried again."""

import csv
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from samecast.backbones.unet import UNetBackbone
from samecast.errors import SamecastError
from samecast.experiments.executors.local import LocalExecutor
from samecast.experiments.executors.ray import RayExecutor
from samecast.study.axes import parse_axis
from samecast.study.folder import StudyFolder
from samecast.study.grid import factorial
from samecast.study.job import run_study
from samecast.study.scoring import load_scorers
from samecast.study.subjects import StudySubject
from samecast.study.table import CSV, read_scores, write_scores
from samecast.study.unit import Bench
from tests.study.conftest import STEPS, Create


def make_doubler(log: Path) -> Callable[[int], int]:
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")

    def double(unit: int) -> int:
        marker = log.with_name(f"lost-{unit}")
        if unit == 3 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if unit == 13:
            raise SamecastError("13 cannot be doubled")
        if unit == 17:
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * unit

    return double


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers' worth of Ray on this machine, for all tests of this module."""
    ray = pytest.importorskip("ray")
    root = Path(__file__).parents[2]
    sources = [str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sources))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
        ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        yield ray
        ray.shutdown()


def test_local_makes_one_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert list(LocalExecutor().run(partial(make_doubler, log), [1, 2])) == [(1, 2), (2, 4)]
    assert len(log.read_text().split()) == 1
    assert list(LocalExecutor().run(partial(make_doubler, log), [])) == []


def test_ray_gives_the_units_of_lost_workers_to_others(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = dict(RayExecutor(2).run(partial(make_doubler, log), [1, 2, 3, 4, 5]))
    assert done == {unit: 2 * unit for unit in range(1, 6)}
    assert (tmp_path / "lost-3").exists()
    assert len(set(log.read_text().split())) == 3  # two, and one in place of the lost


def test_more_workers_than_there_is_room_for_are_as_many_as_there_is(cluster: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert dict(RayExecutor(5).run(partial(make_doubler, log), [1, 2, 4, 5, 6])) == {u: 2 * u for u in (1, 2, 4, 5, 6)}
    assert len(set(log.read_text().split())) == 2


def test_a_worker_that_waits_for_room_gets_it_when_another_has_nothing_left(cluster: Any, tmp_path: Path) -> None:
    @cluster.remote(num_cpus=1)
    class Other:
        def ready(self) -> bool:
            return True

    other = Other.remote()
    cluster.get(other.ready.remote())
    try:
        done = dict(RayExecutor(2).run(partial(make_doubler, tmp_path / "log"), [1, 2, 4]))
    finally:
        cluster.kill(other)
    assert done == {1: 2, 2: 4, 4: 8}


def test_ray_tells_mistakes_and_gives_up_on_what_is_always_lost(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match="13 cannot be doubled"):
        list(RayExecutor(1).run(partial(make_doubler, tmp_path / "log"), [13]))
    with pytest.raises(SamecastError, match="17 was lost 2 times"):
        list(RayExecutor(1, tries=2).run(partial(make_doubler, tmp_path / "log"), [17]))


def test_any_number_of_workers_gives_the_same_table(
    cluster: Any, create: Create, backbone: UNetBackbone, rex: StudySubject
) -> None:
    fido = replace(rex, name="fido", references=(rex.references[0].rotate(90),))
    grid = factorial([parse_axis("final=4,10"), parse_axis("sites=encoder,decoder")], {"start": 1}, STEPS)
    tables: dict[str, list[dict[str, str]]] = {}
    scorers = load_scorers("diorama", "")
    for name, executor in (("here", None), ("one", RayExecutor(1)), ("two", RayExecutor(2))):
        folder = create(grid, [rex, fido], name)
        tallies = run_study(folder, Bench(folder.path), executor=executor)
        assert sum(tally.made for tally in tallies) == 16
        tables[name] = table(folder, scorers)
    assert tables["one"] == tables["two"]
    for here, there in zip(tables["here"], tables["one"], strict=True):
        assert here["key"] == there["key"]
        assert float(here["image_alignment"]) == pytest.approx(float(there["image_alignment"]), abs=1e-3)


def table(folder: StudyFolder, scorers: Any) -> list[dict[str, str]]:
    write_scores(folder, read_scores(folder, scorers), scorers)
    return list(csv.DictReader((folder.path / CSV).read_text().splitlines()))


def test_a_number_of_workers_is_a_number() -> None:
    pytest.importorskip("ray")
    with pytest.raises(SamecastError, match="workers must be 1 or more"):
        RayExecutor(0)
