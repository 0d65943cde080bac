"""A study's pictures: strips along each axis by subject, and masks as overlays, for the first of many subjects."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import groupby
from operator import getitem
from typing import Any

from PIL import Image

from samecast.errors import SamecastError
from samecast.metrics import Metric, truths_among
from samecast.records import slug
from samecast.render.found import overlay
from samecast.report.grid import draw_grid
from samecast.report.panels import Mark, Panel, Row
from samecast.study.figures import by_axis, label
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid, View
from samecast.study.kept_subjects import Unreadable
from samecast.study.subjects import StudySubject

_HASHED = re.compile(r"-[0-9a-f]{8}$")


class Samples:
    """The rows that strips show: those of the first subjects, each with its first photo, prompt and seed.

    Args:
        most: largest number of subjects, for whole and hidden ones separately.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: dict[tuple[str, bool], dict[str, Mapping[str, Any]]] = {}
        self.seen = 0
        """The number of subjects."""
        self._last: tuple[str, bool] | None = None

    def see(self, row: Mapping[str, Any]) -> None:
        """Adds a row, if strips show it."""
        subject = row["subject"], row["hidden"]
        self.seen += subject != self._last
        self._last = subject
        if subject not in self._rows and len(self._rows) >= self._most:
            return
        of = self._rows.setdefault(subject, {})
        first = next(iter(of.values()), row)
        if all(row[name] == first[name] for name in ("photos", "prompt", "seed")):
            of[row["variant"]] = row

    def of(self, subject: StudySubject) -> Mapping[str, Mapping[str, Any]]:
        """A subject's rows by variant; empty if it is not among the first."""
        return self._rows.get((subject.subject, subject.hidden), {})

    @property
    def shown(self) -> int:
        """The number of subjects with rows."""
        return len(self._rows)


def strips(
    folder: StudyFolder, grid: Grid, samples: Samples, metrics: Sequence[type[Metric]]
) -> Iterator[tuple[str, Image.Image]]:
    """For each axis and subject: the source, then one panel for each value, a row for each series.

    A photo or picture that cannot be read is left out.
    """
    truths = [metric for about in ("subject", "prompt") for metric in truths_among(metrics, about)]
    for subject in _subjects(folder, lambda subject: bool(samples.of(subject))):
        shown = samples.of(subject)
        first = next(iter(shown.values()))
        number = int(str(first["photos"]).split("+")[0]) - 1
        source = _readable(partial(getitem, subject.references, number))
        sources = () if source is None else (Panel(source, "source"),)
        for axis, views in by_axis(grid):
            drawn = [
                Row((*sources, *_panels(folder, view, shown, truths)), view.series, f"{axis} varied: {first['prompt']}")
                for view in views
                if any(variant in shown for _, variant in view.points)
            ]
            if any(row.panels for row in drawn):
                yield f"strip-{axis}-{file_name(subject.name)}", draw_grid([row for row in drawn if row.panels])


def _subjects(folder: StudyFolder, wanted: Callable[[StudySubject], bool]) -> Iterator[StudySubject]:
    for subject in folder.subjects():
        if not isinstance(subject, Unreadable) and wanted(subject):
            yield subject


def _readable(read: Callable[[], Image.Image]) -> Image.Image | None:
    try:
        return read()
    except SamecastError:
        return None


def _panels(
    folder: StudyFolder, view: View, shown: Mapping[str, Mapping[str, Any]], truths: Sequence[type[Metric]]
) -> Iterator[Panel]:
    for value, name in view.points:
        if name not in shown:
            continue
        row = shown[name]
        picture = _readable(partial(folder.picture, row["key"]))
        if picture is not None:
            marks = [Mark(metric.title, row[metric.column]) for metric in truths if row[metric.column] is not None]
            yield Panel(picture, f"{view.axis} {label(value)}", tuple(marks))


def file_name(subject: str) -> str:
    """A subject's name for a file name: unchanged if it is plain, otherwise its letters and a hash."""
    if re.fullmatch(r"[a-z0-9_-]{1,60}", subject) and not _HASHED.search(subject):
        return subject
    return f"{slug(subject)}-{sha256(subject.encode()).hexdigest()[:8]}"


def mask_overlays(
    folder: StudyFolder, masks: Sequence[tuple[str, Mapping[str, Any]]], most: int
) -> Iterator[tuple[str, Image.Image]]:
    """For the first subjects, the mask in the photo for each choice of maps and threshold."""
    of_subject: dict[str, list[tuple[str, Mapping[str, Any]]]] = {}
    for key, data in masks:
        of_subject.setdefault(str(data["subject"]), []).append((key, data))
    left = most
    for subject in _subjects(folder, lambda subject: subject.name in of_subject):
        entries = sorted(
            of_subject[subject.name], key=lambda of: (of[1]["photo"], of[1]["maps"], str(of[1]["threshold"]))
        )
        for photo, group in groupby(entries, key=lambda of: of[1]["photo"]):
            picture = _readable(partial(getitem, subject.references, photo - 1))
            if picture is None:
                continue
            rows = [
                Row((Panel(picture, "photo"), *_overlays(folder, picture, list(of))), f"maps {maps}")
                for maps, of in groupby(group, key=lambda entry: entry[1]["maps"])
            ]
            yield f"masks-{file_name(subject.name)}-{photo}", draw_grid(rows)
            left -= 1
            if not left:
                return


def _overlays(
    folder: StudyFolder, picture: Image.Image, entries: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Panel]:
    for key, data in entries:
        mask = _readable(partial(folder.mask, key))
        if mask is not None:
            words = f"threshold {data['threshold']}: {data['coverage']:.0%}"
            yield Panel(overlay(picture, mask.resize(picture.size)), words)
