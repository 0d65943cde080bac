"""A comparison as a job: its units are subjects under methods that share a training, and pairs of subjects.

Methods with one training are one unit, so that it is learnt once, wherever the unit is worked on. A unit that fails is
kept with its reason, and stops no other.
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
    """What is run, as it is told to workers, who load it.

    Args:
        model: a path or hub id.
        settings: of every render.
        prompts: how many of a subject's tasks.
        hidden: read photos that show the subject hidden in part.
        device: where to compute.
        dtype: precision of the model, by name.
        duos: how one subject of a pair learns; None where there are no pairs.
        metrics: names of what scores the pictures.
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
        """The model, loaded here, and the metrics.

        Raises:
            SamecastError: one cannot be loaded.
        """
        import_module("samecast.diorama.compiled")  # what draws the subjects is told before any work
        metrics = make_metrics(self.metrics)
        model = load(self.model, device=self.device, dtype=self.dtype)
        return Benchmark(model, metrics, self.settings, self.prompts, self.hidden)


@dataclass(frozen=True)
class ContestUnit:
    """A subject under methods that share a training; or a pair, under all ways.

    Args:
        name: for people.
        key: of its own.
        cost: how long it takes against the others.
        parts: each subject with its method, and the subject whose photo a shuffled method reads.
        pair: the pair, if it is one.
        places: where what comes of it is kept, by what the job knows of the model.
        metrics: keys of what scores it; none of a pair.
    """

    name: str
    key: str
    cost: float
    parts: tuple[tuple[Case, Method, Case], ...]
    pair: DuoCase | None
    places: tuple[Path, ...]
    metrics: tuple[str, ...] = ()

    def left(self, folder: Path, benchmark: Benchmark) -> list[Path]:
        """What is not kept yet, pictures or scores."""
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
    """Works on units with a model and metrics that it loads once.

    Args:
        folder: of the run.
        contest: what to load.
        progress: told how far a unit is.
        benchmark: the same, where it is loaded already.

    Raises:
        SamecastError: the folder is not to be seen from here, or something cannot be loaded.
    """

    def __init__(
        self, folder: Path, contest: Contest, progress: Progress = no_progress, benchmark: Benchmark | None = None
    ) -> None:
        if not (folder / LOCK).is_file():
            raise SamecastError(f"this worker does not see {str(folder)!r}: put it on storage that all share")
        self._folder, self._progress = folder, progress
        self._benchmark = benchmark or contest.benchmark()
        self._duos = None if contest.duos is None else Duos(self._benchmark, contest.duos)

    def __call__(self, unit: ContestUnit) -> str:
        """One unit, from where it stands to the end; its name.

        Raises:
            SamecastError: it cannot be made, or the model or the metrics are others here than where it was told.
        """

        def data(stage: str, done: int, total: int) -> None:
            self._progress(f"{unit.name}: {stage}", done, total)

        steps = [partial(self._benchmark.finish, self._folder, *part, data) for part in unit.parts]
        places = [self._benchmark.place(self._folder, *part) for part in unit.parts]
        if unit.pair is not None and self._duos is not None:
            steps = [partial(self._duos.finish, self._folder, unit.pair, way, data) for way in WAYS]
            places = [self._duos.place(self._folder, unit.pair, way) for way in WAYS]
        if tuple(places) != unit.places or (unit.metrics and unit.metrics != self._benchmark.keys):
            raise SamecastError("this worker has another model, or other metrics, than the job was told for")
        for number, step in enumerate(steps):
            self._progress(unit.name, number, len(steps))
            step()
        return unit.name


@dataclass(frozen=True)
class Contested:
    """What came of a comparison.

    Args:
        judgements: of subjects.
        pairs: of pairs.
        failures: of units, with the reason of each.
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
    """Judges every subject under every method, and every pair under every way, that is not kept yet.

    Args:
        folder: of the run; what is kept there is not made again.
        contest: what is run.
        benchmark: the same, loaded here: its keys tell what is kept, and the local executor works with it.
        cases: the subjects.
        methods: what they are put under.
        pairs: of subjects, where the contest says how these learn.
        executor: where; None is this process.
        watch: who is told what meanwhile.
        finished: told of each unit that has ended, how many have by then, and how many will have.

    Raises:
        SamecastError: a method lacks another subject, somebody else works in the folder, or it cannot be written.
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
