"""Two subjects in one scene: learned jointly, or separately and then merged or added.

Pictures are twice as wide as high, the first subject on the left; the probe reads each half. A unit is one pair with
one of `WAYS`, stored like those of `benchmark`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from samecast.checked import build, read_json
from samecast.compare.benchmark import UNITS, Benchmark, Progress
from samecast.compare.learnt import TOKENS, learnt, naming
from samecast.concepts.apply import Weighted, apply_concepts
from samecast.concepts.merge import merge
from samecast.concepts.places import find_pipeline
from samecast.diorama.benchmark import DuoCase
from samecast.diorama.probe import Verdict, judge
from samecast.disk import replace_picture, writing_folder
from samecast.errors import SamecastError
from samecast.learn.settings import LearnSettings
from samecast.metrics.truth import probe_revision, readings
from samecast.photos import open_photo
from samecast.report.grid import draw_grid
from samecast.report.panels import Mark, Panel, Row

Way = Literal["prompt", "joint", "merged", "added"]
WAYS: dict[Way, str] = {
    "prompt": "prompt alone",
    "joint": "Custom Diffusion, both in one training",
    "merged": "Custom Diffusion, each alone, merged in closed form",
    "added": "Custom Diffusion, each alone, changes added up",
}


@dataclass(frozen=True)
class DuoJudgement:
    """The probe's verdicts on a picture of two subjects."""

    duo: str
    way: Way
    prompt: str
    seed: int
    left: Verdict
    right: Verdict
    picture: str
    seconds: float

    @property
    def one(self) -> float:
        """The share of the two subjects whose identity is right: 0, 0.5 or 1."""
        return (self.left.identity + self.right.identity) / 2

    @property
    def identity(self) -> bool:
        """Both subjects are right."""
        return self.left.identity and self.right.identity

    @property
    def scene(self) -> bool:
        """Poses and place match the prompt."""
        return self.left.scene and self.right.scene

    @property
    def classes(self) -> bool:
        """Each half shows the right class."""
        return self.left.kind and self.right.kind


