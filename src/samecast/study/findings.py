"""The AIKU study's findings tested on a study: each claim with its figure and interval, whether it holds or not.

A claim *holds* if the 95% interval lies wholly on its side of zero, is *reversed* if it lies wholly on the other, and
is *not shown* otherwise; fewer than six subjects show nothing. Its p-value is adjusted for the number of claims (Holm).
In the embedded world, whose truth is known, claims are tested on the truth as well as on the metrics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from samecast.metrics import Metric, truths_among
from samecast.metrics.statistics import FEWEST, NothingInCommonError, balanced, holm
from samecast.report.article import Statement
from samecast.study.claims import (
    CHANCE,
    HOLDS,
    INTERVALS,
    NO_DATA,
    TOO_FEW,
    Found,
    agreement,
    best,
    contrasted,
    flat,
    lost,
    masked,
    monotone,
)
from samecast.study.grid import Grid, View
from samecast.study.measures import Measures

LAYERS = ("layers", "")
"""The series that the claims on decoder and encoder layers compare."""
Views = Mapping[tuple[str, str], View]
Metrics = Sequence[type[Metric]]


def findings(measures: Measures, grid: Grid) -> list[Statement]:
    """All statements that the scores of a study allow; none if its grid lacks the AIKU study's axes."""
    views = {(view.axis, view.series): view for view in grid.views}
    found = [*_layers(measures, views), *_trends(measures, views), *_starts(measures, views)]
    found += [*_maps(measures, views), *_hidden(measures, views), *_truth(measures, views)]
    adjusted = holm([statement.p for statement in found])
    return [replace(statement, holm=p) for statement, p in zip(found, adjusted, strict=True)]


def recommended(measures: Measures, weight: float = 0.5) -> str:
    """The variant with the best trade-off of the two main metrics."""
    return balanced(measures.merits, weight)


def _claimed(measures: Measures, *about: str) -> list[type[Metric]]:
    """The two metrics of the trade-off and those of the truth, of the kinds (`Metric.about`) in `about`."""
    truths = [metric for each in ("subject", "prompt") for metric in truths_among(measures.metrics, each)]
    known = [metric for metric in truths if measures.whole[metric.column].present]
    return [metric for metric in (measures.text, measures.image, *known) if metric.about in about]


def summing_up(statements: Sequence[Statement], subjects: int) -> str:
    """The number of claims that hold, before and after Holm's adjustment, with notes on intervals."""
    if subjects < FEWEST:
        return f"A claim needs at least {FEWEST} subjects; there {'is 1' if subjects == 1 else f'are {subjects}'}."
    held = [statement for statement in statements if statement.verdict == HOLDS]
    also = sum(statement.holm < CHANCE for statement in held)
    return (
        f"{len(held)} of {len(statements)} claims hold by their own interval, {also} of these also after Holm's"
        f" adjustment for {sum(not math.isnan(statement.p) for statement in statements)} claims (p below {CHANCE})."
        f" {INTERVALS}. Each claim has its p-value, and the same adjusted for all"
        " claims (Holm)."
    )


def _statement(claim: str, about: tuple[str, str], short: str, found: Callable[[], Found]) -> Statement:
    """A claim with its outcome; without one, if missing pictures leave no subject to compare."""
    try:
        data = found()
    except NothingInCommonError as error:
        data = Found(NO_DATA, str(error))
    p = math.nan if data.verdict == TOO_FEW else data.p
    return Statement(claim, data.verdict, data.figure, about, short, p)


def _names(view: View) -> list[str]:
    return [name for _, name in view.points]


def _moved(metric: type[Metric], way: int) -> str:
    """A metric that becomes better or worse, in words: "raises image alignment"."""
    return f"{'raises' if way * metric.sign() > 0 else 'lowers'} {metric.words}"


def _layers(measures: Measures, views: Views) -> list[Statement]:
    pair = _full_spans(views)
    if pair is None:
        return []
    (decoder, encoder), tables, text, image = pair, measures.whole, measures.text, measures.image
    return [
        _statement(
            f"Decoder layers keep the subject better than encoder layers ({image.words})",
            LAYERS,
            "decoder keeps the subject better",
            partial(contrasted, tables[image.column], decoder, encoder),
        ),
        _statement(
            f"Encoder layers follow the prompt better than decoder layers ({text.words})",
            LAYERS,
            "encoder follows the prompt better",
            partial(contrasted, tables[text.column], encoder, decoder),
        ),
    ]


