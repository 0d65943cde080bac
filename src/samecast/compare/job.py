"""A comparison as a job: its units are pairs of subjects, and subjects with the methods that share a training.

Methods that share a training form one unit, so that it is done once, wherever the unit runs. A failed unit is recorded
with its reason and does not stop the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from samecast.compare.benchmark import Benchmark, Judgement, pairings
from samecast.compare.duos import WAYS, DuoJudgement, Duos
from samecast.compare.methods import Method
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import Case, DuoCase
from samecast.disk import LOCK
from samecast.errors import SamecastError
from samecast.experiments.executors import Executor, Watch
from samecast.experiments.executors.local import LocalExecutor
from samecast.experiments.runner import failures, run_units
from samecast.experiments.store import Store, content_key
from samecast.experiments.work import Outcome, Progress, no_progress
from samecast.learn.settings import LearnSettings
from samecast.metrics import BENCHMARK, make_metrics
from samecast.render import load


@dataclass(frozen=True)
class Contest:
    """The settings of a comparison, sent to workers, which load the models.

    Args:
        model: path or hub id of the model.
        settings: settings of every render.
        prompts: number of tasks per subject.
        hidden: read photos that show the subject partly hidden.
        device: device of the model.
        dtype: precision of the model, by name.
        duos: training settings of one subject of a pair; None without pairs.
        metrics: names of the metrics.
    """

    model: str
    settings: RenderSettings
    prompts: int
    hidden: bool = False
    device: str = "auto"
    dtype: str = "auto"
    duos: LearnSettings | None = None
    metrics: tuple[str, ...] = BENCHMARK

    def benchmark(self) -> Benchmark:
        """Loads the model and the metrics.

        Raises:
            SamecastError: one cannot be loaded.
        """
        import_module("samecast.diorama.compiled")  # reports a missing package before any work
        metrics = make_metrics(self.metrics)
        model = load(self.model, device=self.device, dtype=self.dtype)
        return Benchmark(model, metrics, self.settings, self.prompts, self.hidden)


@dataclass(frozen=True)
class ContestUnit:
    """A subject with methods that share a training; or a pair with all ways.

    Args:
        name: name for display.
        key: its key.
        cost: its relative duration.
        parts: each subject with its method, and the subject whose photo a shuffled method reads.
        pair: the pair, if the unit is one.
        places: folders of its results.
        metrics: keys of its metrics; empty for a pair.
    """

    name: str
    key: str
    cost: float
    parts: tuple[tuple[Case, Method, Case], ...]
    pair: DuoCase | None
    places: tuple[Path, ...]
    metrics: tuple[str, ...] = ()

    def left(self, folder: Path, benchmark: Benchmark) -> list[Path]:
        """The folders whose pictures or scores are missing."""
        done = Path.is_dir if self.pair else partial(benchmark.finished, folder)
        return [place for place in self.places if not done(place)]


def units_of(
    folder: Path,
    benchmark: Benchmark,
    cases: Sequence[Case],
    methods: Sequence[Method],
    duos: Duos | None = None,
    pairs: Sequence[DuoCase] = (),
) -> list[ContestUnit]:
    """All units, finished or not.

    Raises:
        SamecastError: a method reads another subject's photo and there is no other.
    """
    found: list[ContestUnit] = []
    grouped: dict[tuple[str, LearnSettings | str], list[tuple[Case, Method, Case]]] = {}
    for case, method, other in pairings(cases, methods):
        grouped.setdefault((case.name, method.learning or method.name), []).append((case, method, other))
    for (name, _), parts in grouped.items():
        places = tuple(benchmark.place(folder, *part) for part in parts)
        learning = parts[0][1].learning
        cost = len(parts) + (0 if learning is None else 10)
        label = f"{name}, {' and '.join(method.name for _, method, _ in parts)}"
        found.append(ContestUnit(label, _key(places), cost, tuple(parts), None, places, benchmark.keys))
    for pair in pairs if duos is not None else ():
        places = tuple(duos.place(folder, pair, way) for way in WAYS) if duos is not None else ()
        found.append(ContestUnit(pair.name, _key(places), 40, (), pair, places))
    return found


def _key(places: Sequence[Path]) -> str:
    return content_key({"unit": [place.name for place in places]})


class ContestWorker:
    """Runs units with a model and metrics that are loaded once.

    Args:
        folder: folder of the run.
        contest: settings of the comparison.
        progress: called with the progress of a unit.
        benchmark: the loaded model and metrics, if there are any.

    Raises:
        SamecastError: the folder is not accessible to this worker, or a model or metric cannot be loaded.
    """

    def __init__(
        self, folder: Path, contest: Contest, progress: Progress = no_progress, benchmark: Benchmark | None = None
    ) -> None:
        if not (folder / LOCK).is_file():
            raise SamecastError(
                f"this worker has no access to {str(folder)!r}: put it on storage shared by all machines"
            )
        self._folder, self._progress = folder, progress
        self._benchmark = benchmark or contest.benchmark()
        self._duos = None if contest.duos is None else Duos(self._benchmark, contest.duos)

    def __call__(self, unit: ContestUnit) -> str:
        """Completes one unit; returns its name.

        Raises:
            SamecastError: a picture cannot be made, or this worker's model or metrics differ from the job's.
        """

        def data(stage: str, done: int, total: int) -> None:
            self._progress(f"{unit.name}: {stage}", done, total)

        steps = [partial(self._benchmark.finish, self._folder, *part, data) for part in unit.parts]
        places = [self._benchmark.place(self._folder, *part) for part in unit.parts]
        if unit.pair is not None and self._duos is not None:
            steps = [partial(self._duos.finish, self._folder, unit.pair, way, data) for way in WAYS]
            places = [self._duos.place(self._folder, unit.pair, way) for way in WAYS]
        if tuple(places) != unit.places or (unit.metrics and unit.metrics != self._benchmark.keys):
            raise SamecastError(
                "this worker's model or metrics differ from the job's: install the same versions on all machines"
            )
        for number, step in enumerate(steps):
            self._progress(unit.name, number, len(steps))
            step()
        return unit.name


@dataclass(frozen=True)
class Contested:
    """The results of a comparison.

    Args:
        judgements: results of subjects.
        pairs: results of pairs.
        failures: records of the units that failed.
    """

    judgements: list[Judgement]
    pairs: list[DuoJudgement]
    failures: list[dict[str, Any]]


def run_contest(
    folder: Path,
    contest: Contest,
    benchmark: Benchmark,
    cases: Sequence[Case],
    methods: Sequence[Method],
    pairs: Sequence[DuoCase] = (),
    *,
    executor: Executor | None = None,
    watch: Watch | None = None,
    finished: Callable[[Outcome[ContestUnit, str], int, int], None] | None = None,
) -> Contested:
    """Renders and scores every subject with every method, and every pair in every way, except for existing results.

    Args:
        folder: folder of the run; results in it are not made again.
        contest: settings of the comparison.
        benchmark: its loaded model and metrics, which give the keys; the local executor uses them too.
        cases: the subjects.
        methods: the methods.
        pairs: pairs of subjects; empty if `contest.duos` is None.
        executor: where to run; None is this process.
        watch: callbacks for progress and messages.
        finished: called with each unit's outcome, the number of outcomes so far, and the total.

    Raises:
        SamecastError: a method needs another subject, another process uses the folder, or it cannot be written.
    """
    store = Store(folder.absolute())
    duos = None if contest.duos is None else Duos(benchmark, contest.duos)
    units = units_of(store.path, benchmark, cases, methods, duos, pairs)
    make = partial(ContestWorker, store.path, contest)
    if executor is None:
        make = partial(ContestWorker, store.path, contest, benchmark=benchmark)
    with store.locked():
        waiting = [unit for unit in units if unit.left(store.path, benchmark)]
        run_units(store, waiting, make, executor or LocalExecutor(), watch, finished)
    data = {failure["key"]: failure for failure in failures(store)}
    return Contested(
        benchmark.judgements(store.path, cases, methods),
        [] if duos is None else duos.judgements(store.path, pairs),
        [data[unit.key] for unit in units if unit.key in data and unit.left(store.path, benchmark)],
    )
