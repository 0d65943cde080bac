"""Shared prefixes: the AIKU grid's counts, and trees held against counting histories one by one."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from samecast.attention.methods import masactrl, masactrl_union
from samecast.attention.plan import Plan, make_plan
from samecast.attention.rule import Rules
from samecast.core.layers import Layer
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from samecast.study.grid import Grid, factorial, only, runs_of
from samecast.study.presets import aiku, fitted, full, masks, preset_grid
from samecast.study.tree import action_at, history, measure

LAYERS = tuple(
    Layer(f"{stage}.{at}", index, "self", stage, side, 2)
    for index, (stage, at, side) in enumerate(
        [("down", n, s) for n, s in enumerate((64, 64, 32, 32, 16, 16))]
        + [("mid", 0, 8)]
        + [("up", n, s) for n, s in enumerate((16, 16, 16, 32, 32, 32, 64, 64, 64))]
    )
)


@dataclass(frozen=True)
class FullTimeline:
    steps: int = 50

    def is_identity(self, step: int) -> bool:
        return False


def plan(rules: Rules, steps: int = 50) -> Plan:
    return make_plan(rules, LAYERS, FullTimeline(steps), 1)


def histories(grid: Grid, steps: int = 50) -> list[tuple[object, ...]]:
    return [history(plan(variant.rules, steps), range(steps)) for variant in grid.variants]


def test_presets_fit_models_with_other_numbers_of_layers() -> None:
    grid, xl = aiku(), fitted(aiku(), 70)
    assert fitted(grid, 16) == grid
    assert [variant.name for variant in xl.variants] == [variant.name for variant in grid.variants]
    assert xl.views == grid.views
    data = {"0-7": "0-34", "10-15": "44-69", "0-7,10-15": "0-34,44-69"}
    for ours, theirs in zip(grid.variants, xl.variants, strict=True):
        assert [data[rule.layers] for rule in ours.rules] == [rule.layers for rule in theirs.rules]
    rules = [rule for variant in fitted(masks(), 70).variants for rule in variant.rules]
    found = {rule.tokens.layers for rule in rules if isinstance(rule.tokens, SubjectTokens)}
    assert found == {"encoder", "mid", "decoder", "0-12", "13-25", "31-43", "44-56", "57-69"}


@pytest.mark.parametrize("steps", [8, 10, 20, 50])
@pytest.mark.parametrize("make", [aiku, masks, full])
def test_presets_have_no_run_without_a_step_however_short_it_is(make: Callable[[int], Grid], steps: int) -> None:
    grid = make(steps)
    assert all(rule.steps.select(steps) for variant in grid.variants for rule in variant.rules)
    skips = {variant.fields.get("skip") for variant in grid.variants}
    assert make is masks or max(skip for skip in skips if isinstance(skip, int)) == min(9, steps - 1)
    named = {variant.name for variant in grid.variants}
    assert all(name in named for view in grid.views for _, name in view.points)


def test_the_aiku_grid_is_44_runs_of_which_42_are_distinct_on_1474_nodes() -> None:
    grid = aiku(beyond=False)
    size = measure(histories(grid))
    assert (runs_of(grid), size.distinct, size.nodes) == (44, 42, 1474)
    assert 50 + 2 * size.nodes == 2998


def test_the_layer_types_of_the_seed_are_a_strip_of_their_own() -> None:
    """Its corgi_layer_type.png: the source, then decoder and encoder at the whole span."""
    for steps in (10, 50):
        seed, ours = (preset_grid("aiku", steps, only_seed=only_seed) for only_seed in (True, False))
        assert seed == aiku(steps, beyond=False)
        (view,) = (view for view in seed.views if view.axis == "layers")
        named = {variant.name: variant for variant in seed.variants}
        assert [value for value, _ in view.points] == ["decoder", "encoder"]
        for value, name in view.points:
            fields = named[name].fields
            assert (fields["layers"], fields["final"], fields["skip"]) == (value, steps, None)
        (view,) = (view for view in ours.views if view.axis == "layers")
        assert [value for value, _ in view.points] == ["decoder", "encoder", "both", "no control"]
    assert runs_of(preset_grid("aiku", 50, only_seed=True)) == 44
    with pytest.raises(SamecastError, match="only the preset aiku"):
        preset_grid("full", 50, only_seed=True)


def test_what_goes_beyond_the_aiku_grid_leaves_its_runs_as_they_are() -> None:
    grid, seed = aiku(), aiku(beyond=False)
    assert all(variant in grid.variants for variant in seed.variants)
    assert {"no control", "both, steps 4-50", "encoder to step 19, then decoder"} <= {v.name for v in grid.variants}
    assert only(grid, [v.name for v in seed.variants]).variants == seed.variants


def test_the_full_factorial_costs_at_most_a_quarter_of_its_distinct_runs_alone() -> None:
    grid = full()
    size = measure(histories(grid))
    assert runs_of(grid) == len(grid.variants) == 840
    assert 50 + 2 * size.nodes <= size.distinct * (50 + 2 * 50) / 4


def test_masks_are_told_apart_by_their_maps_and_threshold() -> None:
    grid = masks()
    assert measure(histories(grid)).distinct == len(grid.variants) == runs_of(grid) == 33


@pytest.mark.parametrize("seed", range(5))
def test_nodes_are_the_distinct_prefixes(seed: int) -> None:
    draw = random.Random(seed)
    runs = [tuple(draw.randrange(2) for _ in range(8)) for _ in range(20)]
    prefixes = {run[: step + 1] for run in runs for step in range(8)}
    size = measure(runs)
    assert (size.nodes, size.distinct) == (len(prefixes), len(set(runs)))


def test_histories_forget_what_makes_no_difference_yet() -> None:
    early, late = (plan(masactrl(4, final)) for final in (20, 30))
    assert action_at(early, 10) == action_at(late, 10) != ()
    assert action_at(early, 25) == () != action_at(late, 25)
    assert action_at(plan(masactrl(4)), 10) != action_at(plan(masactrl_union(4)), 10)
    assert history(plan(masactrl(layers="10-12") + masactrl(layers="13-15")), range(50)) == history(
        plan(masactrl(layers="10-15")), range(50)
    )


def test_short_runs_keep_the_presets_shares() -> None:
    size = measure(histories(aiku(10), 10))
    assert size.deepest == 10
    assert {v.fields["final"] for v in aiku(10).variants if v.fields["layers"] == "both"} == {4, 5, 6, 7, 8, 9, 10}


def test_a_factorial_has_a_view_for_each_axis_and_set_of_layers() -> None:
    from samecast.study.axes import parse_axis

    grid = factorial((parse_axis("final=20:51:10"), parse_axis("layers=decoder,0-7")), {}, 50)
    assert len(grid.variants) == 8
    assert {(view.axis, view.series) for view in grid.views} == {
        ("final", "decoder"),
        ("final", "0-7"),
        ("layers", "all"),
    }
