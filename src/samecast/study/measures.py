"""A study's table of scores as means for each variant and subject, gathered row by row: a matrix for each measure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samecast.score.statistics import Cells, Kind, levelled, mean_of

TEXT, IMAGE, DINO = "text_alignment", "image_alignment", "dino_alignment"
ALIGNMENTS = (TEXT, IMAGE, DINO)
VERDICTS = ("identity", "scene", "both")
KINDS: Mapping[str, Kind] = {**dict.fromkeys(ALIGNMENTS, "mean"), **dict.fromkeys(VERDICTS, "share")}
"""What each measure is; cosines stay so far from their bounds that these do not count."""
Small = NDArray[np.float32]
_NOTHING: Small = np.full((1, 1), math.nan, np.float32)
"""What stands for a subject of whom there is nothing."""
Points = Mapping[str, tuple[float, float]]
"""For each variant its means of text and image alignment."""


@dataclass(frozen=True)
class Measures:
    """All measures of a study.

    Args:
        whole: for each measure, of pictures that read photos of the whole subject.
        hidden: likewise, of those that read photos that hide a part of it. Columns are of the same subjects.
    """

    whole: Mapping[str, Cells]
    hidden: Mapping[str, Cells]

    @property
    def shown(self) -> Mapping[str, Cells]:
        """What means are made of: whole photos, where there are any."""
        return self.whole if self.whole[TEXT].present else self.hidden

    @property
    def subjects(self) -> int:
        """How many subjects have any picture that is shown."""
        return int(np.isfinite(self.shown[TEXT].values).any(axis=0).sum())

    @property
    def points(self) -> Points:
        """Where each variant is, by its means over the subjects that have it."""
        text, image = self.shown[TEXT], self.shown[IMAGE]
        return {name: (mean_of(text, name).value, mean_of(image, name).value) for name in text.present if name in image}

    def intervals(self, variants: Sequence[str]) -> dict[str, tuple[Any, Any]]:
        """Text and image alignment of some variants, with intervals of what varies within subjects."""
        text, image = (levelled(self.shown[name], variants) for name in (TEXT, IMAGE))
        return {name: (text[name], image[name]) for name in variants}


class Gathering:
    """The means of a table whose rows come subject by subject; holds the means alone, not the rows.

    Args:
        variants: all there can be.
    """

    def __init__(self, variants: Sequence[str]) -> None:
        self._variants, self._at = tuple(variants), {name: number for number, name in enumerate(variants)}
        self._subjects = list[str]()
        self._found: tuple[list[Small], list[Small]] = [], []
        self._sums = np.zeros((2, len(KINDS), len(self._at)))
        self._counts = np.zeros_like(self._sums)

    def see(self, row: Mapping[str, Any]) -> None:
        """Takes a row.

        Args:
            row: with `subject`, `hidden`, `variant` and the measures, each a number, a verdict or None.
        """
        if not self._subjects or row["subject"] != self._subjects[-1]:
            self._finish()
            self._subjects.append(row["subject"])
        for number, measure in enumerate(KINDS):
            if row.get(measure) is not None:
                place = int(row["hidden"]), number, self._at[row["variant"]]
                self._sums[place] += float(row[measure])
                self._counts[place] += 1

    def _finish(self) -> None:
        if self._subjects:
            means = (self._sums / np.where(self._counts > 0, self._counts, math.nan)).astype(np.float32)
            for found, of, counts in zip(self._found, means, self._counts, strict=True):
                found.append(of.copy() if counts.any() else _NOTHING)
        self._sums[:], self._counts[:] = 0, 0

    def measures(self) -> Measures:
        """All that was gathered; nothing can be added then.

        Raises:
            ValueError: a subject's rows were apart from each other.
        """
        self._finish()
        if len(set(self._subjects)) < len(self._subjects):
            raise ValueError("the rows of a subject must come one after another")
        return Measures(*(self._cells(found) for found in self._found))

    def _cells(self, found: list[Small]) -> dict[str, Cells]:
        values = np.full((len(KINDS), len(self._at), len(found)), math.nan, np.float32)
        for column, of in enumerate(found):
            values[:, :, column] = of
        found.clear()
        return {
            name: Cells(self._variants, self._subjects, values[number], kind)
            for number, (name, kind) in enumerate(KINDS.items())
        }


def gather(rows: Iterable[Mapping[str, Any]], variants: Sequence[str]) -> Measures:
    """The means of a table whose rows come subject by subject."""
    found = Gathering(variants)
    for row in rows:
        found.see(row)
    return found.measures()
