"""The folder code holds no more than it works on, however many subjects there are."""

import tracemalloc
from pathlib import Path

import pytest

from benchmarks.experiments import Benchmark, measure
from samecast.study.folder import StudyFolder
from samecast.study.job import status
from samecast.study.scoring import metrics_of
from samecast.study.table import Rows, load_table


def test_rows_and_status_are_read_as_they_are_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(Benchmark(subjects=150, page=False), tmp_path / "study")
    assert "150 finished" in capsys.readouterr().out
    folder = StudyFolder(tmp_path / "study")
    assert len(load_table(folder.path / "scores.parquet")) == 8100
    assert {len(place.name) for place in (folder.path / "runs").iterdir()} == {2}  # by two digits of their keys
    rows = Rows(folder, metrics_of(folder.recipe()))
    tracemalloc.start()
    assert sum(1 for _ in rows) == 8100
    assert sum(each.finished for each in status(folder)) == 150
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20  # all rows together are some 40 MiB
