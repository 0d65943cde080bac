"""Training of the benchmark's subjects: done once, stored in the run's folder, resumed after an interrupt."""

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from PIL import Image

from samecast.diorama.benchmark import Case
from samecast.disk import is_file, replace_picture
from samecast.learn.job import Learned, learn
from samecast.learn.lists import ToLearn, from_folder
from samecast.learn.settings import LearnSettings
from samecast.learn.watch import Watching
from samecast.render import Model

TOKENS = ("<new1>", "<new2>")


@dataclass(frozen=True)
class Costs:
    """The cost of a training: seconds of its steps, and the size of its file in MB (10^6 bytes)."""

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
    *,
    strength: float = 1.0,
) -> Generator[Costs]:
    """Applies a subject's concept to the model within a `with` block, after training it if needed.

    Args:
        model: the model that is trained and gets the concept; restored afterwards.
        case: the subject.
        photos: photos of the subject.
        settings: training settings; None leaves the model unchanged.
        folder: folder of the run.
        progress: called with the progress of the training.
        strength: strength of the concept.
    """
    if settings is None:
        yield Costs()
        return
    done = learnt(model, [(case, photos)], settings, folder, progress)
    with done.concept.apply(model, strength=strength):
        yield Costs(round(done.seconds, 1), round(done.file.stat().st_size / 1e6, 3))


def naming(prompt: str, noun: str, token: str = TOKENS[0]) -> str:
    """A prompt with the modifier token before the class: "a dog" becomes "a <new1> dog"."""
    return re.sub(rf"\b{re.escape(noun)}\b", f"{token} {noun}", prompt, count=1)


def learnt(
    model: Model,
    subjects: Sequence[tuple[Case, Sequence[Image.Image]]],
    settings: LearnSettings,
    folder: Path,
    progress: Callable[[str, int, int], None] | None,
) -> Learned:
    """The concept of one subject, or of two trained jointly; from the run's folder if it exists there.

    Args:
        model: the model to train; restored afterwards.
        subjects: subjects with their photos; they get `TOKENS` in turn.
        settings: training settings.
        folder: folder of the run.
        progress: called with the progress of the training.
    """
    label = "+".join(case.name for case, _ in subjects)
    shown = [photo.tobytes().hex() for _, photos in subjects for photo in photos]
    facts = json.dumps([asdict(settings), shown, asdict(model.backbone.identity)], sort_keys=True)
    place = folder / "concepts" / f"{label}-{settings.method}-{sha256(facts.encode()).hexdigest()[:8]}"
    known: list[ToLearn] = []
    for (case, photos), token in zip(subjects, TOKENS, strict=False):
        own = place / "photos" if len(subjects) == 1 else place / "photos" / case.name
        for number, photo in enumerate(photos):
            if not is_file(own / f"{number}.png"):  # the folder's name contains the hash of the photos
                replace_picture(photo, own / f"{number}.png")
        known.append(from_folder(own, case.noun, token=token))

    def data(stage: str, done: int, total: int, loss: float | None) -> None:
        if progress is not None:
            progress(f"{label} {settings.method}: {stage}", done, total)

    return learn(
        model,
        known,
        settings,
        place / settings.method,
        watching=Watching(show_every=0),
        class_folder=folder / "class",
        progress=data,
    )
