"""What a study says of the AIKU study's findings: each claim with its figure and interval, also where it does not hold.

A claim *holds* if the 95% interval lies wholly on its side of zero, is *reversed* if it lies wholly on the other, and
else is *not shown*; of fewer than six subjects nothing is. Beside it stands the probability of such a figure by chance,
adjusted for how many claims there are (Holm). Where the embedded world knows the truth, what that says is set beside
CLIP.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from samecast.report.article import Statement
from samecast.score.statistics import FEWEST, Cells, NothingInCommonError, balanced, holm
from samecast.study.claims import (
    CHANCE,
    HOLDS,
    INTERVALS,
    NO_DATA,
    TOO_FEW,
    Found,
    Tables,
    agreement,
    best,
    contrasted,
    flat,
    lost,
    masked,
    monotone,
)
from samecast.study.grid import Grid, View
from samecast.study.measures import IMAGE, TEXT, Measures

_IN_WORDS = {TEXT: "text alignment", IMAGE: "image alignment", "identity": "identity right", "scene": "scene right"}
LAYERS = ("layers", "")
"""What the claims about decoder and encoder are about."""
Views = Mapping[tuple[str, str], View]


def findings(measures: Measures, grid: Grid) -> list[Statement]:
    """All statements that the scores of a study allow; none where its grid has not the AIKU study's axes."""
    tables = measures.whole
    views = {(view.axis, view.series): view for view in grid.views}
    found = [*_layers(tables, views), *_trends(tables, views), *_starts(tables, views)]
    found += [*_maps(tables, views), *_hidden(measures, views), *_truth(tables, views)]
    adjusted = holm([statement.p for statement in found])
    return [replace(statement, holm=p) for statement, p in zip(found, adjusted, strict=True)]


def recommended(measures: Measures, weight: float = 0.5) -> str:
    """The variant whose means of text and image alignment are the best trade-off."""
    return balanced(measures.points, weight)


def summing_up(statements: Sequence[Statement], subjects: int) -> str:
    """How many claims hold, alone and among so many, and what stands beside them."""
    if subjects < FEWEST:
        return f"A claim takes {FEWEST} subjects at least; there {'is 1' if subjects == 1 else f'are {subjects}'}."
    held = [statement for statement in statements if statement.verdict == HOLDS]
    also = sum(statement.holm < CHANCE for statement in held)
    return (
        f"{len(held)} of {len(statements)} claims hold by their own interval, {also} of these also after Holm's"
        f" adjustment for {sum(not math.isnan(statement.p) for statement in statements)} claims (p below {CHANCE})."
        f" {INTERVALS}. Beside each claim: the probability p of such a figure by chance, and the same adjusted for all"
        " claims (Holm)."
    )


def _statement(claim: str, about: tuple[str, str], short: str, found: Callable[[], Found]) -> Statement:
    """A claim with what was found; where pictures are missing so that no subject can be compared, it says so."""
    try:
        data = found()
    except NothingInCommonError as error:
        data = Found(NO_DATA, str(error))
    p = math.nan if data.verdict == TOO_FEW else data.p
    return Statement(claim, data.verdict, data.figure, about, short, p)


def _known(table: Cells) -> bool:
    return bool(table.present)


def _names(view: View) -> list[str]:
    return [name for _, name in view.points]


def _layers(tables: Tables, views: Views) -> list[Statement]:
    pair = _full_spans(views)
    if pair is None:
        return []
    decoder, encoder = pair
    return [
        _statement(
            "Decoder layers keep the subject better than encoder layers (image alignment)",
            LAYERS,
            "decoder keeps the subject better",
            partial(contrasted, tables[IMAGE], decoder, encoder),
        ),
        _statement(
            "Encoder layers follow the prompt better than decoder layers (text alignment)",
            LAYERS,
            "encoder follows the prompt better",
            partial(contrasted, tables[TEXT], encoder, decoder),
        ),
    ]


def _full_spans(views: Views) -> tuple[str, str] | None:
    """Decoder and encoder at the longest span, where the study has both."""
    pair = [views.get(("final", series)) for series in ("decoder", "encoder")]
    decoder, encoder = (None if view is None else _names(view)[-1] for view in pair)
    return None if decoder is None or encoder is None else (decoder, encoder)


