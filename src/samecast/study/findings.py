"""What a study says of the AIKU study's findings: each claim with its figure and interval, also where it does not hold.

A claim *holds* if the 95% interval lies wholly on its side of zero, is *reversed* if it lies wholly on the other, and
else is *not shown*; of one subject nothing is. Where the embedded world knows the truth, what that says is set beside
CLIP.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from samecast.report.article import Statement
from samecast.score.statistics import (
    Cells,
    Estimate,
    NothingInCommonError,
    balanced,
    common,
    contrast,
    estimate,
    mean_of,
    rank_correlation,
    trend,
)
from samecast.study.grid import Grid, View
from samecast.study.scoring import VERDICTS, means_of

Rows = Sequence[Mapping[str, Any]]
TEXT, IMAGE = "text_alignment", "image_alignment"
_IN_WORDS = {TEXT: "text alignment", IMAGE: "image alignment", "identity": "identity right", "scene": "scene right"}
_FLAT = 0.5
"""The start step hardly matters where no start moves the mean by this share of what the final step moves it."""
Found = tuple[str, str]
"""How a claim came out, and its figure."""


def findings(rows: Rows, grid: Grid) -> list[Statement]:
    """All statements that the rows of a study allow; none where its grid has not the AIKU study's axes."""
    whole = [row for row in rows if not row["hidden"]]
    tables = {measure: means_of(whole, measure) for measure in (TEXT, IMAGE, *VERDICTS)}
    views = {(view.axis, view.series): view for view in grid.views}
    found = [*_sites(tables, views), *_trends(tables, views), *_starts(tables, views)]
    found += [*_maps(tables, views), *_hidden(rows, views)]
    return [*found, *_truth(tables, views)]


def verdict(found: Estimate, sign: int) -> str:
    """How a claim that a figure is positive (or negative) came out."""
    if found.low * sign > 0 and found.high * sign > 0:
        return "holds"
    return "reversed" if found.low * sign < 0 and found.high * sign < 0 else "not shown"


def recommended(rows: Rows, weight: float = 0.5) -> str:
    """The variant whose means of text and image alignment are the best trade-off."""
    return balanced(mean_points(rows), weight)


def mean_points(rows: Rows) -> dict[str, tuple[float, float]]:
    """For each variant its means of text and image alignment over subjects."""
    text, image = means_of(rows, TEXT), means_of(rows, IMAGE)
    return {name: (mean_of(text, name).value, mean_of(image, name).value) for name in text if name in image}


def _statement(claim: str, found: Callable[[], Found]) -> Statement:
    """A claim with what was found; where pictures are missing so that no subject can be compared, it says so."""
    try:
        return claim, *found()
    except NothingInCommonError as error:
        return claim, "no data", str(error)


def _contrasted(table: Cells, first: str, second: str) -> Found:
    gap = contrast(table, [first], [second])
    return verdict(gap, 1), (
        f"{first} {mean_of(table, first)}, {second} {mean_of(table, second)}; difference {gap.signed},"
        f" {gap.subjects} subjects"
    )


def _names(view: View) -> list[str]:
    return [name for _, name in view.points]


