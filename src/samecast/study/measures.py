"""Means of a study's scores by variant and subject, accumulated row by row: a matrix for each measure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from samecast.metrics import DEFAULT, Metric, leading, metric_types
from samecast.metrics.statistics import Cells, levelled, mean_of

Metrics = Sequence[type[Metric]]
Small = NDArray[np.float32]
_NOTHING: Small = np.full((1, 1), math.nan, np.float32)
"""The value for a subject without pictures."""
Points = Mapping[str, tuple[float, float]]
"""Each variant's means of the two metrics of the trade-off."""


@dataclass(frozen=True)
class Measures:
    """All measures of a study.

    Args:
        metrics: the study's metrics; the first that scores the prompt and the first that scores the subject form the
            trade-off.
        whole: means by metric's column over pictures that read photos of the whole subject.
        hidden: likewise over those that read photos hiding a part of it. Columns are the same subjects.
    """

    metrics: Metrics
    whole: Mapping[str, Cells]
    hidden: Mapping[str, Cells]

    @cached_property
    def text(self) -> type[Metric]:
        """The metric of the prompt in the trade-off."""
        return leading(self.metrics)[0]

    @cached_property
    def image(self) -> type[Metric]:
        """The metric of the subject in the trade-off."""
        return leading(self.metrics)[1]

    @property
    def shown(self) -> Mapping[str, Cells]:
        """The means that are shown: those of whole photos if there are any."""
        return self.whole if self.whole[self.text.column].present else self.hidden

    @property
    def sides(self) -> tuple[Cells, Cells]:
        """The means of the two metrics of the trade-off."""
        return self.shown[self.text.column], self.shown[self.image.column]

    @property
    def subjects(self) -> int:
        """The number of subjects with any picture."""
        return int(np.isfinite(self.sides[0].values).any(axis=0).sum())

    @property
    def points(self) -> Points:
        """Each variant's two means over the subjects that have it."""
        text, image = self.sides
        return {name: (mean_of(text, name).value, mean_of(image, name).value) for name in text.present if name in image}

    @property
    def merits(self) -> Points:
        """The same with higher values better: distances are negated."""
        across, up = self.text.sign(), self.image.sign()
        return {name: (across * x, up * y) for name, (x, y) in self.points.items()}

    def intervals(self, variants: Sequence[str]) -> dict[str, tuple[Any, Any]]:
        """Both metrics of some variants, with within-subject intervals."""
        text, image = (levelled(table, variants) for table in self.sides)
        return {name: (text[name], image[name]) for name in variants}


class Gathering:
    """Accumulates the means of a table whose rows are ordered by subject, without storing the rows.

    Args:
        variants: names of all variants.
        metrics: the metrics of the table's columns.
    """

    def __init__(self, variants: Sequence[str], metrics: Metrics) -> None:
        self._metrics = tuple(metrics)
        self._variants, self._at = tuple(variants), {name: number for number, name in enumerate(variants)}
        self._subjects = list[str]()
        self._found: tuple[list[Small], list[Small]] = [], []
        self._sums = np.zeros((2, len(self._metrics), len(self._at)))
        self._counts = np.zeros_like(self._sums)

    def see(self, row: Mapping[str, Any]) -> None:
        """Adds a row.

        Args:
            row: has `subject`, `hidden`, `variant` and the measures, each a number, a verdict or None.
        """
        if not self._subjects or row["subject"] != self._subjects[-1]:
            self._finish()
            self._subjects.append(row["subject"])
        for number, metric in enumerate(self._metrics):
            if row.get(metric.column) is not None:
                place = int(row["hidden"]), number, self._at[row["variant"]]
                self._sums[place] += float(row[metric.column])
                self._counts[place] += 1

    def _finish(self) -> None:
        if self._subjects:
            means = (self._sums / np.where(self._counts > 0, self._counts, math.nan)).astype(np.float32)
            for found, of, counts in zip(self._found, means, self._counts, strict=True):
                found.append(of.copy() if counts.any() else _NOTHING)
        self._sums[:], self._counts[:] = 0, 0

    def measures(self) -> Measures:
        """The means of all rows; no row can be added afterwards.

        Raises:
            ValueError: the rows of a subject were not consecutive.
        """
        self._finish()
        if len(set(self._subjects)) < len(self._subjects):
            raise ValueError("the rows of a subject must come one after another")
        return Measures(self._metrics, *(self._cells(found) for found in self._found))

    def _cells(self, found: list[Small]) -> dict[str, Cells]:
        values = np.full((len(self._metrics), len(self._at), len(found)), math.nan, np.float32)
        for column, of in enumerate(found):
            values[:, :, column] = of
        found.clear()
        return {
            metric.column: Cells(self._variants, self._subjects, values[number], metric.statistic(), metric.sign())
            for number, metric in enumerate(self._metrics)
        }


def gather(rows: Iterable[Mapping[str, Any]], variants: Sequence[str], metrics: Metrics | None = None) -> Measures:
    """The means of a table whose rows are ordered by subject; None for a study's default metrics."""
    found = Gathering(variants, metric_types(DEFAULT) if metrics is None else metrics)
    for row in rows:
        found.see(row)
    return found.measures()
