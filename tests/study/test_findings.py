"""What a study says of its claims, on tables whose answers are known."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samecast.metrics.statistics import FEWEST
from samecast.report.article import Statement
from samecast.study.claims import HOLDS, NO_DATA, NOT_SHOWN, REVERSED, TOO_FEW
from samecast.study.findings import findings as found_in
from samecast.study.findings import summing_up
from samecast.study.grid import Grid, Variant, View
from samecast.study.measures import gather
from samecast.study.presets import aiku, masks

SUBJECTS = [f"s{number}" for number in range(16)]
MEASURES = ("text_alignment", "image_alignment", "identity", "scene", "both")
Law = Callable[[Variant, bool], dict[str, float]]
"""What a variant's pictures measure, on whole photos and on hidden ones."""


@pytest.fixture(scope="module")
def grid() -> Grid:
    return aiku()


def rows_of(grid: Grid, law: Law, noise: float = 0.01, hidden: bool = True) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        {"variant": variant.name, "subject": subject, "hidden": partly}
        | {name: value + level + rng.normal(0, noise) for name, value in law(variant, partly).items()}
        for level, subject in zip(np.linspace(0, 0.2, len(SUBJECTS)), SUBJECTS, strict=True)
        for variant in grid.variants
        for partly in ((False, True) if hidden else (False,))
    ]


def findings(rows: list[dict[str, Any]], grid: Grid) -> list[Statement]:
    return found_in(gather(rows, [variant.name for variant in grid.variants]), grid)


def said(rows: list[dict[str, Any]], grid: Grid, claim: str) -> tuple[str, str]:
    found = [(data.verdict, data.figures) for data in findings(rows, grid) if claim in data.claim]
    assert len(found) == 1, claim
    return found[0]


def position(grid: Grid, axis: str, series: str) -> dict[str, float]:
    """Where along an axis each variant is, 0 to 1."""
    view = next(view for view in grid.views if (view.axis, view.series) == (axis, series))
    return {name: at / (len(view.points) - 1) for at, (_, name) in enumerate(view.points)}


def seeds_law(grid: Grid, sign: float = 1.0) -> Law:
    """The world as the AIKU study saw it, or turned round."""
    final = {series: position(grid, "final", series) for series in ("decoder", "encoder")}
    skip = {series: position(grid, "skip", series) for series in ("decoder", "encoder")}

    def law(variant: Variant, partly: bool) -> dict[str, float]:
        strength = {"decoder": 0.3, "encoder": 0.1}
        control = 0.0
        for series, most in strength.items():
            if variant.name in final[series]:
                control = max(control, most * final[series][variant.name])
            if variant.name in skip[series]:
                control = max(control, most * (1 - skip[series][variant.name]))
        lost = 0.2 if partly and variant.name in final["decoder"] else 0.0
        image = sign * (control - lost)
        return {
            "text_alignment": -sign * control,
            "image_alignment": image,
            "identity": image,
            "scene": -sign * control,
            "both": image,
        }

    return law


CLAIMS = (
    "Decoder layers keep the subject better",
    "Encoder layers follow the prompt better",
    "decoder: a later final step lowers text alignment",
    "decoder: a later final step raises image alignment",
    "encoder: more skipped steps raises text alignment",
    "encoder: more skipped steps lowers image alignment",
    "decoder: a later final step raises identity right",
    "decoder: a later final step lowers scene right",
    "decoder: more skipped steps lowers identity right",
    "encoder: more skipped steps raises scene right",
    "Encoder layers lose less than decoder layers where the photo hides a part (identity right)",
)


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_hold_in_the_studys_world_and_are_reversed_in_its_mirror(grid: Grid, claim: str) -> None:
    assert said(rows_of(grid, seeds_law(grid)), grid, claim)[0] == "holds"
    assert said(rows_of(grid, seeds_law(grid, -1.0)), grid, claim)[0] == "reversed"


def test_of_noise_nothing_much_is_said(grid: Grid) -> None:
    rows = rows_of(grid, lambda variant, partly: dict.fromkeys(MEASURES, 0.0), noise=0.1)
    verdicts = [data.verdict for data in findings(rows, grid)]
    assert len(verdicts) > 15
    assert verdicts.count("not shown") >= 0.8 * len(verdicts)


def test_what_never_changes_is_no_trend(grid: Grid) -> None:
    rows = rows_of(grid, lambda variant, partly: dict.fromkeys(MEASURES, 0.5), noise=0.0, hidden=False)
    verdict, figure = said(rows, grid, "encoder: a later final step raises identity right")
    assert (verdict, figure) == ("not shown", "the same at all 7 steps: 0.600")


def test_a_share_that_no_subject_has_is_told_with_what_it_may_be(grid: Grid) -> None:
    rows = rows_of(grid, lambda variant, partly: dict.fromkeys(MEASURES, 0.0), noise=0.0, hidden=False)
    decoder = next(view for view in grid.views if (view.axis, view.series) == ("final", "decoder")).points[-1][1]
    for row in rows:  # all or nothing
        row["identity"] = float(row["variant"] == decoder and row["subject"] in SUBJECTS[:12])
    _, figure = said(rows, grid, f"The truth agrees: {decoder} beats")
    intervals = [tuple(map(float, pair)) for pair in re.findall(r"\[([+-.\d]+), ([+-.\d]+)\]", figure)]
    assert [name for name in (f"{decoder} 0.750", "0.000", "difference +0.750") if name not in figure] == []
    (low, high), (none, may_be), (least, most) = intervals
    assert 0.45 < low < 0.75 < high < 1
    assert none == 0 < 0.1 < may_be < 0.25
    assert 0.4 < least < 0.75 < most < 1


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_few_subjects_show_nothing(grid: Grid, count: int) -> None:
    rows = [row for row in rows_of(grid, seeds_law(grid), noise=1e-4) if row["subject"] in SUBJECTS[:count]]
    data = [each for each in findings(rows, grid) if each.verdict not in (NOT_SHOWN, NO_DATA)]
    assert len(data) > 10
    if count < FEWEST:
        assert {each.verdict for each in data} == {TOO_FEW}
        assert all(math.isnan(each.holm) and not each.chance for each in data)
    else:
        assert HOLDS in {each.verdict for each in data}


