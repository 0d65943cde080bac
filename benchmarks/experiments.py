"""Many subjects on the folder code, with work that is made up: how long a study of a size takes beside its pictures.

Each subject has a photo of its own and a prompt; its pictures are links to one file, and its scores are random. All
else is the study's own: subjects written down, units run and recorded, status, table, figures and page. The memory is
this process's, which is the driver's.

    python -m benchmarks.experiments [--subjects 1000] [--work FOLDER]
"""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

import samecast as sc
from samecast.experiments.executors.local import LocalExecutor
from samecast.experiments.runner import run_units
from samecast.experiments.work import Progress
from samecast.study.folder import RUNS, StudyFolder
from samecast.study.job import status
from samecast.study.photos import LazyPhotos
from samecast.study.presets import aiku
from samecast.study.publish import publish
from samecast.study.recipe import Recipe
from samecast.study.scoring import metrics_of, score_key
from samecast.study.subjects import StudySubject
from samecast.study.table import Rows, write_table
from samecast.study.unit import StudyUnit, orders_in, units_of

_LINKS = 30_000
"""Most links to one file: some file systems take no more than 65,000."""


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    subjects: int = 1000
    """How many."""

    page: bool = True
    """Draw the figures and the page, too."""

    work: Path | None = None
    """Folder to work in; a temporary one otherwise."""


def photo(number: int) -> Image.Image:
    """A subject's photo, small and of its own."""
    draw = np.random.default_rng(number)
    return Image.fromarray(draw.integers(0, 256, (16, 16, 3), dtype=np.uint8))


class Pretender:
    """Makes up the pictures and scores of units."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self.folder, self.made = StudyFolder(path), 0
        self.recipe = self.folder.recipe()
        self.metrics = metrics_of(self.recipe)
        self.draw = np.random.default_rng(0)

    def __call__(self, unit: StudyUnit) -> int:
        """One unit."""
        assert isinstance(unit.subject, StudySubject)
        scores: dict[str, Any] = {}
        for order in orders_in(self.recipe, unit):
            place = self.folder.store.file(RUNS, order.key, ".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._picture(), place)
            text, image = self.draw.normal((0.27, 0.8), (0.02, 0.05))
            right = bool(self.draw.random() < 0.4)
            data = (text, image, image / 2, right, True, right)
            scores[order.key] = dict(zip((metric.key for metric in self.metrics), data, strict=True))
        self.folder.write_scores(score_key(unit.subject, unit.sources.casts[0]), scores)
        return len(scores)

    def _picture(self) -> Path:
        file = self.folder.path / f"picture-{self.made // _LINKS}.png"
        if not file.exists():
            photo(0).save(file)
        self.made += 1
        return file


def measure(asked: Benchmark, place: Path) -> None:
    """Runs it, and prints the table."""
    grid, steps = aiku(), 50
    recipe = Recipe(
        grid,
        sc.RenderSettings(num_inference_steps=steps, guidance_scale=5.0, height=16, width=16),
        "none",
        "sha256:0",
        "float32",
    )
    recipe = Recipe(**{**vars(recipe), "clip": "diorama", "dino": "diorama"})
    folder = StudyFolder(place)
    table = Table(title=f"{asked.subjects:,} subjects of {len(grid.variants)} settings, with work that is made up")
    for heading in ("", "seconds", "peak MiB"):
        table.add_column(heading, justify="right" if heading else "left")

    def timed(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        table.add_row(name, f"{time.perf_counter() - began:.1f}", f"{peak():,.0f}")

    def create() -> None:
        folder.create(
            recipe,
            (
                StudySubject(f"subject {n:06d}", (f"a dog, {n}",), LazyPhotos([partial(photo, n)]), "dog")
                for n in range(asked.subjects)
            ),
        )

    def run() -> None:
        units = (unit for subject in folder.subjects() for unit in units_of(recipe, subject))
        with folder.store.locked():
            ended = run_units(folder.store, units, partial(Pretender, place), LocalExecutor())
        assert sum(ended.results) == asked.subjects * len(grid.variants)

    timed("subjects written down", create)
    timed("units run and recorded", run)
    timed("status", lambda: print(sum(data.finished for data in status(folder)), "finished"))
    timed("table", lambda: write_table(Rows(folder, metrics_of(recipe)), lambda row: None))
    if asked.page:
        timed("table, figures and page", lambda: print(publish(folder).count, "rows"))
    Console().print(table)


def peak() -> float:
    """Most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def main(asked: Benchmark) -> None:
    """Measures in a folder that is given, or in one that goes afterwards."""
    with tempfile.TemporaryDirectory() if asked.work is None else nullcontext(str(asked.work)) as place:
        measure(asked, Path(place) / "study")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
