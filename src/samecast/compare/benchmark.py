"""The Diorama benchmark as a run on disk: every subject with every method, rendered and scored once.

A unit is one subject with one method: its pictures, written atomically under a content key, and their scores, each
stored under its metric's key. So a killed run can be resumed, settings never mix, and adding a metric does not
render any picture again.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from samecast.attention.rule_files import rules_to_data
from samecast.checked import build, check_fields, read_json
from samecast.compare.learnt import Costs, knowing, naming
from samecast.compare.methods import Method
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import BENCHMARK_VERSION, Case
from samecast.diorama.renderer import render as draw
from samecast.diorama.scenes import WORLD_VERSION, Spec
from samecast.disk import writing_folder
from samecast.errors import SamecastError
from samecast.experiments.store import Store, content_key
from samecast.metrics import Metric, Truth
from samecast.photos import open_photo
from samecast.render import Model
from samecast.subject import Subject

Progress = Callable[[str, int, int], None]
UNITS, SCORES = "units", "scores"
COSTS = ("training_seconds", "file_megabytes")
_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """One picture, its scores, and the cost of the training before it, if any.

    Args:
        subject, method, prompt, seed: which picture it is.
        picture: its file within the run's `units`.
        scores: by metrics' columns.
        training_seconds: duration of the training.
        file_megabytes: size of the concept's file.
    """

    subject: str
    method: str
    prompt: str
    seed: int
    picture: str
    scores: Mapping[str, float]
    training_seconds: float = 0.0
    file_megabytes: float = 0.0

    def value(self, measure: str) -> float:
        """A score or cost by the name of its column."""
        return getattr(self, measure) if measure in COSTS else self.scores[measure]

    def row(self) -> dict[str, Any]:
        """The row of `scores.csv`: the picture's identity, scores, path and costs."""
        which = {name: getattr(self, name) for name in ("subject", "method", "prompt", "seed")}
        return which | dict(self.scores) | {name: getattr(self, name) for name in ("picture", *COSTS)}


