import re

import pytest

from samecast.core.layers import Layer, describe_layers, select_layers
from samecast.errors import SamecastError

SIDES = {"down": (64, 64, 32, 32, 16, 16), "mid": (8,), "up": (16, 16, 16, 32, 32, 32, 64, 64, 64)}
LAYERS = tuple(
    Layer(f"{stage}.{within}", first + within, "self", stage, resolution, 8)
    for stage, first in (("down", 0), ("mid", 6), ("up", 7))
    for within, resolution in enumerate(SIDES[stage])
)


def indices(selector: str) -> list[int]:
    return [layer.index for layer in select_layers(selector, LAYERS)]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("encoder", range(6)),
        ("mid", [6]),
        ("decoder", range(7, 16)),
        ("all", range(16)),
        ("10-15", range(10, 16)),
        ("7", [7]),
        ("0-7", range(8)),
        ("up.8", [15]),
        ("up.3-8", range(10, 16)),
        ("down.0, mid.0", [0, 6]),
        ("10-12,11-13", range(10, 14)),
        ("15,0", [0, 15]),
        ("@16", [4, 5, 7, 8, 9]),
        ("@1/4", [4, 5, 7, 8, 9]),
        ("@1/1", [0, 1, 13, 14, 15]),
        ("@8,encoder", range(7)),
    ],
)
def test_selector(selector: str, expected: list[int]) -> None:
    assert indices(selector) == list(expected)


@pytest.mark.parametrize("selector", ["up.9", "16", "99", "up.9-12", "@15", "@1/3"])
def test_a_term_that_matches_nothing_lists_the_choices(selector: str) -> None:
    with pytest.raises(SamecastError, match=f"match nothing; this model has {re.escape(describe_layers(LAYERS))}"):
        select_layers(selector, LAYERS)


@pytest.mark.parametrize("selector", ["10-16", "up.8-9"])
def test_a_range_that_runs_over_the_end_is_refused(selector: str) -> None:
    with pytest.raises(SamecastError, match="go beyond the last layer"):
        select_layers(selector, LAYERS)


@pytest.mark.parametrize("selector", ["", "decodr", "10-", "up", "1.5", "10-15,", "-1", "@", "@0", "@1/0", "@2/4"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(SamecastError, match="is not a selector"):
        select_layers(selector, LAYERS)


def test_a_backward_range_is_refused() -> None:
    with pytest.raises(SamecastError, match="write 10-15"):
        select_layers("15-10", LAYERS)


def test_a_stage_that_a_model_lacks_is_refused() -> None:
    with pytest.raises(SamecastError, match="match nothing"):
        select_layers("mid", LAYERS[:6])


def test_description_numbers_every_stage() -> None:
    assert describe_layers(LAYERS) == ("down.0-5 (0-5), mid.0 (6), up.0-8 (7-15), resolutions @64, @32, @16, @8")
