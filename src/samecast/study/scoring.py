"""Scores of a study's pictures by its metrics, each kept under the metric's own identity.

What one metric said stays, whichever others are added: only what is missing is scored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

from PIL import Image

from samecast.diorama.benchmark import Case, find_case
from samecast.errors import SamecastError
from samecast.experiments.store import content_key
from samecast.metrics import DEFAULT, Metric, Models, Truth, leading, make_metrics, metric_types
from samecast.metrics.base import EMBEDDED
from samecast.metrics.dino import NONE, Dino
from samecast.study.photos import Photos, hashes_of
from samecast.study.recipe import Cast, Recipe
from samecast.study.subjects import StudySubject

REAL_CLIP, REAL_DINO = "openai/clip-vit-large-patch14", "facebook/dino-vits16"
_AT_ONCE = 64
"""Pictures that are scored before any score is told, and kept."""
Judged = tuple[str, str, Image.Image]
"""A picture to score: its key, its prompt, and what it shows."""
Score = float | bool | None
Scores = dict[str, dict[str, Score]]
"""Of pictures by their keys, by metrics' keys."""


def settle_scoring(recipe: Recipe) -> Recipe:
    """A recipe with what it leaves open of its metrics and their models: by default all of `DEFAULT`, asked of the
    embedded models for the embedded model, of CLIP and DINO for others; DINO is left out where only CLIP is named.

    Raises:
        SamecastError: there is no such metric, or none of the prompt, or none of the subject.
    """
    real = recipe.model != EMBEDDED
    clip = recipe.clip or (REAL_CLIP if real else EMBEDDED)
    dino = recipe.dino or (REAL_DINO if real else EMBEDDED)
    if not recipe.dino and not recipe.metrics and real and clip != REAL_CLIP:
        dino = NONE
    names = recipe.metrics or tuple(name for name in DEFAULT if name != Dino.name or dino != NONE)
    leading(metric_types(names))
    return replace(recipe, clip=clip, dino=dino if Dino.name in names else NONE, metrics=names)


@cache
def _made(names: tuple[str, ...], clip: str, dino: str, device: str) -> tuple[Metric, ...]:
    return make_metrics(names, Models(clip, dino, device))


def metrics_of(recipe: Recipe, device: str = "cpu") -> tuple[Metric, ...]:
    """What scores a study's pictures, and where; loads no weights. Errors as for `make_metrics`."""
    settled = settle_scoring(recipe)
    return _made(settled.metrics, settled.clip, settled.dino, device)


def check_subjects(metrics: Sequence[type[Metric]], subjects: Iterable[StudySubject]) -> None:
    """Refuses metrics that were asked for and that have nothing to score.

    Raises:
        SamecastError: one needs the truth, and nothing is known of any subject.
    """
    needing = [metric.name for metric in metrics if "truth" in metric.needs]
    if needing and all(subject.case is None for subject in subjects):
        raise SamecastError(
            f"{', '.join(needing)} need the truth, which is known of the bundled subjects alone: leave them out"
        )


def score(
    metrics: Sequence[Metric],
    subject: StudySubject,
    pictures: Iterable[Judged],
    known: Mapping[str, Mapping[str, Score]],
) -> Iterator[Scores]:
    """Scores that are missing, some pictures at a time as they come.

    Args:
        metrics: to score by.
        subject: whose pictures they are.
        pictures: read one after another.
        known: what was scored before.
    """
    left = iter(pictures)
    photos: list[Image.Image] = []
    while chunk := list(islice(left, _AT_ONCE)):
        photos = photos or list(photos_judged(subject))
        found: Scores = {key: {} for key, _, _ in chunk}
        for metric in metrics:
            new = [picture for picture in chunk if metric.key not in known.get(picture[0], {})]
            if not new:
                continue
            for (key, _, _), value in zip(new, _scored(metric, subject, new, photos), strict=True):
                found[key][metric.key] = value
        yield found


def _scored(
    metric: Metric, subject: StudySubject, pictures: Sequence[Judged], photos: Sequence[Image.Image]
) -> Sequence[Score]:
    """One metric's; what needs the truth says nothing where that is not known."""
    prompts, images = [prompt for _, prompt, _ in pictures], [image for _, _, image in pictures]
    if "truth" not in metric.needs:
        return metric.score(images, prompts, photos)
    if subject.case is None:
        return [None] * len(pictures)
    return metric.score(images, prompts, photos, [_truth(subject.case, prompt) for prompt in prompts])


@cache
def _case(number: int | str) -> Case:
    return find_case(number)


def _truth(number: int | str, prompt: str) -> Truth:
    data = _case(number)
    return Truth(data.identity, next(task.scene for task in data.tasks if task.prompt == prompt))


def score_key(subject: StudySubject, cast: Cast) -> str:
    """Of the scores of all pictures of one photo, prompt and seed, whichever metrics they are by."""
    return content_key(
        {
            "photos": cast.photos,
            "prompt": cast.prompt,
            "seed": cast.seed,
            "judged": hashes_of(photos_judged(subject)),
            "case": subject.case,
        }
    )


def photos_judged(subject: StudySubject) -> Photos:
    """The photos that a subject's pictures are compared with."""
    return subject.judged or subject.references
