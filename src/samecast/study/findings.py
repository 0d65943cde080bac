"""What a study says of the AIKU study's findings: each claim with its figure and interval, also where it does not hold.

A claim *holds* if the 95% interval lies wholly on its side of zero, is *reversed* if it lies wholly on the other, and
else is *not shown*. Where the embedded world knows the truth, what that says is set beside CLIP.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from samecast.report.article import Statement
from samecast.study.grid import Grid, View
from samecast.study.scoring import VERDICTS
from samecast.study.statistics import (
    Cells,
    Estimate,
    balanced,
    cells,
    contrast,
    mean_of,
    rank_correlation,
    spread,
    trend,
)

Rows = Sequence[Mapping[str, Any]]
TEXT, IMAGE = "text_alignment", "image_alignment"
_IN_WORDS = {TEXT: "text alignment", IMAGE: "image alignment", "identity": "identity right", "scene": "scene right"}
_FLAT = 0.5
"""The start step counts as flat where its range is surely below this share of the final step's."""


def findings(rows: Rows, grid: Grid) -> list[Statement]:
    """All statements that the rows of a study allow; none where its grid has not the AIKU study's axes."""
    whole = [row for row in rows if not row["hidden"]]
    tables = {measure: cells(whole, measure) for measure in (TEXT, IMAGE, *VERDICTS)}
    views = {(view.axis, view.series): view for view in grid.views}
    found = [*_sites(tables, views), *_trends(tables, views), *_starts(tables, views)]
    found += _hidden(rows, views)
    return [*found, *_truth(tables, views)]


def verdict(found: Estimate, sign: int) -> str:
    """How a claim that a figure is positive (or negative) came out."""
    if found.low * sign > 0 and found.high * sign > 0:
        return "holds"
    return "reversed" if found.low * sign < 0 and found.high * sign < 0 else "not shown"


def recommended(rows: Rows, weight: float = 0.5) -> str:
    """The variant whose means of text and image alignment are the best trade-off."""
    return balanced(mean_points([row for row in rows if not row["hidden"]]), weight)


def mean_points(rows: Rows) -> dict[str, tuple[float, float]]:
    """For each variant its means of text and image alignment over subjects."""
    text, image = cells(rows, TEXT), cells(rows, IMAGE)
    return {name: (mean_of(text, name).value, mean_of(image, name).value) for name in text}


def _names(view: View) -> list[str]:
    return [name for _, name in view.points]