def _full_spans(views: Views) -> tuple[str, str] | None:
    """Claims on decoder and encoder layers at the longest span, if the study has both."""
    pair = [views.get(("final", series)) for series in ("decoder", "encoder")]
    decoder, encoder = (None if view is None else _names(view)[-1] for view in pair)
    return None if decoder is None or encoder is None else (decoder, encoder)


def _trends(measures: Measures, views: Views) -> list[Statement]:
    found: list[Statement] = []
    for axis, words, sign in (
        ("final", "a later final step", {"prompt": -1, "subject": 1}),
        ("skip", "more skipped steps", {"prompt": 1, "subject": -1}),
    ):
        for series in ("decoder", "encoder"):
            view = views.get((axis, series))
            if view is None or len(view.points) < 3:
                continue
            for metric in _claimed(measures, *sign):
                way = sign[metric.about]
                short = _moved(metric, way)
                of = partial(monotone, measures.whole[metric.column], _names(view), way)
                found.append(_statement(f"{series}: {words} {short}", (axis, series), short, of))
    return found


def _starts(measures: Measures, views: Views) -> list[Statement]:
    found: list[Statement] = []
    for series in ("decoder", "encoder"):
        start, final = views.get(("start", series)), views.get(("final", series))
        if start is None or final is None or min(len(start.points), len(final.points)) < 2:
            continue
        for metric in (measures.text, measures.image):
            short = f"hardly matters for {metric.words}"
            of = partial(flat, measures.whole[metric.column], _names(start), _names(final))
            found.append(_statement(f"{series}: the start step {short}", ("start", series), short, of))
    return found


def _maps(measures: Measures, views: Views) -> list[Statement]:
    """Claims on masks by each set of cross-attention maps against no mask, over all thresholds."""
    points = [point for (axis, _), view in views.items() if axis == "maps" for point in view.points]
    plain = next((name for value, name in points if value is None), "")
    found: list[Statement] = []
    for (axis, series), view in views.items():
        if axis != "threshold" or not plain:
            continue
        for metric in _claimed(measures, "prompt", "subject"):
            short = f"{'raise' if metric.higher_is_better else 'lower'} {metric.words} over no mask"
            of = partial(masked, measures.whole[metric.column], _names(view), plain)
            found.append(_statement(f"Masks by {series} {short}", (axis, series), short, of))
    return found


def _hidden(measures: Measures, views: Views) -> list[Statement]:
    """Claims that encoder layers fill in what the source hides: on photos that hide a part of the subject they keep it
    better than decoder layers, and lose less compared with whole photos."""
    pair = _full_spans(views)
    if pair is None:
        return []
    decoder, encoder = pair
    found: list[Statement] = []
    for metric in _claimed(measures, "subject"):
        seen, unseen = measures.whole[metric.column], measures.hidden[metric.column]
        if not seen.present or not unseen.present:
            continue
        found += [
            _statement(
                f"On photos that hide a part, encoder layers keep the subject better than decoder layers"
                f" ({metric.words})",
                ("hidden", ""),
                "",
                partial(contrasted, unseen, encoder, decoder),
            ),
            _statement(
                f"Encoder layers lose less than decoder layers where the photo hides a part ({metric.words})",
                ("hidden", ""),
                "",
                partial(lost, seen, unseen, encoder, decoder),
            ),
        ]
    return found


def _truth(measures: Measures, views: Views) -> list[Statement]:
    tables, about = measures.whole, ("subject", "prompt")
    headlines = [metric for metric in truths_among(measures.metrics, "picture") if tables[metric.column].present]
    truths = {
        metric: each
        for each in about
        for metric in truths_among(measures.metrics, each)
        if tables[metric.column].present
    }
    found: list[Statement] = []
    decoder, encoder = _full_spans(views) or ("", "")
    for metric, each in truths.items() if decoder else ():
        first, second = (decoder, encoder) if each == "subject" else (encoder, decoder)
        claim = f"The truth agrees: {first} beats {second} in {metric.words}"
        short = f"{first.split(',')[0]} is ahead in {metric.words}"
        found.append(_statement(claim, LAYERS, short, partial(contrasted, tables[metric.column], first, second)))
    for metric, each in truths.items():
        score, settings = measures.image if each == "subject" else measures.text, len(tables[metric.column].present)
        claim = f"{score.words[0].upper()}{score.words[1:]} ranks the {settings} settings as '{metric.words}' does"
        found.append(_statement(claim, ("truth", ""), "", partial(agreement, tables, score.column, metric.column)))
    for metric in headlines:
        claim = (
            f"Choosing by the truth ({metric.words}) beats the trade-off of {measures.text.words} and"
            f" {measures.image.words}"
        )
        found.append(_statement(claim, ("truth", ""), "", partial(best, measures, metric.column)))
    return found
