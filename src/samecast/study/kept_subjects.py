"""A study's subjects as lines of JSON: one line holds a subject's name, its prompts and the hashes of its photos."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.checked import parse_json
from samecast.study.photos import KeptPhotos
from samecast.study.subjects import StudySubject

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Unreadable:
    """A subject whose line is damaged.

    Args:
        name: file and line number.
        reason: what is wrong with it.
    """

    name: str
    reason: str


def described(subject: StudySubject) -> dict[str, Any]:
    """A subject without its photos, as plain data."""
    return {
        "name": subject.name,
        "prompts": list(subject.prompts),
        "class_noun": subject.class_noun,
        "source_prompt": subject.source_prompt,
        "case": subject.case,
        "hidden": subject.hidden,
    }


def to_line(subject: StudySubject, references: tuple[str, ...], judged: tuple[str, ...]) -> str:
    """A subject's line.

    Args:
        subject: without its photos.
        references: `sha256:` and the hash of each reference photo.
        judged: the same of the photos that pictures are compared with.
    """
    data = {**described(subject), "references": references, "judged": judged}
    return json.dumps(data, ensure_ascii=False) + "\n"


def parse_line(line: bytes, folder: Path, where: str) -> StudySubject | Unreadable:
    """The subject of a line; its photos are opened when they are needed.

    Args:
        line: UTF-8.
        folder: the study's, which holds the photos.
        where: names the line in messages.
    """
    try:
        data = parse_json(line.decode("utf-8"), f"{where} is damaged")
        texts = (data["name"], data["class_noun"], data["source_prompt"], *data["prompts"])
        hashes = (*data["references"], *data["judged"])
        sound = all(isinstance(text, str) for text in texts) and all(_HASH.fullmatch(each) for each in hashes)
        if not sound or not data["references"] or not data["prompts"]:
            raise ValueError("expected texts, and hashes of photos")
        return StudySubject(
            data["name"],
            tuple(data["prompts"]),
            KeptPhotos(folder, data["references"]),
            data["class_noun"],
            data["source_prompt"],
            KeptPhotos(folder, data["judged"]),
            data["case"],
            bool(data["hidden"]),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        return Unreadable(where, f"{where} is damaged: {type(error).__name__} {' '.join(str(error).split())}")