@dataclass(frozen=True)
class Duos:
    """The settings of a benchmark of pairs.

    Args:
        benchmark: gives the model, the settings and the number of prompts.
        learning: training settings for one subject, with keys and values only if they are merged; two subjects together
            take twice the steps.
    """

    benchmark: Benchmark
    learning: LearnSettings

    def place(self, folder: Path, case: DuoCase, way: Way) -> Path:
        """The folder of a unit in a run's folder."""
        key = self.key(case, way)
        return folder / UNITS / key[-12:-10] / key

    def finish(self, folder: Path, case: DuoCase, way: Way, progress: Progress | None = None) -> None:
        """Renders and scores a pair with one of `WAYS`, unless the results exist.

        Raises:
            SamecastError: a picture cannot be made, or the folder cannot be written.
        """
        place = self.place(folder, case, way)
        if not place.is_dir():
            self._unit(folder, place, case, way, progress)

    def judgements(
        self, folder: Path, cases: Sequence[DuoCase], ways: Sequence[Way] = tuple(WAYS)
    ) -> list[DuoJudgement]:
        """The stored results of pairs.

        Raises:
            SamecastError: a file is missing or damaged.
        """
        places = (self.place(folder, case, way) for case in cases for way in ways)
        return [judgement for place in places if place.is_dir() for judgement in _read(place)]

    def key(self, case: DuoCase, way: Way) -> str:
        """The unit's content key, from everything that its pictures and verdicts depend on."""
        learning = None if way == "prompt" else asdict(self.learning)
        facts = self.benchmark.facts(self.benchmark.settled) | {
            "way": way,
            "learning": learning,
            "probe": probe_revision(),
        }
        data = json.dumps(facts, sort_keys=True, default=str)
        return f"{case.name}-{way}-{sha256(data.encode()).hexdigest()[:12]}"

    def _unit(self, folder: Path, place: Path, case: DuoCase, way: Way, progress: Progress | None) -> None:
        model, tasks = self.benchmark.model, case.tasks[: self.benchmark.prompts]
        photos = [
            [Image.fromarray(photo.image) for photo in subject.photos(model.backbone.default_size)]
            for subject in case.subjects
        ]
        prompts = [task.prompt for task in tasks]
        concepts, seconds = self._concepts(folder, case, photos, way, progress)
        if concepts:
            for subject, token in zip(case.subjects, TOKENS, strict=True):
                prompts = [naming(prompt, subject.noun, token) for prompt in prompts]
        with apply_concepts(model, concepts):
            images = self._pictures(prompts, [task.seed for task in tasks])
        side = images[0].height
        halves = [image.crop((at, 0, at + side, side)) for image in images for at in (0, side)]
        seen = readings(halves)
        judgements: list[dict[str, Any]] = []
        with writing_folder(place) as pending:
            for subject, own in zip(case.subjects, photos, strict=True):
                own[0].save(pending.path / f"{subject.name}.png")
            for index, task in enumerate(tasks):
                left, right = (
                    judge(seen[2 * index + half], case.subjects[half].identity, task.scenes[half]) for half in (0, 1)
                )
                images[index].save(pending.path / f"{index:02d}.png")
                picture = f"{place.parent.name}/{place.name}/{index:02d}.png"
                judged = DuoJudgement(case.name, way, task.prompt, task.seed, left, right, picture, seconds)
                judgements.append(asdict(judged))
            (pending.path / "unit.json").write_text(json.dumps(judgements, indent=1) + "\n", encoding="utf-8")

    def _concepts(
        self,
        folder: Path,
        case: DuoCase,
        photos: Sequence[Sequence[Image.Image]],
        way: Way,
        progress: Progress | None,
    ) -> tuple[Weighted, float]:
        """The concepts to apply, and the seconds of their training."""
        model, known = self.benchmark.model, list(zip(case.subjects, photos, strict=True))
        if way == "prompt":
            return [], 0.0
        if way == "joint":
            both = learnt(model, known, self.learning, folder, progress)
            return [(both.concept, 1.0)], round(both.seconds, 1)
        each = [learnt(model, [subject], self.learning, folder, progress) for subject in known]
        named = [alone.concept.rename({TOKENS[0]: token}) for alone, token in zip(each, TOKENS, strict=True)]
        seconds = round(sum(alone.seconds for alone in each), 1)
        if way == "merged":
            return [(merge(named, model)[0], 1.0)], seconds
        return [(concept, 1.0) for concept in named], seconds

    def _pictures(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        """Pictures twice as wide as high, by the stock pipeline, as no attention is routed."""
        model, settings = self.benchmark.model, self.benchmark.settled
        pipeline, side = find_pipeline(model), model.backbone.default_size
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad():
            return pipeline(
                list(prompts),
                height=side,
                width=2 * side,
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance,
                guidance_rescale=settings.guidance_rescale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            ).images


def ways_of(judgements: Sequence[DuoJudgement]) -> list[Way]:
    """The ways that were scored, in the order of tables."""
    return [way for way in WAYS if any(judgement.way == way for judgement in judgements)]


def means_of(judgements: Sequence[DuoJudgement], way: Way) -> dict[str, float]:
    """Means over the pictures of one way: shares 0..1, and seconds of training."""
    of = [judgement for judgement in judgements if judgement.way == way]
    measures = ("classes", "one", "identity", "scene", "seconds")
    means = {measure: float(np.mean([getattr(judgement, measure) for judgement in of])) for measure in measures}
    return means | {"both": float(np.mean([judgement.identity and judgement.scene for judgement in of]))}


def draw_duos(folder: Path, judgements: Sequence[DuoJudgement]) -> Path:
    """Draw two pictures of each of the first two pairs, one row per way, into `duos.png` in the run's folder."""
    rows: list[Row] = []
    for way in ways_of(judgements):
        panels: list[Panel] = []
        for duo in list(dict.fromkeys(judgement.duo for judgement in judgements))[:2]:
            of = [judgement for judgement in judgements if (judgement.way, judgement.duo) == (way, duo)][:2]
            unit = (folder / UNITS / of[0].picture).parent
            panels += [Panel(open_photo(unit / f"{name}.png"), "photo") for name in duo.split("+")]
            panels += [
                Panel(
                    open_photo(folder / UNITS / judgement.picture),
                    judgement.prompt,
                    (
                        Mark("left", judgement.left.identity),
                        Mark("right", judgement.right.identity),
                        Mark("scene", judgement.scene),
                    ),
                )
                for judgement in of
            ]
        rows.append(Row(tuple(panels), WAYS[way]))
    replace_picture(draw_grid(rows), folder / "duos.png")
    return folder / "duos.png"


def _read(place: Path) -> list[DuoJudgement]:
    entries = read_json(place / "unit.json", "finished unit")
    if not isinstance(entries, list):
        raise SamecastError(f"{str(place)!r} is damaged: expected a list of judgements")
    return [build(DuoJudgement, entry, f"{str(place)!r} is damaged: a judgement") for entry in entries]
