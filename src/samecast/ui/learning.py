"""Learning as the page asks it: photos into a folder, the form into a command, and the run with its samples."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from samecast.checked import build, read_json
from samecast.cli.learn import settings_of, subjects_of
from samecast.cli.options.learn import LearnOptions
from samecast.disk import write_bytes
from samecast.errors import SamecastError
from samecast.learn.folder import RECORD, Finished
from samecast.records import slug
from samecast.ui.form import command_of, read_form, words_of
from samecast.ui.jobs import Job
from samecast.ui.place import CONCEPTS, UPLOADS
from samecast.ui.studio import Studio


def photo_folder(studio: Studio, photos: Sequence[str], stem: str) -> str:
    """A folder with these photos, as `--photos` reads it; its name in the root."""
    root = studio.root
    contents = [(root.find(name), root.find(name).read_bytes()) for name in photos]
    key = sha256(b"".join(sha256(content).digest() for _, content in contents)).hexdigest()[:8]
    folder = f"{slug(stem)[:40]}-{key}"
    for number, (file, content) in enumerate(contents):
        place = root.path / UPLOADS / folder / f"{number}-{file.name}"
        if not place.is_file():
            write_bytes(place, content)
    return f"{UPLOADS}/{folder}"


def read_learn(
    studio: Studio, method: str, values: Mapping[str, Any], photos: Sequence[str], others: Sequence[str], name: str
) -> tuple[list[str], LearnOptions]:
    """The words of `samecast learn` for a form, and what they say.

    Args:
        studio: whose root the photos lie in.
        method: such as `custom-diffusion`.
        values: of its options.
        photos: names of the photos.
        others: names of class pictures; none has them made.
        name: what the concept is called.

    Raises:
        SamecastError: a value is refused, or there are no photos.
    """
    if not photos:
        raise SamecastError("drop three to five photos of the subject first")
    title = slug(name or str(values.get("--noun") or "") or "concept")
    asked = studio.base_values | dict(values)
    asked.pop("--dtype", None)
    asked["--photos"] = studio.root.shown(photo_folder(studio, photos, title))
    if others:
        asked["--class-photos"] = studio.root.shown(photo_folder(studio, others, f"{title}-class"))
    asked["--out"] = studio.root.shown(CONCEPTS, title)
    words = words_of(f"learn {method}", asked)
    options: LearnOptions = read_form(f"learn {method}", asked)
    settings_of(options)
    subjects_of(options)
    return words, options


def learn_job(studio: Studio, job: Job, options: LearnOptions, words: Sequence[str]) -> dict[str, Any]:
    """Learns, or goes on learning; stopping keeps the state, and the same form goes on from there."""
    from samecast.learn.job import learn
    from samecast.learn.watch import Watching

    model, out = studio.model, Path(options.out or CONCEPTS)
    if model.kept is not None:
        model.kept.forget()
    losses: list[tuple[int, float]] = []
    job.about |= {"losses": losses, "folder": studio.root.name(out)}

    def progress(stage: str, done: int, total: int, loss: float | None) -> None:
        if loss is not None:
            losses.append((done, loss))
        job.report(stage, done, total)

    began = time.monotonic()
    settings = settings_of(options)
    precision = str(model.backbone.dtype).removeprefix("torch.")
    if settings.precision != precision:
        settings = replace(settings, precision=precision)  # type: ignore[arg-type] - names of torch's
    learned = learn(
        model,
        subjects_of(options),
        settings,
        out,
        watching=Watching(options.show_every, options.show),
        progress=progress,
    )
    said = "was finished before" if learned.found else f"{learned.steps} steps in {time.monotonic() - began:.0f} s"
    return {
        "folder": studio.root.name(learned.file.parent),
        "file": studio.root.name(learned.file),
        "tally": f"{said} · loss {learned.loss:.3f}",
        "command": command_of(words),
    }


def show_learning(studio: Studio, name: str) -> dict[str, Any]:
    """Samples and losses of a learning run, finished or not, from its folder."""
    folder = studio.root.path / name
    if not folder.resolve().is_relative_to(studio.root.path) or not folder.is_dir():
        return {"samples": [], "losses": []}
    shown: dict[str, Any] = {"samples": [studio.root.name(file) for file in sorted((folder / "samples").glob("*.png"))]}
    if (folder / RECORD).is_file():
        try:
            record = build(Finished, read_json(folder / RECORD, "record of a training run"), folder.name, spare=True)
            shown["losses"] = [list(each) for each in record.losses]
        except SamecastError as error:
            shown["tally"] = str(error)
    return {"losses": [], **shown}
