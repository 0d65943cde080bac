"""Figures of a comparison: means with intervals over subjects, and differences between methods."""

from collections.abc import Iterable, Sequence

import numpy as np

from samecast.compare.benchmark import Judgement
from samecast.compare.methods import Method
from samecast.metrics import METRICS
from samecast.metrics.statistics import Cells, Estimate, Kind, cells, contrast, mean_of


def cells_of(judgements: Sequence[Judgement], measure: str) -> Cells:
    """Each subject's mean of a measure, by method."""
    kinds: dict[str, Kind] = {metric.column: metric.statistic() for metric in METRICS.values()}
    rows = (
        {"variant": judged.method, "subject": judged.subject, measure: judged.value(measure)} for judged in judgements
    )
    return cells(rows, measure, kinds.get(measure, "mean"))


def mean(judgements: Sequence[Judgement], method: str, measure: str) -> Estimate:
    """A method's mean of a measure, all subjects weighted equally."""
    return mean_of(cells_of(judgements, measure), method)


def gain(judgements: Sequence[Judgement], method: str, over: str, measure: str) -> Estimate:
    """The difference between two methods' means of a measure, paired by subject."""
    return contrast(cells_of(judgements, measure), [method], [over])


def in_percent(share: Estimate) -> str:
    """A share with its interval: "41% [27, 55]"."""
    return f"{share.value:.0%}" + _interval(share, "")


def in_points(difference: Estimate) -> str:
    """A difference of shares with its interval: "+12 points [+3, +20]"."""
    return f"{100 * difference.value:+.0f} points" + _interval(difference, "+")


def _interval(found: Estimate, sign: str) -> str:
    if found.subjects == 1:
        return ""
    return f" [{100 * found.low:{sign}.0f}, {100 * found.high:{sign}.0f}]"


def headline(judgements: Sequence[Judgement], methods: Iterable[Method]) -> str:
    """A summary in words: training and attention together against the best method without both, and against the others
    that read photos, and the probe's score of perfect pictures; empty if these methods are missing.

    Args:
        judgements: results of all subjects with all methods.
        methods: the compared methods.
    """
    methods = list(methods)
    judged = judgements[0].scores if judgements else {}
    joined = [method for method in methods if method.learning is not None and method.rules]
    single = [method for method in methods if method not in joined and not method.drawn]
    if not joined or not single or "both" not in judged:
        return ""

    def both(method: Method) -> float:
        return mean(judgements, method.name, "both").value

    best, other = max(joined, key=both), max(single, key=both)
    data = (
        f"{best.title}: {in_percent(mean(judgements, best.name, 'both'))} *both* right; the best other method,"
        f" {other.title}: {in_percent(mean(judgements, other.name, 'both'))}. That is"
        f" {_more(judgements, best, other)}."
    )
    for reading in single:
        if reading.rules and reading != other:
            data += f" Over {reading.title} it is {_more(judgements, best, reading)}."
    for perfect in (method for method in methods if method.drawn):
        data += f" Perfect pictures reach {in_percent(mean(judgements, perfect.name, 'both'))}."
    return data


def _more(judgements: Sequence[Judgement], method: Method, over: Method) -> str:
    """How much more often one method than another has both right: "+12 points [+3, +20], 1.25 times as often"."""
    share, less = (mean(judgements, name, "both").value for name in (method.name, over.name))
    times = f", {share / less:.2f} times as often" if less else ""
    return in_points(gain(judgements, method.name, over.name, "both")) + times


def seconds_and_size(judgements: Sequence[Judgement], method: str) -> tuple[str, str]:
    """A method's training time and file size per subject, in words; empty without training."""
    of = [judged for judged in judgements if judged.method == method]
    seconds, size = (float(np.mean([getattr(j, name) for j in of])) for name in ("training_seconds", "file_megabytes"))
    if not seconds:
        return "", ""
    return f"{seconds:.0f} s", f"{size:.1f} MB" if size >= 1 else f"{1000 * size:.0f} kB"
