"""The Diorama benchmark as a run on disk: every subject under every method, made, scored, kept, and never done twice.

What is kept is one subject under one method: its pictures, written whole when they are finished under a name made of
all that determines them, and beside them their scores, each under its metric's own identity. So a run that was killed
goes on where it stopped, two settings never mix, and another metric makes no picture again.
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
    """One picture, its scores, and what the training before it cost: nothing, mostly.

    Args:
        subject, method, prompt, seed: which picture it is.
        picture: its file within the run's `units`.
        scores: by metrics' columns.
        training_seconds: of what was learnt before.
        file_megabytes: likewise, of its file.
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
        """A score by its column, or a cost."""
        return getattr(self, measure) if measure in COSTS else self.scores[measure]

    def row(self) -> dict[str, Any]:
        """All of it by name, as in `scores.csv`: which picture, its scores, where it is, and its costs."""
        which = {name: getattr(self, name) for name in ("subject", "method", "prompt", "seed")}
        return which | dict(self.scores) | {name: getattr(self, name) for name in ("picture", *COSTS)}


@dataclass(frozen=True)
class Benchmark:
    """What is run.

    Args:
        model: renders.
        metrics: score the pictures, in the order of tables.
        settings: of every render; methods may replace `init`.
        prompts: how many of a subject's tasks.
        hidden: read photos that show the subject 30-60% hidden.
    """

    model: Model
    metrics: tuple[Metric, ...]
    settings: RenderSettings
    prompts: int = 20
    hidden: bool = False

    def key(self, case: Case, method: Method, other: Case | None = None) -> str:
        """A name for the unit, made of everything that its pictures depend on; `other` is the subject whose photo a
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
        """Where a subject under a method is kept in a run's folder; arguments as for `key`."""
        key = self.key(case, method, other)
        return folder / UNITS / key[-12:-10] / key

    def finished(self, folder: Path, place: Path) -> bool:
        """Whether the pictures of a unit are there, with all their scores."""
        if not place.is_dir():
            return False
        known = _scores(folder, place)
        return len(known) >= self.prompts and all(data.keys() >= set(self.keys) for data in known)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of the metrics."""
        return tuple(metric.key for metric in self.metrics)

    def finish(self, folder: Path, case: Case, method: Method, other: Case, progress: Progress | None = None) -> None:
        """Makes and scores a subject under a method, as far as that is not kept already.

        Raises:
            SamecastError: it cannot be made, or the folder cannot be written.
        """
        place = self.place(folder, case, method, other)
        if not place.is_dir():
            self._unit(folder, place, case, method, other, progress)
        if not self.finished(folder, place):
            self._score(folder, place, case)

    def judgements(self, folder: Path, cases: Sequence[Case], methods: Sequence[Method]) -> list[Judgement]:
        """All that is kept of subjects under methods, with all its scores.

        Raises:
            SamecastError: a part of it is damaged.
        """
        found: list[Judgement] = []
        for case, method, other in pairings(cases, methods):
            place = self.place(folder, case, method, other)
            if self.finished(folder, place):
                found += self._read(folder, place, case, method)
        return found

    def facts(self, settings: RenderSettings) -> dict[str, Any]:
        """What pictures of every unit depend on, JSON-able."""
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
        """The settings, with what they leave to the model."""
        return self.model.backbone.settle(self.settings)

    def _settings(self, method: Method) -> RenderSettings:
        return self.settled if method.init is None else replace(self.settled, init=method.init)

    def _unit(
        self, folder: Path, place: Path, case: Case, method: Method, other: Case, progress: Progress | None
    ) -> None:
        """Makes the pictures of a unit."""
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
        """Scores a unit's pictures by each metric that has not scored them yet."""
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
        """A picture of each of a subject's tasks, after what the method learns first."""
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
    """Pictures of a subject's tasks, their seeds, and what they cost."""

    images: list[Image.Image]
    seeds: list[int]
    evaluations: int
    costs: Costs


@dataclass(frozen=True)
class _Unit:
    """What `unit.json` says."""

    seeds: tuple[int, ...]
    evaluations: int
    training_seconds: float
    file_megabytes: float

    def __post_init__(self) -> None:
        check_fields(self)


def pairings(cases: Sequence[Case], methods: Sequence[Method]) -> Iterator[tuple[Case, Method, Case]]:
    """Each subject under each method, with the subject whose photo a shuffled method reads.

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
    """The scores of a unit's pictures by metrics' keys; what cannot be read is as good as not scored."""
    data = (Store(folder).read(SCORES, _score_key(place)) or {}).get("pictures")
    sound = isinstance(data, list) and all(_numbers(of) for of in data)  # pyright: ignore[reportUnknownVariableType]
    return data if sound else []  # pyright: ignore[reportUnknownVariableType, reportReturnType]


def _rounded(score: float) -> float:
    return round(score, _DIGITS) if isinstance(score, float) else score


def _numbers(scores: object) -> bool:
    return isinstance(scores, dict) and all(isinstance(score, int | float) for score in scores.values())
