"""The Diorama benchmark as a run on disk: every subject under every method, judged, kept, and never done twice.

What is kept is one subject under one method. It is written whole when it is finished, under a name made of all that
determines it, so a run that was killed goes on where it stopped and two settings never mix.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from samecast.attention.rule_files import rules_to_data
from samecast.checked import build, check_fields, read_json
from samecast.compare.learnt import Costs, knowing, naming
from samecast.compare.methods import Method
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import BENCHMARK_VERSION, Case, judge
from samecast.diorama.probe import Probe, Verdict
from samecast.diorama.renderer import render as draw
from samecast.diorama.scenes import WORLD_VERSION, Spec
from samecast.disk import writing_folder
from samecast.errors import SamecastError
from samecast.render import Model
from samecast.score.alignment import ClipScorer, ImageScorer
from samecast.subject import Subject

Progress = Callable[[str, int, int], None]
UNITS = "units"
HEADLINES = ("identity", "scene", "both")
MEASURES = (
    *HEADLINES,
    *(field.name for field in fields(Verdict)),
    "text_alignment",
    "image_alignment",
    "dino_alignment",
    "training_seconds",
    "file_megabytes",
)


@dataclass(frozen=True, kw_only=True)
class Judgement(Verdict):
    """The verdict on one picture, the cheap scores beside it, and what the training before it cost: nothing, mostly."""

    subject: str
    method: str
    prompt: str
    seed: int
    text_alignment: float
    image_alignment: float
    dino_alignment: float
    picture: str
    training_seconds: float = 0.0
    file_megabytes: float = 0.0

    def row(self) -> dict[str, Any]:
        """All of it by name, as in `scores.csv`: which picture, the headlines, what they are made of, and the rest."""
        which = {name: getattr(self, name) for name in ("subject", "method", "prompt", "seed")}
        return which | {name: getattr(self, name) for name in HEADLINES} | asdict(self)


@dataclass(frozen=True)
class Benchmark:
    """What is run.

    Args:
        model: renders.
        probe: says what is in a picture.
        clip: scores text and image alignment.
        dino: scores image alignment beside it.
        settings: of every render; methods may replace `init`.
        prompts: how many of a subject's tasks.
        hidden: read photos that show the subject 30-60% hidden.
    """

    model: Model
    probe: Probe
    clip: ClipScorer
    dino: ImageScorer
    settings: RenderSettings
    prompts: int = 20
    hidden: bool = False

    def key(self, case: Case, method: Method, other: Case | None = None) -> str:
        """A name for the unit, made of everything that its pictures and verdicts depend on; `other` is the subject
        whose photo a shuffled method reads."""
        facts = self.facts(self._settings(method)) | {
            "row": [field.name for field in fields(Judgement)],
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

    def finish(self, folder: Path, case: Case, method: Method, other: Case, progress: Progress | None = None) -> None:
        """Makes and judges a subject under a method, unless that is kept already.

        Raises:
            SamecastError: it cannot be made, or the folder cannot be written.
        """
        place = self.place(folder, case, method, other)
        if not place.is_dir():
            self._unit(folder, place, case, method, other, progress)

    def judgements(self, folder: Path, cases: Sequence[Case], methods: Sequence[Method]) -> list[Judgement]:
        """All that is kept of subjects under methods.

        Raises:
            SamecastError: a part of it is damaged.
        """
        places = (self.place(folder, *of) for of in pairings(cases, methods))
        return [judgement for place in places if place.is_dir() for judgement in _read(place)]

    def facts(self, settings: RenderSettings) -> dict[str, Any]:
        """What pictures and verdicts of every unit depend on, JSON-able."""
        return {
            "benchmark": BENCHMARK_VERSION,
            "world": WORLD_VERSION,
            "prompts": self.prompts,
            "settings": asdict(settings),
            "model": asdict(self.model.backbone.identity),
            "dtype": str(self.model.backbone.dtype),
            "judges": self._judges,
        }

    @cached_property
    def _judges(self) -> str:
        """A hash of those who judge: new weights judge anew."""
        digest = sha256()
        for network in (self.probe.network, self.clip.model, self.dino.model):
            for name, weight in network.state_dict().items():
                digest.update(name.encode())
                digest.update(weight.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def settled(self) -> RenderSettings:
        """The settings, with what they leave to the model."""
        return self.settings.settled(self.model.backbone.default_guidance)

    def _settings(self, method: Method) -> RenderSettings:
        return self.settled if method.init is None else replace(self.settled, init=method.init)

    def _unit(
        self, folder: Path, place: Path, case: Case, method: Method, other: Case, progress: Progress | None
    ) -> None:
        size = self.model.backbone.default_size
        photos = [Image.fromarray(photo.image) for photo in case.photos(size)]
        read = other if method.shuffled else case
        shown = [Image.fromarray(photo.image) for photo in (read.hidden_photos if self.hidden else read.photos)(size)]
        tasks = case.tasks[: self.prompts]
        if method.drawn:
            made = _Made(
                [Image.fromarray(draw(Spec(case.identity, task.scene), size).image) for task in tasks],
                [task.seed for task in tasks],
                evaluations=0,
                costs=Costs(),
            )
        else:
            made = self._render(case, method, shown, folder, progress)
        images = made.images
        text = self.clip.text_alignment(images, [task.prompt for task in tasks])
        alike, alike_dino = (scorer.image_alignment(images, photos) for scorer in (self.clip, self.dino))
        judgements: list[dict[str, Any]] = []
        with writing_folder(place) as pending:
            shown[0].save(pending.path / "reference.png")
            for index, (task, reading) in enumerate(zip(tasks, self.probe.read(images), strict=True)):
                verdict = judge(reading, case, task)
                images[index].save(pending.path / f"{index:02d}.png")
                judgement = Judgement(
                    **asdict(verdict),
                    subject=case.name,
                    method=method.name,
                    prompt=task.prompt,
                    seed=made.seeds[index],
                    text_alignment=round(text[index], 4),
                    image_alignment=round(alike[index], 4),
                    dino_alignment=round(alike_dino[index], 4),
                    picture=f"{place.parent.name}/{place.name}/{index:02d}.png",
                    training_seconds=made.costs.seconds,
                    file_megabytes=made.costs.megabytes,
                )
                judgements.append(asdict(judgement))
            unit = {"judgements": judgements, "evaluations": made.evaluations}
            (pending.path / "unit.json").write_text(json.dumps(unit, indent=1) + "\n", encoding="utf-8")

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

    judgements: tuple[Any, ...]
    evaluations: int

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


def _read(place: Path) -> list[Judgement]:
    data = build(_Unit, read_json(place / "unit.json", "finished unit"), f"{str(place)!r} is damaged: it")
    return [build(Judgement, entry, f"{str(place)!r} is damaged: a judgement") for entry in data.judgements]
