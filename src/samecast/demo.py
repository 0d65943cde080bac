"""The demo: one held-out subject of the embedded world, six prompts, four settings, scored by the probe.

A small study of one subject with its own grid, scored against the truth. No model was trained on the subject, and the
prompts name only its class, so its colours and pattern can reach a picture only through attention. As the world is
rendered, the probe can decide whether they are right.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from PIL import Image

from samecast.attention.methods import Rules, masactrl
from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import DEMO, demo_case
from samecast.disk import absolute, writing_folder
from samecast.errors import SamecastError
from samecast.experiments.executors import Watch
from samecast.metrics import Metric, metric_types, truths_among
from samecast.render import Model
from samecast.report.grid import draw_grid
from samecast.report.page import Page, Table, page_html
from samecast.report.panels import Mark, Panel, Row
from samecast.study.binding import orders_of
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, Variant
from samecast.study.job import prepare, run_study
from samecast.study.recipe import Recipe
from samecast.study.scoring import metrics_of, score_key
from samecast.study.subjects import StudySubject
from samecast.study.unit import ExecutionConfig

MARKER, STUDY = "demo.json", "study"
METRICS = ("clip-text", "clip-image", "identity", "scene", "both", "base-error", "second-error")
_FULL_RUN = 50

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """One way to render all the prompts."""

    title: str
    note: str
    rules: Rules


@dataclass(frozen=True)
class Demo:
    """The finished demo.

    Args:
        folder: its folder.
        noun: the class of its subject.
        scores: the scores of each picture by metrics' columns, for each setting.
        seconds: its duration.
    """

    folder: Path
    noun: str
    scores: Mapping[Setting, Sequence[Mapping[str, float]]]
    seconds: float

    @property
    def truths(self) -> list[type[Metric]]:
        """The metrics with verdicts."""
        return [m for about in ("subject", "prompt", "picture") for m in truths_among(metric_types(METRICS), about)]

    def label(self, metric: type[Metric]) -> str:
        """A metric's verdict in words."""
        return {"subject": f"same {self.noun}", "prompt": "right scene", "picture": "both"}[metric.about]

    def table(self) -> Table:
        """The verdicts by setting."""
        return Table(
            columns=("setting", *(self.label(metric) for metric in self.truths), "colours off by"),
            rows=tuple(
                (
                    setting.title,
                    *(f"{sum(one[metric.column] for one in of)} of {len(of)}" for metric in self.truths),
                    f"{colours_off(of):.0f}",
                )
                for setting, of in self.scores.items()
            ),
            caption="Verdicts of the probe, which shares nothing with the model and was not trained on its pictures; "
            "the same means right class, pattern, accessory and both colours (within 10 CIEDE2000)",
        )


def colours_off(scores: Sequence[Mapping[str, float]]) -> float:
    """The mean error of both colours over pictures, in CIEDE2000."""
    return fmean(of[name] for of in scores for name in ("base_error", "second_error"))


def settings_of(steps: int) -> tuple[Setting, ...]:
    """The four settings; their spans are those of a run of 50 steps, scaled to this one's length."""
    start, early = (round(step * steps / _FULL_RUN) for step in (4, 25))
    return (
        Setting("no control", "the prompt alone, from the same initial latents", ()),
        Setting(
            f"decoder, steps {start}-{steps}", "layers 10-15 read the photo to the end", masactrl(start, layers="10-15")
        ),
        Setting(f"encoder, steps {start}-{steps}", "layers 0-7 read the photo instead", masactrl(start, layers="0-7")),
        Setting(
            f"decoder, steps {start}-{early}", "layers 10-15, stopping early", masactrl(start, early, layers="10-15")
        ),
    )