@dataclass(frozen=True)
class Benchmark:
    """The settings of a benchmark run.

    Args:
        model: the model that renders.
        metrics: metrics of the pictures, in the order of tables.
        settings: settings of every render; methods may replace `init`.
        prompts: number of tasks per subject.
        hidden: read photos that show the subject 30-60% hidden.
    """

    model: Model
    metrics: tuple[Metric, ...]
    settings: RenderSettings
    prompts: int = 20
    hidden: bool = False

    def key(self, case: Case, method: Method, other: Case | None = None) -> str:
        """The unit's content key, from everything that its pictures depend on; `other` is the subject whose photo a
        shuffled method reads."""
        facts = self.facts(self._settings(method)) | {
            "subject": case.name,
            "hidden": self.hidden,
            "rules": rules_to_data(method.rules),
            "shuffled": other.name if method.shuffled and other else method.shuffled,
        }
        if method.learning is not None:
            facts["learning"] = asdict(method.learning)
            if method.strength != 1:
                facts["strength"] = method.strength
        if method.photos != 1:
            facts["photos"] = method.photos
        if method.drawn:
            facts["drawn"] = True
        data = json.dumps(facts, sort_keys=True, default=str)
        return f"{case.name}-{method.name}-{sha256(data.encode()).hexdigest()[:12]}"

    def place(self, folder: Path, case: Case, method: Method, other: Case | None = None) -> Path:
        """The folder of a unit in a run's folder; arguments as for `key`."""
        key = self.key(case, method, other)
        return folder / UNITS / key[-12:-10] / key

    def finished(self, folder: Path, place: Path) -> bool:
        """Whether all pictures and scores of a unit exist."""
        if not place.is_dir():
            return False
        known = _scores(folder, place)
        return len(known) >= self.prompts and all(data.keys() >= set(self.keys) for data in known)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the metrics."""
        return tuple(metric.key for metric in self.metrics)

    def finish(self, folder: Path, case: Case, method: Method, other: Case, progress: Progress | None = None) -> None:
        """Renders and scores a subject with a method, except for existing pictures and scores.

        Raises:
            SamecastError: a picture cannot be made, or the folder cannot be written.
        """
        place = self.place(folder, case, method, other)
        if not place.is_dir():
            self._unit(folder, place, case, method, other, progress)
        if not self.finished(folder, place):
            self._score(folder, place, case)

    def judgements(self, folder: Path, cases: Sequence[Case], methods: Sequence[Method]) -> list[Judgement]:
        """The stored results of subjects with methods, with all scores.

        Raises:
            SamecastError: a file is missing or damaged.
        """
        found: list[Judgement] = []
        for case, method, other in pairings(cases, methods):
            place = self.place(folder, case, method, other)
            if self.finished(folder, place):
                found += self._read(folder, place, case, method)
        return found

    def facts(self, settings: RenderSettings) -> dict[str, Any]:
        """The facts that the pictures of every unit depend on, JSON-serialisable."""
        return {
            "benchmark": BENCHMARK_VERSION,
            "world": WORLD_VERSION,
            "prompts": self.prompts,
            "settings": asdict(settings),
            "model": asdict(self.model.backbone.identity),
            "dtype": str(self.model.backbone.dtype),
        }

    @property
    def settled(self) -> RenderSettings:
        """The settings, with open values set by the model."""
        return self.model.backbone.settle(self.settings)

    def _settings(self, method: Method) -> RenderSettings:
        return self.settled if method.init is None else replace(self.settled, init=method.init)

    def _unit(
        self, folder: Path, place: Path, case: Case, method: Method, other: Case, progress: Progress | None
    ) -> None:
        """Renders the pictures of a unit."""
        size = self.model.backbone.default_size
        read = other if method.shuffled else case
        shown = [Image.fromarray(photo.image) for photo in (read.hidden_photos if self.hidden else read.photos)(size)]
        if method.drawn:
            specs = [Spec(case.identity, task.scene) for task in case.tasks[: self.prompts]]
            made = _Made(
                [Image.fromarray(draw(spec, size).image) for spec in specs],
                [task.seed for task in case.tasks[: self.prompts]],
                evaluations=0,
                costs=Costs(),
            )
        else:
            made = self._render(case, method, shown, folder, progress)
        with writing_folder(place) as pending:
            shown[0].save(pending.path / "reference.png")
            for index, image in enumerate(made.images):
                image.save(pending.path / f"{index:02d}.png")
            unit = _Unit(tuple(made.seeds), made.evaluations, made.costs.seconds, made.costs.megabytes)
            (pending.path / "unit.json").write_text(json.dumps(asdict(unit), indent=1) + "\n", encoding="utf-8")

    def _score(self, folder: Path, place: Path, case: Case) -> None:
        """Scores a unit's pictures by each metric whose scores are missing."""
        tasks, known = case.tasks[: self.prompts], _scores(folder, place)
        images = [open_photo(place / f"{index:02d}.png") for index in range(len(tasks))]
        photos = [Image.fromarray(photo.image) for photo in case.photos(self.model.backbone.default_size)]
        truths = [Truth(case.identity, task.scene) for task in tasks]
        scores: list[dict[str, float]] = known if len(known) == len(tasks) else [{} for _ in tasks]
        for metric in self.metrics:
            if all(metric.key in of for of in scores):
                continue
            values = metric.score(images, [task.prompt for task in tasks], photos, truths)
            for of, value in zip(scores, values, strict=True):
                of[metric.key] = value
        Store(folder).write(SCORES, _score_key(place), {"unit": place.name, "pictures": scores})

    def _read(self, folder: Path, place: Path, case: Case, method: Method) -> list[Judgement]:
        unit = build(_Unit, read_json(place / "unit.json", "finished unit"), f"{str(place)!r} is damaged: it")
        tasks, scores = case.tasks[: self.prompts], _scores(folder, place)
        if len(unit.seeds) != len(tasks):
            raise SamecastError(f"{str(place)!r} is damaged: it must have {len(tasks)} seeds; got {len(unit.seeds)}")
        return [
            Judgement(
                subject=case.name,
                method=method.name,
                prompt=task.prompt,
                seed=unit.seeds[index],
                picture=f"{place.parent.name}/{place.name}/{index:02d}.png",
                scores={metric.column: _rounded(scores[index][metric.key]) for metric in self.metrics},
                training_seconds=unit.training_seconds,
                file_megabytes=unit.file_megabytes,
            )
            for index, task in enumerate(tasks)
        ]

    def _render(
        self, case: Case, method: Method, shown: Sequence[Image.Image], folder: Path, progress: Progress | None
    ) -> "_Made":
        """Renders a picture for each of a subject's tasks, after the method's training."""
        prompts = [task.prompt for task in case.tasks[: self.prompts]]
        if method.learning is not None:
            prompts = [naming(prompt, case.noun) for prompt in prompts]
        with knowing(self.model, case, shown, method.learning, folder, progress, strength=method.strength) as costs:
            out = self.model.render(
                Subject(tuple(shown[: method.photos]), class_noun=case.noun),
                prompts,
                rules=method.rules,
                settings=self._settings(method),
            )
        images, seeds = [made.image for made in out.renders], [made.seed for made in out.renders]
        return _Made(images, seeds, out.evaluations, costs)


@dataclass(frozen=True)
class _Made:
    """Pictures of a subject's tasks, their seeds, and their costs."""

    images: list[Image.Image]
    seeds: list[int]
    evaluations: int
    costs: Costs


@dataclass(frozen=True)
class _Unit:
    """The contents of `unit.json`."""

    seeds: tuple[int, ...]
    evaluations: int
    training_seconds: float
    file_megabytes: float

    def __post_init__(self) -> None:
        check_fields(self)


def pairings(cases: Sequence[Case], methods: Sequence[Method]) -> Iterator[tuple[Case, Method, Case]]:
    """Each subject with each method, and the subject whose photo a shuffled method reads.

    Raises:
        SamecastError: a method reads another subject's photo and there is no other.
    """
    if len(cases) < 2 and any(method.shuffled for method in methods):
        raise SamecastError("a shuffled method reads another subject's photo: at least 2 subjects are needed")
    for number, case in enumerate(cases):
        for method in methods:
            yield case, method, cases[(number + 1) % len(cases)]


def _score_key(place: Path) -> str:
    return content_key({"unit": place.name})


def _scores(folder: Path, place: Path) -> list[dict[str, float]]:
    """The scores of a unit's pictures by metrics' keys; unreadable scores count as missing."""
    data = (Store(folder).read(SCORES, _score_key(place)) or {}).get("pictures")
    sound = isinstance(data, list) and all(_numbers(of) for of in data)  # pyright: ignore[reportUnknownVariableType]
    return data if sound else []  # pyright: ignore[reportUnknownVariableType, reportReturnType]


def _rounded(score: float) -> float:
    return round(score, _DIGITS) if isinstance(score, float) else score


def _numbers(scores: object) -> bool:
    return isinstance(scores, dict) and all(isinstance(score, int | float) for score in scores.values())
