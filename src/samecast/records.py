"""Runs on disk: a folder of pictures with the record that reproduces them. Does not import torch.

    rex/
      01-a-dog-running-on-the-beach-seed0.png
      grid.png         the source and every picture, labelled
      reference.png    the photo as the model read it (more: reference-2.png, ...); the record needs no other file
      found-mask-picture-1-dog.png   the subject's mask, for methods that find masks
      render.json      prompts, seeds, rules, model, versions, and a hash of every picture

A folder is complete or absent, and never replaces another one. A record names only files in its own folder.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from samecast.checked import build, read_json, shown
from samecast.disk import expanded, free_path, inside, is_folder, writing_folder
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.report.grid import draw_grid
from samecast.report.panels import Panel, Row

if TYPE_CHECKING:
    from samecast.render import FoundMask, RenderResult

FORMAT = 3
RECORD_NAME = "render.json"
_GRID_COLUMNS = 5
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class Record:
    """The contents of `render.json`.

    Args:
        folder: folder of the record.
        provenance: `RenderResult.provenance` of the run.
        pictures: hashes of the pixels of the pictures, in order.
        references: the photos as the model read them; empty for a generated source.
        reference_masks: their given masks; empty for none.
        target_masks: the given masks of the pictures, one for each; empty for none.
        subject_masks: likewise those of named subjects, by name.
    """

    folder: Path
    provenance: Mapping[str, Any]
    pictures: tuple[str, ...]
    references: tuple[Image.Image, ...]
    reference_masks: tuple[Image.Image, ...] = ()
    target_masks: tuple[Image.Image, ...] = ()
    subject_masks: Mapping[str, tuple[Image.Image, ...]] = field(default_factory=dict[str, tuple[Image.Image, ...]])


@dataclass(frozen=True)
class _Entry:
    """A picture that a record names."""

    file: str
    pixels: str


@dataclass(frozen=True)
class _RecordFile:
    """The fields of `render.json` that are read."""

    provenance: Mapping[str, Any]
    pictures: tuple[Any, ...]
    references: tuple[Any, ...]
    reference_masks: tuple[Any, ...]
    target_masks: tuple[Any, ...]
    subject_masks: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])


def save_run(result: "RenderResult", folder: str | Path) -> Path:
    """Write a run: pictures, grid and record.

    Args:
        result: what `Model.render` returned.
        folder: the folder; if it exists, the next free name is used (`rex-2`, `rex-3`, ...).

    Returns:
        The folder that was written.

    Raises:
        SamecastError: the folder cannot be written.
    """
    pictures: list[dict[str, Any]] = []
    with writing_folder(folder) as place:
        for number, render in enumerate(result.renders, start=1):
            name = f"{number:02d}-{slug(render.prompt)}-seed{render.seed}.png"
            render.image.save(place.path / name)
            pictures.append(
                {"file": name, "prompt": render.prompt, "seed": render.seed, "pixels": pixel_hash(render.image)}
            )
        _save_all(place.path, "source", result.sources)
        result_grid(result).save(place.path / "grid.png")
        record = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pictures": pictures,
            "references": _save_all(place.path, "reference", result.references),
            "reference_masks": _save_all(place.path, "reference-mask", result.reference_masks),
            "target_masks": _save_all(place.path, "picture-mask", result.target_masks),
            "subject_masks": {
                name: _save_all(place.path, f"picture-mask-{number}", masks)
                for number, (name, masks) in enumerate(result.subject_masks.items(), start=1)
            },
            "found_masks": _save_found(place.path, result.found_masks),
            "provenance": result.provenance,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
        (place.path / RECORD_NAME).write_text(text + "\n", encoding="utf-8")
    return place.final


def read_record(path: str | Path) -> Record:
    """Read a record and the references beside it.

    Args:
        path: `render.json`, or its folder.

    Raises:
        SamecastError: there is no record, it is damaged, or a reference is missing or has changed.
    """
    file = expanded(path)
    file = file / RECORD_NAME if is_folder(file) else file
    data = read_json(file, "record of a render")
    if not isinstance(data, dict) or "format" not in data:
        raise SamecastError(f"{str(file)!r} is not a record of a render")
    if data["format"] != FORMAT:
        raise SamecastError(f"{str(file)!r} has format {shown(data['format'])}; this version reads format {FORMAT}")
    facts = build(_RecordFile, data, f"{str(file)!r} is damaged: it", spare=True)
    return Record(
        folder=file.parent,
        provenance=facts.provenance,
        pictures=tuple(
            build(_Entry, entry, f"a picture in {str(file)!r}", spare=True).pixels for entry in facts.pictures
        ),
        references=_read_all(file, facts.references),
        reference_masks=_read_all(file, facts.reference_masks),
        target_masks=_read_all(file, facts.target_masks),
        subject_masks={name: _read_all(file, tuple(masks)) for name, masks in facts.subject_masks.items()},
    )


def differing(record: Record, result: "RenderResult") -> tuple[int, ...]:
    """Numbers, from 1, of the pictures that are not bit for bit those of the record; a missing one differs."""
    made = [pixel_hash(render.image) for render in result.renders]
    count = max(len(made), len(record.pictures))
    return tuple(
        number
        for number in range(1, count + 1)
        if made[number - 1 : number] != list(record.pictures)[number - 1 : number]
    )


def drift(record: Record, provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Differences from the record in model, machine, versions and batch shapes, one line each."""
    lines: list[str] = []
    for name in ("model", "device", "dtype", "threads", "versions", "batch_shapes"):
        then, now = record.provenance.get(name), provenance.get(name)
        if isinstance(then, Mapping) and isinstance(now, Mapping):
            keys = [*then, *(key for key in now if key not in then)]
            pairs = [(f"{name} {key}", then.get(key), now.get(key)) for key in keys]
        else:
            pairs = [(name, then, now)]
        # Through JSON, as for the record, which turns tuples into lists.
        lines += [
            f"{what} was {before}, is {after}"
            for what, before, after in pairs
            if json.dumps(before) != json.dumps(after)
        ]
    return tuple(lines)