def _sites(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    pair = _full_spans(views)
    if pair is None:
        return []
    decoder, encoder = pair
    return [
        _statement(
            "Decoder sites keep the subject better than encoder sites (image alignment)",
            partial(_contrasted, tables[IMAGE], decoder, encoder),
        ),
        _statement(
            "Encoder sites follow the prompt better than decoder sites (text alignment)",
            partial(_contrasted, tables[TEXT], encoder, decoder),
        ),
    ]


def _full_spans(views: Mapping[tuple[str, str], View]) -> tuple[str, str] | None:
    """Decoder and encoder at the longest span, where the study has both."""
    pair = [views.get(("final", series)) for series in ("decoder", "encoder")]
    decoder, encoder = (None if view is None else _names(view)[-1] for view in pair)
    return None if decoder is None or encoder is None else (decoder, encoder)


def _trends(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
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
                if not tables[measure]:
                    continue
                claim = f"{series}: {words} {'raises' if way > 0 else 'lowers'} {_IN_WORDS[measure]}"
                found.append(_statement(claim, partial(_monotone, tables[measure], _names(view), way)))
    return found


def _monotone(table: Cells, names: Sequence[str], way: int) -> Found:
    rho = trend(table, names)
    means = [mean_of(table, name).value for name in names]
    if all(len({table[name][subject] for name in names}) == 1 for subject in common(table, names)):
        return "not shown", f"the same at all {len(names)} steps: {means[0]:.3f}"
    against = sum(int((b - a) * way < 0) for a, b in pairwise(means))
    return verdict(rho, way), (
        f"Spearman's rho within subjects {rho.signed}; of {len(means) - 1} steps between means {against} go the other"
        " way"
    )


def _starts(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    found: list[Statement] = []
    for series in ("decoder", "encoder"):
        start, final = views.get(("start", series)), views.get(("final", series))
        if start is None or final is None or min(len(start.points), len(final.points)) < 2:
            continue
        for measure in (TEXT, IMAGE):
            claim = f"{series}: the start step hardly matters for {_IN_WORDS[measure]}"
            found.append(_statement(claim, partial(_flat, tables[measure], _names(start), _names(final))))
    return found


def _flat(table: Cells, starts: Sequence[str], finals: Sequence[str]) -> Found:
    """Equivalence: whether every start leaves the mean within half of what the final step moves it, either way.

    Each subject is compared with itself, and all starts have to pass; the one that moves the mean most is told.
    """
    subjects = common(table, (*starts, *finals))
    moves = np.array([table[finals[-1]][s] - table[finals[0]][s] for s in subjects])
    wide = estimate(moves.tolist())
    limit = _FLAT * moves * np.sign(wide.value)
    shifts = {name: np.array([table[name][s] - table[starts[0]][s] for s in subjects]) for name in starts[1:]}
    room = {name: [estimate((limit + sign * shift).tolist()) for sign in (1, -1)] for name, shift in shifts.items()}
    outcome = "not shown"
    if all(verdict(side, 1) == "holds" for sides in room.values() for side in sides):
        outcome = "holds"
    elif any(verdict(side, 1) == "reversed" for side in room[starts[-1]]):
        outcome = "reversed"
    most = max(shifts, key=lambda name: abs(float(shifts[name].mean())))
    return outcome, (
        f"the mean moves by {estimate(shifts[most].tolist()).signed} at most ({most} against {starts[0]}), along"
        f" the final step by {wide.signed}; hardly is less than {_FLAT:.0%} of that at every start"
    )


def _maps(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    """What masking by each set of cross-attention maps does against no mask, its thresholds together."""
    points = [point for (axis, _), view in views.items() if axis == "maps" for point in view.points]
    plain = next((name for value, name in points if value is None), "")
    found: list[Statement] = []
    for (axis, series), view in views.items():
        if axis != "threshold" or not plain:
            continue
        for measure in (TEXT, IMAGE, "identity", "scene"):
            if tables[measure]:
                claim = f"Masks by {series} raise {_IN_WORDS[measure]} over no mask"
                found.append(_statement(claim, partial(_masked, tables[measure], _names(view), plain)))
    return found


def _masked(table: Cells, masked: Sequence[str], plain: str) -> Found:
    gap = contrast(table, masked, [plain])
    return verdict(gap, 1), (
        f"{len(masked)} thresholds together {gap.signed} over {mean_of(table, plain)}, {gap.subjects} subjects"
    )


def _hidden(rows: Rows, views: Mapping[tuple[str, str], View]) -> list[Statement]:
    """Whether encoder sites fill in what the source hides: on photos that hide a part they would keep the subject
    better than decoder sites, and lose less against whole photos."""
    pair = _full_spans(views)
    partly = [row for row in rows if row["hidden"]]
    if pair is None or not partly:
        return []
    decoder, encoder = pair
    found: list[Statement] = []
    whole = [row for row in rows if not row["hidden"]]
    for measure in (IMAGE, "identity"):
        seen, unseen = means_of(whole, measure), means_of(partly, measure)
        if not seen or not unseen:
            continue
        found += [
            _statement(
                f"On photos that hide a part, encoder sites keep the subject better than decoder sites"
                f" ({_IN_WORDS[measure]})",
                partial(_contrasted, unseen, encoder, decoder),
            ),
            _statement(
                f"Encoder sites lose less than decoder sites where the photo hides a part ({_IN_WORDS[measure]})",
                partial(_lost, seen, unseen, encoder, decoder),
            ),
        ]
    return found


def _lost(seen: Cells, unseen: Cells, encoder: str, decoder: str) -> Found:
    lost = {
        name: {s: unseen[name][s] - seen[name][s] for s in set(unseen.get(name, {})) & set(seen.get(name, {}))}
        for name in (decoder, encoder)
    }
    gain = contrast(Cells(lost), [encoder], [decoder])
    return verdict(gain, 1), (
        f"encoder {mean_of(seen, encoder)} and {mean_of(unseen, encoder)} on hidden, decoder"
        f" {mean_of(seen, decoder)} and {mean_of(unseen, decoder)}; difference of what is lost"
        f" {gain.signed}"
    )


def _truth(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    if not tables["both"]:
        return []
    found: list[Statement] = []
    pair = _full_spans(views)
    if pair is not None:
        decoder, encoder = pair
        for measure, first, second in (("identity", decoder, encoder), ("scene", encoder, decoder)):
            claim = f"The truth agrees: {first} beats {second} in {_IN_WORDS[measure]}"
            found.append(_statement(claim, partial(_contrasted, tables[measure], first, second)))
    for measure, truth in ((IMAGE, "identity"), (TEXT, "scene")):
        claim = f"CLIP's {_IN_WORDS[measure]} ranks the {len(tables[truth])} settings as '{_IN_WORDS[truth]}' does"
        found.append(_statement(claim, partial(_agreement, tables, measure, truth)))
    claim = "Choosing by the truth (both right) beats the trade-off that CLIP recommends"
    return [*found, _statement(claim, partial(_best, tables))]


def _agreement(tables: Mapping[str, Cells], measure: str, truth: str) -> Found:
    """Whether ranking settings by CLIP ranks them by the truth, in each subject."""
    variants = sorted(tables[truth])
    subjects = set(common(tables[measure], variants)) & set(common(tables[truth], variants))
    ranked = [
        rank_correlation([tables[measure][v][s] for v in variants], [tables[truth][v][s] for v in variants])
        for s in sorted(subjects)
    ]
    rho = estimate(ranked, (-1, 1))
    pooled = rank_correlation(*([mean_of(tables[name], v).value for v in variants] for name in (measure, truth)))
    return verdict(rho, 1), f"Spearman's rho over settings, within subjects {rho.signed}; of the means {pooled:+.3f}"


def _best(tables: Mapping[str, Cells]) -> Found:
    """Both chosen on all subjects but one and held against each other on that one, in turn: nothing is judged by what
    it was chosen by."""
    variants = [name for name in sorted(tables["both"]) if name in tables[TEXT] and name in tables[IMAGE]]
    shared = [set(common(tables[measure], variants)) for measure in ("both", TEXT, IMAGE)]
    subjects = sorted(set[str].intersection(*shared))

    def chosen(among: Sequence[str]) -> tuple[str, str]:
        def mean(measure: str, name: str) -> float:
            return float(np.mean([tables[measure][name][s] for s in among]))

        by_truth = max(variants, key=lambda name: mean("both", name))
        return by_truth, balanced({name: (mean(TEXT, name), mean(IMAGE, name)) for name in variants})

    if len(subjects) < 2:
        raise NothingInCommonError("choosing on some subjects and judging on others takes two at least")
    gaps: list[float] = []
    for left_out in subjects:
        best, by_clip = chosen([s for s in subjects if s != left_out])
        gaps.append(tables["both"][best][left_out] - tables["both"][by_clip][left_out])
    gap, (best, by_clip) = estimate(gaps, (-1, 1)), chosen(subjects)
    return verdict(gap, 1), (
        f"on subjects left out of the choice {gap.signed}; on all, CLIP recommends {by_clip}"
        f" ({mean_of(tables['both'], by_clip)} both right), the best is {best}"
        f" ({mean_of(tables['both'], best)})"
    )
