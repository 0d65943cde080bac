"""What methods that train learn of a benchmark's subject: learnt once, kept in the run's folder, resumed."""

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from PIL import Image

from samecast.diorama.benchmark import Case
from samecast.disk import replace_picture
from samecast.learn.job import Learned, learn
from samecast.learn.lists import from_folder
from samecast.learn.settings import LearnSettings
from samecast.learn.watch import Watching
from samecast.render import Model

TOKEN = "<new1>"


@dataclass(frozen=True)
class Costs:
    """What a training cost: seconds of its steps, and the size of its file in MB (10^6 bytes)."""

    seconds: float = 0.0
    megabytes: float = 0.0


@contextmanager
def knowing(
    model: Model,
    case: Case,
    photos: Sequence[Image.Image],
    settings: LearnSettings | None,
    folder: Path,
    progress: Callable[[str, int, int], None] | None,
) -> Generator[Costs]:
    """The model with what is learnt of a subject in it, for the length of a block; then as it was.

    Args:
        model: learns, and has the concept applied.
        case: the subject.
        photos: of it.
        settings: how to learn; None leaves the model as it is.
        folder: of the run.
        progress: told how far the learning is.
    """
    if settings is None:
        yield Costs()
        return
    done = _learn(model, case, photos, settings, folder, progress)
    with done.concept.apply(model):
        yield Costs(round(done.seconds, 1), round(done.file.stat().st_size / 1e6, 3))


def naming(prompt: str, noun: str) -> str:
    """A prompt about the subject rather than about its class: "a dog" becomes "a <new1> dog"."""
    return re.sub(rf"\b{re.escape(noun)}\b", f"{TOKEN} {noun}", prompt, count=1)


def _learn(
    model: Model,
    case: Case,
    photos: Sequence[Image.Image],
    settings: LearnSettings,
    folder: Path,
    progress: Callable[[str, int, int], None] | None,
) -> Learned:
    facts = json.dumps([asdict(settings), [photo.tobytes().hex() for photo in photos]], sort_keys=True)
    name = f"{case.name}-{settings.method}-{sha256(facts.encode()).hexdigest()[:8]}"
    place = folder / "concepts" / name / "photos"
    for number, photo in enumerate(photos):
        replace_picture(photo, place / f"{number}.png")

    def told(stage: str, done: int, total: int, loss: float | None) -> None:
        if progress is not None:
            progress(f"{case.name} {settings.method}: {stage}", done, total)

    return learn(
        model,
        [from_folder(place, case.noun, token=TOKEN)],
        settings,
        place.parent / settings.method,
        watching=Watching(show_every=0),
        class_folder=folder / "class",
        progress=told,
    )