def result_grid(result: "RenderResult") -> Image.Image:
    """The source and every picture of a run, each with its caption."""
    prompts = [render.prompt for render in result.renders]
    panels: list[Panel] = []
    shown = "reference" if result.references else "source"
    panels += [Panel(image, shown) for image in result.references or result.sources]
    for render in result.renders:
        words, repeated = render.prompt, prompts.count(render.prompt) > 1
        panels.append(Panel(render.image, f"{words} (seed {render.seed})" if repeated else words))
    return draw_grid([Row(tuple(row)) for row in _chunks(panels, _GRID_COLUMNS)])


def slug(text: str) -> str:
    """A prompt as part of a file name: letters and digits of any script, joined by hyphens, 60 at most."""
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text).casefold()).strip("-")
    return words[:_LONGEST_SLUG].rstrip("-") or "picture"


def pixel_hash(image: Image.Image) -> str:
    """`sha256:` and a hash over an image's mode, size and pixels, independent of its compression."""
    head = f"{image.mode} {image.width}x{image.height} ".encode()
    return "sha256:" + sha256(head + image.tobytes()).hexdigest()


def _save_all(folder: Path, stem: str, images: Sequence[Image.Image]) -> list[dict[str, str]]:
    """Writes `stem.png`, `stem-2.png`, ...; returns their entries in the record."""
    entries: list[dict[str, str]] = []
    for number, image in enumerate(images, start=1):
        name = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
        image.save(folder / name)
        entries.append({"file": name, "pixels": pixel_hash(image.convert("RGB"))})
    return entries


def _save_found(folder: Path, masks: Sequence["FoundMask"]) -> list[dict[str, Any]]:
    """Writes `found-mask-reference-1-dog.png`, ..., which a repetition does not need; returns their entries."""
    entries: list[dict[str, Any]] = []
    for found in masks:
        file = free_path(folder / f"found-mask-{found.of}-{found.number}-{slug(found.phrase)}.png")
        found.mask.save(file)
        facts = {"of": found.of, "number": found.number, "phrase": found.phrase, "threshold": found.threshold}
        entries.append({"file": file.name, **facts, "coverage": found.coverage})
    return entries


def _read_all(file: Path, entries: tuple[Any, ...]) -> tuple[Image.Image, ...]:
    return tuple(_read_image(file.parent, build(_Entry, entry, f"a picture in {str(file)!r}")) for entry in entries)


def _read_image(folder: Path, entry: _Entry) -> Image.Image:
    image = open_photo(inside(folder, entry.file))
    if pixel_hash(image) != entry.pixels:
        raise SamecastError(f"{entry.file!r} does not match the record: its pixels have changed")
    return image


def _chunks(panels: Sequence[Panel], length: int) -> list[Sequence[Panel]]:
    return [panels[at : at + length] for at in range(0, len(panels), length)]
