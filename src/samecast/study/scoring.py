"""Scores of a study's pictures by its metrics, each stored under the metric's key.

Adding a metric keeps the scores of the others: only missing scores are computed.
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
"""Number of pictures scored at once, before their scores are stored."""
Judged = tuple[str, str, Image.Image]
"""A picture to score: its key, its prompt, and its pixels."""
Score = float | bool | None
Scores = dict[str, dict[str, Score]]
"""Scores by metrics' keys, then by pictures' keys."""


def settle_scoring(recipe: Recipe) -> Recipe:
    """A recipe with its open metrics and scoring models set: by default all of `DEFAULT`, with the embedded scoring
    models for the embedded model, and CLIP and DINO for others; DINO is left out if only CLIP is named.

    Raises:
        SamecastError: a metric does not exist, or none scores the prompt or the subject.
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
    """The metrics of a study on their device; loads no weights. Errors as for `make_metrics`."""
    settled = settle_scoring(recipe)
    return _made(settled.metrics, settled.clip, settled.dino, device)


def check_subjects(metrics: Sequence[type[Metric]], subjects: Iterable[StudySubject]) -> None:
    """Refuses requested metrics that cannot score any subject.

    Raises:
        SamecastError: a metric needs the truth, which is unknown for all subjects.
    """
    needing = [metric.name for metric in metrics if "truth" in metric.needs]
    if needing and all(subject.case is None for subject in subjects):
        raise SamecastError(
            f"{', '.join(needing)} need the truth, which is known only for the bundled subjects: leave them out"
        )


def score(
    metrics: Sequence[Metric],
    subject: StudySubject,
    pictures: Iterable[Judged],
    known: Mapping[str, Mapping[str, Score]],
) -> Iterator[Scores]:
    """Computes missing scores, several pictures at a time.

    Args:
        metrics: the metrics.
        subject: the subject of the pictures.
        pictures: the pictures, read one after another.
        known: existing scores.
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
    """The scores of one metric; empty if it needs the truth and that is unknown."""
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
    """The key of the scores of all pictures of one photo, prompt and seed, independent of the metrics."""
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