def run_demo(model: Model, folder: str | Path, *, steps: int = _FULL_RUN, progress: Progress | None = None) -> Demo:
    """Render and score the demo's study, and write it with `index.html`, `grid.png` and `demo.json`.

    Args:
        model: the model to show.
        folder: the demo's folder. An earlier demo there is replaced; otherwise the next free name is used.
        steps: denoising steps.
        progress: called with the name of the work, the amount done and the total.

    Raises:
        SamecastError: the folder cannot be written, or a picture cannot be made.
    """
    began, case = time.monotonic(), demo_case()
    photos = tuple(Image.fromarray(photo.image) for photo in case.photos(model.backbone.default_size))
    subject = StudySubject(case.name, tuple(task.prompt for task in case.tasks), photos, case.noun, "", photos, DEMO)
    settings = settings_of(steps)
    grid = Grid(tuple(Variant(setting.title, {}, setting.rules) for setting in settings), ())
    recipe = Recipe(
        grid,
        RenderSettings(num_inference_steps=steps),
        str(model.backbone.identity.id),
        revision="",
        dtype="",
        clip="diorama",  # the pictures show its world, whatever the model
        title="demo",
        metrics=METRICS,
    )
    with writing_folder(folder, replaces=lambda old: (old / MARKER).is_file()) as place:
        study, recipe = prepare(absolute(place.path) / STUDY, recipe, [subject], model.backbone)
        ran = run_study(
            study, ExecutionConfig(study.path), backbone=model.backbone, watch=Watch(progress=progress or _quiet)
        )
        if failures := study.failures():
            raise SamecastError(f"the demo could not be made: {failures[0]['unit']}: {failures[0]['reason']}")
        pictures = _pictures(study, recipe, subject)
        scores = {setting: [scores for _, _, scores in pictures[setting.title]] for setting in settings}
        demo = Demo(Path(folder), case.noun, scores, time.monotonic() - began)
        rows = [_row(demo, setting, pictures[setting.title]) for setting in settings]
        reference = Row((Panel(photos[0], f"the photo of the {case.noun}"),), "reference")
        draw_grid([reference, *rows]).save(place.path / "grid.png")
        evaluations = sum(tally.evaluations for tally in ran.tallies)
        page = _page(demo, recipe, model, photos, rows, evaluations)
        (place.path / "index.html").write_text(page_html(page), encoding="utf-8")
        (place.path / MARKER).write_text(json.dumps(_facts(demo, recipe), indent=2) + "\n", encoding="utf-8")
    return replace(demo, folder=place.final)


ScoredPicture = tuple[Image.Image, str, Mapping[str, float]]
"""A picture, its prompt, and its scores by metrics' columns."""


def _quiet(name: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


def _pictures(study: StudyFolder, recipe: Recipe, subject: StudySubject) -> dict[str, list[ScoredPicture]]:
    """The study's pictures by variant, in the order of the subject's prompts."""
    metrics = metrics_of(recipe)
    found: dict[str, list[ScoredPicture]] = {}
    for order in sorted(orders_of(recipe, subject), key=lambda order: subject.prompts.index(order.cast.prompt)):
        scores = study.scores(score_key(subject, order.cast), metrics)[order.key]
        data = {metric.column: scores[metric.key] for metric in metrics}
        found.setdefault(order.variant.name, []).append((study.picture(order.key), order.cast.prompt, data))
    return found


def _row(demo: Demo, setting: Setting, pictures: Sequence[ScoredPicture]) -> Row:
    marks = [metric for metric in demo.truths if metric.about != "picture"]
    panels = tuple(
        Panel(image, prompt, tuple(Mark(demo.label(metric), bool(scores[metric.column])) for metric in marks))
        for image, prompt, scores in pictures
    )
    return Row(panels, setting.title, f"{setting.note}; colours off by {colours_off(demo.scores[setting]):.0f}")


def _page(
    demo: Demo, recipe: Recipe, model: Model, photos: Sequence[Image.Image], rows: list[Row], evaluations: int
) -> Page:
    where = model.backbone.describe()
    return Page(
        title=f"One {demo.noun}, six scenes",
        summary=f"The model has never seen this {demo.noun}, and no prompt states its colours or its pattern. "
        "They reach the pictures from the first photo, through attention; each row reads at different layers or steps. "
        "Ticks and crosses are the verdicts of the probe, which shares nothing with the model.",
        references=tuple(
            Panel(photo, f"the {demo.noun}: the photo that is read" if number == 0 else f"the same {demo.noun}")
            for number, photo in enumerate(photos)
        ),
        rows=rows,
        table=demo.table(),
        facts={
            "model": f"{recipe.model} ({recipe.revision[:19]})",
            "subject": f"{demo_case().name} of the embedded world, held out from training",
            "steps": str(recipe.settings.num_inference_steps),
            "guidance": str(recipe.settings.guidance),
            "evaluations": str(evaluations),
            "seconds": f"{demo.seconds:.0f} on {where['device']}, {where['threads']} threads",
        },
    )


def _facts(demo: Demo, recipe: Recipe) -> dict[str, Any]:
    return {
        "subject": demo_case().name,
        "seconds": round(demo.seconds, 1),
        "model": recipe.model,
        "revision": recipe.revision,
        "settings": [
            {"title": setting.title, "scores": [dict(scores) for scores in of]} for setting, of in demo.scores.items()
        ],
    }