def test_each_claim_comes_with_its_probability_adjusted_for_all(grid: Grid) -> None:
    data = findings(rows_of(grid, seeds_law(grid)), grid)
    assert len(data) > 25
    counted = [each for each in data if not math.isnan(each.p)]
    for each in counted:
        # Holm's step-down, claim by claim: no smaller than that of any claim with a smaller p.
        smaller = sorted(other.p for other in counted if other.p <= each.p)
        stepped = max((len(counted) - rank) * p for rank, p in enumerate(smaller))
        assert each.holm == pytest.approx(min(1.0, stepped))
        assert each.p <= each.holm <= min(1.0, len(counted) * each.p)
        assert (each.verdict in (HOLDS, REVERSED)) == (each.p < 0.05)
    held = [each for each in data if each.verdict == HOLDS]
    also = [each for each in held if each.holm < 0.05]
    assert summing_up(data, 16).startswith(
        f"{len(held)} of {len(data)} claims hold by their own interval, {len(also)} of"
    )


def test_hidden_photos_are_told_with_their_levels(grid: Grid) -> None:
    claim = "On photos that hide a part, encoder layers keep the subject better than decoder layers (identity right)"
    assert said(rows_of(grid, seeds_law(grid)), grid, claim)[0] in ("not shown", "reversed")  # they lose less, only

    def filling(variant: Variant, partly: bool) -> dict[str, float]:
        better = 0.4 if partly and variant.name in position(grid, "final", "encoder") else 0.0
        return seeds_law(grid)(variant, partly) | {"identity": better}

    verdict, figure = said(rows_of(grid, filling), grid, claim)
    assert verdict == "holds"
    assert "difference +0.4" in figure


@pytest.mark.parametrize(("moved", "data"), [(0.0, "holds"), (0.29, "reversed"), (0.14, "not shown")])
def test_a_flat_start_is_an_equivalence_not_a_missing_difference(grid: Grid, moved: float, data: str) -> None:
    """The final step moves the mean by 0.3: a start that moves it by less than half of that hardly matters."""
    starts, final = position(grid, "start", "decoder"), position(grid, "final", "decoder")

    def law(variant: Variant, partly: bool) -> dict[str, float]:
        value = 0.3 * final.get(variant.name, 1.0) + moved * starts.get(variant.name, 0.0)
        return dict.fromkeys(MEASURES, value)

    noise = 0.002 if data != "not shown" else 0.05
    claim = "decoder: the start step hardly matters for image alignment"
    verdict, figure = said(rows_of(grid, law, noise, hidden=False), grid, claim)
    assert verdict == data
    # Its figure shows it: the margin lies above 0, below, or about it.
    low, high = map(float, re.findall(r"least margin \S+ \[(\S+), (\S+)\]", figure)[0])
    assert {"holds": low > 0, "reversed": high < 0, "not shown": low < 0 < high}[data]


def test_a_wrong_recommendation_is_found_out_on_subjects_left_out(grid: Grid) -> None:
    claim = "Choosing by the truth (both right) beats the trade-off of text alignment and image alignment"
    best = grid.variants[5].name

    def law(variant: Variant, partly: bool) -> dict[str, float]:
        right = 0.5 if variant.name == best else 0.0
        clip = 0.0 if variant.name == best else 0.2
        return {"text_alignment": clip, "image_alignment": clip, "identity": right, "scene": right, "both": right}

    verdict, figure = said(rows_of(grid, law, hidden=False), grid, claim)
    assert verdict == "holds"
    assert f"the best is {best}" in figure


def test_a_missing_picture_leaves_its_subject_out_and_a_missing_variant_its_claim(grid: Grid) -> None:
    rows = rows_of(grid, seeds_law(grid))
    whole = findings(rows, grid)
    for lost in grid.variants[::5]:
        fewer = [row for row in rows if (row["variant"], row["subject"]) != (lost.name, "s0")]
        assert [data.claim for data in findings(fewer, grid)] == [data.claim for data in whole]
    none = [row for row in rows if row["variant"] != grid.variants[0].name]
    verdicts = [data.verdict for data in findings(none, grid)]
    assert "no data" in verdicts


def test_the_grid_has_the_views_that_the_claims_are_about(grid: Grid) -> None:
    assert all(isinstance(view, View) for view in grid.views)
    assert {view.axis for view in grid.views} >= {"final", "start", "skip"}


def test_masks_are_set_against_no_mask() -> None:
    grid = masks()

    def law(variant: Variant, partly: bool) -> dict[str, float]:
        gain = 0.3 if variant.fields["maps"] == "decoder" else 0.0
        return dict.fromkeys(MEASURES, 0.1 + gain)

    rows = rows_of(grid, law, hidden=False)
    verdict, figure = said(rows, grid, "Masks by maps decoder raise identity right")
    assert verdict == "holds"
    assert "+0.3" in figure
    assert said(rows, grid, "Masks by maps encoder raise scene right")[0] == "not shown"