def _sites(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    pair = _full_spans(views)
    if pair is None:
        return []
    decoder, encoder = pair
    image = contrast(tables[IMAGE], [decoder], [encoder])
    text = contrast(tables[TEXT], [encoder], [decoder])
    return [
        (
            "Decoder sites keep the subject better than encoder sites (image alignment)",
            verdict(image, 1),
            f"{decoder} minus {encoder}: {image.signed}, {image.subjects} subjects",
        ),
        (
            "Encoder sites follow the prompt better than decoder sites (text alignment)",
            verdict(text, 1),
            f"{encoder} minus {decoder}: {text.signed}, {text.subjects} subjects",
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
        ("final", "a later final step", {TEXT: -1, IMAGE: 1}),
        ("skip", "more skipped steps", {TEXT: 1, IMAGE: -1}),
    ):
        for series in ("decoder", "encoder"):
            view = views.get((axis, series))
            if view is None or len(view.points) < 3:
                continue
            for measure, way in sign.items():
                rho = trend(tables[measure], _names(view))
                means = [mean_of(tables[measure], name).value for name in _names(view)]
                against = sum(int((b - a) * way < 0) for a, b in pairwise(means))
                found.append(
                    (
                        f"{series}: {words} {'raises' if way > 0 else 'lowers'} {_IN_WORDS[measure]}",
                        verdict(rho, way),
                        f"Spearman's rho within subjects {rho.signed}; of {len(means) - 1} steps between means"
                        f" {against} go the other way",
                    )
                )
    return found


def _starts(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    found: list[Statement] = []
    for series in ("decoder", "encoder"):
        start, final = views.get(("start", series)), views.get(("final", series))
        if start is None or final is None:
            continue
        for measure in (TEXT, IMAGE):
            flat, wide = spread(tables[measure], _names(start)), spread(tables[measure], _names(final))
            holds = "holds" if flat.high < _FLAT * wide.value else "not shown"
            found.append(
                (
                    f"{series}: the start step hardly matters for {_IN_WORDS[measure]}",
                    "reversed" if flat.low > wide.value else holds,
                    f"its means span {flat}, those of the final step {wide}; flat is below {_FLAT:.0%} of the latter",
                )
            )
    return found


def _hidden(rows: Rows, views: Mapping[tuple[str, str], View]) -> list[Statement]:
    """Encoder sites fill in what the source hides: they lose less than decoder sites when the photo hides a part."""
    pair = _full_spans(views)
    partly = [row for row in rows if row["hidden"]]
    if pair is None or not partly:
        return []
    decoder, encoder = pair
    found: list[Statement] = []
    whole = [row for row in rows if not row["hidden"]]
    for measure in (IMAGE, "identity"):
        seen, unseen = cells(whole, measure), cells(partly, measure)
        if not seen or not unseen:
            continue
        lost = {name: {s: unseen[name][s] - seen[name][s] for s in unseen[name]} for name in (decoder, encoder)}
        gain = contrast(lost, [encoder], [decoder])
        found.append(
            (
                f"Encoder sites fill in what the source hides ({_IN_WORDS[measure]}, against whole photos)",
                verdict(gain, 1),
                f"hidden minus whole photo: encoder {mean_of(lost, encoder).signed}, decoder"
                f" {mean_of(lost, decoder).signed}; difference {gain.signed}",
            )
        )
    return found


def _truth(tables: Mapping[str, Cells], views: Mapping[tuple[str, str], View]) -> list[Statement]:
    if not tables["both"]:
        return []
    found: list[Statement] = []
    pair = _full_spans(views)
    if pair is not None:
        decoder, encoder = pair
        for measure, first, second in (("identity", decoder, encoder), ("scene", encoder, decoder)):
            gap = contrast(tables[measure], [first], [second])
            found.append(
                (
                    f"The truth agrees: {first} beats {second} in {_IN_WORDS[measure]}",
                    verdict(gap, 1),
                    f"share of pictures {mean_of(tables[measure], first)} against"
                    f" {mean_of(tables[measure], second)}; difference {gap.signed}",
                )
            )
    for measure, truth in ((IMAGE, "identity"), (TEXT, "scene")):
        found.append(_agreement(tables, measure, truth))
    return [*found, _best(tables)]


def _agreement(tables: Mapping[str, Cells], measure: str, truth: str) -> Statement:
    """Whether ranking settings by CLIP ranks them by the truth; the interval is a bootstrap over subjects."""
    variants = sorted(tables[truth])
    subjects = sorted(tables[truth][variants[0]])
    scored, true = (np.array([[tables[name][v][s] for v in variants] for s in subjects]) for name in (measure, truth))
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(subjects), (1000, len(subjects)))
    bootstrapped = [rank_correlation(scored[draw].mean(axis=0), true[draw].mean(axis=0)) for draw in draws]
    low, high = np.quantile(bootstrapped, [0.025, 0.975])
    value = rank_correlation(scored.mean(axis=0), true.mean(axis=0))
    rho = Estimate(value, float(low), float(high), len(subjects))
    return (
        f"CLIP's {_IN_WORDS[measure]} ranks the {len(variants)} settings as '{_IN_WORDS[truth]}' does",
        verdict(rho, 1),
        f"Spearman's rho over settings {rho.signed}",
    )


def _best(tables: Mapping[str, Cells]) -> Statement:
    best = max(sorted(tables["both"]), key=lambda name: mean_of(tables["both"], name).value)
    points = {name: (mean_of(tables[TEXT], name).value, mean_of(tables[IMAGE], name).value) for name in tables[TEXT]}
    chosen = balanced(points)
    gap = contrast(tables["both"], [best], [chosen])
    return (
        "The trade-off that CLIP recommends is also the best by the truth (both right)",
        "holds" if best == chosen or gap.low <= 0 else "reversed",
        f"CLIP recommends {chosen}: {mean_of(tables['both'], chosen)} both right; best is {best}:"
        f" {mean_of(tables['both'], best)}",
    )
