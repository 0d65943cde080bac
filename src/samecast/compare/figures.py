"""Figures of a comparison: means with intervals over subjects, and how much more one method has than another."""

from collections.abc import Iterable, Sequence

import numpy as np

from samecast.compare.benchmark import Judgement
from samecast.compare.methods import Method
from samecast.metrics import METRICS
from samecast.metrics.statistics import Cells, Estimate, Kind, cells, contrast, mean_of


def cells_of(judgements: Sequence[Judgement], measure: str) -> Cells:
    """For each method, each subject's mean of a measure."""
    kinds: dict[str, Kind] = {metric.column: metric.statistic() for metric in METRICS.values()}
    rows = (
        {"variant": judged.method, "subject": judged.subject, measure: judged.value(measure)} for judged in judgements
    )
    return cells(rows, measure, kinds.get(measure, "mean"))


def mean(judgements: Sequence[Judgement], method: str, measure: str) -> Estimate:
    """A method's mean of a measure, each subject counting the same."""
    return mean_of(cells_of(judgements, measure), method)


def gain(judgements: Sequence[Judgement], method: str, over: str, measure: str) -> Estimate:
    """How much more of a measure one method has than another, each subject compared with itself."""
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
    """What training and attention together bring over the best method that has not both, and over the others that read,
    and what the judge says of perfect pictures; nothing where there is nothing to compare.

    Args:
        judgements: of all subjects under all methods.
        methods: that were compared.
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
        f"{best.title}: {in_percent(mean(judgements, best.name, 'both'))} *both* right; the best of the others,"
        f" {other.title}: {in_percent(mean(judgements, other.name, 'both'))}. That is"
        f" {_more(judgements, best, other)}."
    )
    for reading in single:
        if reading.rules and reading != other:
            data += f" Over {reading.title} it is {_more(judgements, best, reading)}."
    for perfect in (method for method in methods if method.drawn):
        data += f" Of perfect pictures the probe grants {in_percent(mean(judgements, perfect.name, 'both'))}."
    return data


def _more(judgements: Sequence[Judgement], method: Method, over: Method) -> str:
    """How much more often one method has both right than another: "+12 points [+3, +20], 1.25 times as often"."""
    share, less = (mean(judgements, name, "both").value for name in (method.name, over.name))
    times = f", {share / less:.2f} times as often" if less else ""
    return in_points(gain(judgements, method.name, over.name, "both")) + times


def seconds_and_size(judgements: Sequence[Judgement], method: str) -> tuple[str, str]:
    """What a method's training takes of one subject, and its file, in words; nothing where nothing is learnt."""
    of = [judged for judged in judgements if judged.method == method]
    seconds, size = (float(np.mean([getattr(j, name) for j in of])) for name in ("training_seconds", "file_megabytes"))
    if not seconds:
        return "", ""
    return f"{seconds:.0f} s", f"{size:.1f} MB" if size >= 1 else f"{1000 * size:.0f} kB"