def _trends(tables: Tables, views: Views) -> list[Statement]:
    found: list[Statement] = []
    for axis, words, sign in (
        ("final", "a later final step", {TEXT: -1, IMAGE: 1, "scene": -1, "identity": 1}),
        ("skip", "more skipped steps", {TEXT: 1, IMAGE: -1, "scene": 1, "identity": -1}),
    ):
        for series in ("decoder", "encoder"):
            view = views.get((axis, series))
            if view is None or len(view.points) < 3:
                continue
            for measure, way in sign.items():
                if _known(tables[measure]):
                    short = f"{'raises' if way > 0 else 'lowers'} {_IN_WORDS[measure]}"
                    claim = f"{series}: {words} {short}"
                    of = partial(monotone, tables[measure], _names(view), way)
                    found.append(_statement(claim, (axis, series), short, of))
    return found


def _starts(tables: Tables, views: Views) -> list[Statement]:
    found: list[Statement] = []
    for series in ("decoder", "encoder"):
        start, final = views.get(("start", series)), views.get(("final", series))
        if start is None or final is None or min(len(start.points), len(final.points)) < 2:
            continue
        for measure in (TEXT, IMAGE):
            short = f"hardly matters for {_IN_WORDS[measure]}"
            of = partial(flat, tables[measure], _names(start), _names(final))
            found.append(_statement(f"{series}: the start step {short}", ("start", series), short, of))
    return found


def _maps(tables: Tables, views: Views) -> list[Statement]:
    """What masking by each set of cross-attention maps does against no mask, its thresholds together."""
    points = [point for (axis, _), view in views.items() if axis == "maps" for point in view.points]
    plain = next((name for value, name in points if value is None), "")
    found: list[Statement] = []
    for (axis, series), view in views.items():
        if axis != "threshold" or not plain:
            continue
        for measure in (TEXT, IMAGE, "identity", "scene"):
            if _known(tables[measure]):
                short = f"raise {_IN_WORDS[measure]} over no mask"
                of = partial(masked, tables[measure], _names(view), plain)
                found.append(_statement(f"Masks by {series} {short}", (axis, series), short, of))
    return found


def _hidden(measures: Measures, views: Views) -> list[Statement]:
    """Whether encoder layers fill in what the source hides: on photos that hide a part they would keep the subject
    better than decoder layers, and lose less against whole photos."""
    pair = _full_spans(views)
    if pair is None:
        return []
    decoder, encoder = pair
    found: list[Statement] = []
    for measure in (IMAGE, "identity"):
        seen, unseen = measures.whole[measure], measures.hidden[measure]
        if not _known(seen) or not _known(unseen):
            continue
        found += [
            _statement(
                f"On photos that hide a part, encoder layers keep the subject better than decoder layers"
                f" ({_IN_WORDS[measure]})",
                ("hidden", ""),
                "",
                partial(contrasted, unseen, encoder, decoder),
            ),
            _statement(
                f"Encoder layers lose less than decoder layers where the photo hides a part ({_IN_WORDS[measure]})",
                ("hidden", ""),
                "",
                partial(lost, seen, unseen, encoder, decoder),
            ),
        ]
    return found


def _truth(tables: Tables, views: Views) -> list[Statement]:
    if not _known(tables["both"]):
        return []
    found: list[Statement] = []
    pair = _full_spans(views)
    if pair is not None:
        decoder, encoder = pair
        for measure, first, second in (("identity", decoder, encoder), ("scene", encoder, decoder)):
            claim = f"The truth agrees: {first} beats {second} in {_IN_WORDS[measure]}"
            short = f"{first.split(',')[0]} is ahead in {_IN_WORDS[measure]}"
            found.append(_statement(claim, LAYERS, short, partial(contrasted, tables[measure], first, second)))
    for measure, truth in ((IMAGE, "identity"), (TEXT, "scene")):
        settings = len(tables[truth].present)
        claim = f"CLIP's {_IN_WORDS[measure]} ranks the {settings} settings as '{_IN_WORDS[truth]}' does"
        found.append(_statement(claim, ("truth", ""), "", partial(agreement, tables, measure, truth)))
    claim = "Choosing by the truth (both right) beats the trade-off that CLIP recommends"
    return [*found, _statement(claim, ("truth", ""), "", partial(best, tables))]
