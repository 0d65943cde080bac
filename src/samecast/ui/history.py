"""What runs left on disk, as the page shows it: read from their records each time, and kept nowhere else."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.attention.rule_files import rules_file, rules_from_data
from samecast.checked import build, read_json
from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError
from samecast.records import FORMAT, RECORD_NAME, read_record
from samecast.ui.form import values_of_rules, values_of_settings
from samecast.ui.place import Root
from samecast.ui.studio import PLAIN

MOST = 500
"""Runs that one list shows; a filter finds the others."""


@dataclass(frozen=True)
class _Picture:
    """A picture that a record names."""

    file: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class _File:
    """What of a record the list shows."""

    format: int
    pictures: tuple[Any, ...]
    references: tuple[Any, ...]
    provenance: Mapping[str, Any]
    created: str = ""


def list_runs(root: Root, wanted: str = "") -> list[dict[str, Any]]:
    """The runs of the root, newest first: those of which every word of a filter stands in names or prompts.

    A record that is damaged, or of another format, is listed with what is wrong with it.
    """
    words = wanted.casefold().split()
    folders = sorted(root.folders((RECORD_NAME,)), key=_changed, reverse=True)
    found: list[dict[str, Any]] = []
    for folder in folders:
        card = _card(root, folder)
        text = " ".join([card["name"], *card["prompts"], card["noun"], card["model"]]).casefold()
        if all(word in text for word in words):
            found.append(card)
        if len(found) >= MOST:
            break
    return found


def _changed(folder: Path) -> float:
    try:
        return (folder / RECORD_NAME).stat().st_mtime
    except OSError:
        return 0.0


def _card(root: Root, folder: Path) -> dict[str, Any]:
    name = root.name(folder)
    card: dict[str, Any] = {"name": name, "prompts": [], "noun": "", "model": "", "created": "", "pictures": []}
    try:
        record = _read(folder)
        pictures = [build(_Picture, each, "a picture", spare=True) for each in record.pictures]
        facts = record.provenance
        return card | {
            "prompts": list(dict.fromkeys(each.prompt for each in pictures)),
            "noun": str(facts.get("class_noun", "")),
            "model": str(dict(facts.get("model", {})).get("id", "")),
            "created": record.created,
            "pictures": [f"{name}/{Path(each.file).name}" for each in pictures],
        }
    except SamecastError as error:
        return card | {"fault": str(error)}


def _read(folder: Path) -> _File:
    file = folder / RECORD_NAME
    record = build(_File, read_json(file, "record of a render"), f"{file.parent.name!r} is damaged: it", spare=True)
    if record.format != FORMAT:
        raise SamecastError(f"its record has format {record.format}; this version reads format {FORMAT}")
    return record


def show_run(root: Root, name: str) -> dict[str, Any]:
    """A run as the page shows it side by side: photo, its reconstruction, without control, result; errors as for
    `Root.find`, and where its record is damaged."""
    folder = root.find(name)
    record, name = _read(folder), root.name(folder)
    facts = record.provenance
    plain = folder / PLAIN
    beside = _read(plain).pictures if (plain / RECORD_NAME).is_file() else ()
    items: list[dict[str, Any]] = []
    for number, each in enumerate(record.pictures):
        picture = build(_Picture, each, "a picture", spare=True)
        item: dict[str, Any] = {"prompt": picture.prompt, "seed": picture.seed}
        item["url"] = f"{name}/{Path(picture.file).name}"
        if number < len(beside):
            item["plain"] = f"{name}/{PLAIN}/{Path(build(_Picture, beside[number], '', spare=True).file).name}"
        items.append(item)
    references = [str(dict(each).get("file", "")) for each in record.references]
    source = f"{name}/source.png" if (folder / "source.png").is_file() else ""
    psnr = facts.get("source_psnr")
    return {
        "name": name,
        "created": record.created,
        "photo": f"{name}/{Path(references[0]).name}" if references else "",
        "source": source,
        "psnr": round(psnr, 1) if isinstance(psnr, int | float) else None,
        "warnings": [str(each) for each in facts.get("warnings", [])],
        "items": items,
        "noun": str(facts.get("class_noun", "")),
    }


def settings_of_run(root: Root, name: str) -> dict[str, Any]:
    """What the form has to say for a run like this one: photos, prompts, and values by option.

    Photos and masks are taken into the uploads as the model read them. Rules that no named method comes to are written
    as a file of rules.

    Raises:
        SamecastError: there is no such run, or its record is damaged.
    """
    folder = root.find(name)
    record = read_record(folder)
    facts: Mapping[str, Any] = record.provenance
    rules = rules_from_data(facts.get("rules"), f"{name}: ")
    settings = build(RenderSettings, facts.get("settings"), f"{name}: settings", spare=True)
    values = values_of_rules(rules)
    file = "" if values is not None else root.name(root.keep_rules(json.dumps(rules_file(rules, {"from": name}))))
    photos = [root.keep(photo, folder.name[:40]) for photo in record.references]
    masks = [root.keep(mask.convert("L"), f"{folder.name[:40]}-mask") for mask in record.reference_masks]
    return {
        "photos": photos,
        "masks": masks,
        "target": [root.keep(mask.convert("L"), f"{folder.name[:40]}-target") for mask in record.target_masks[:1]],
        "prompts": [str(prompt) for prompt in facts.get("prompts", [])],
        "noun": str(facts.get("class_noun", "")),
        "values": {**(values or {}), **values_of_settings(settings)},
        "rules": rules,
        "file": file,
    }
