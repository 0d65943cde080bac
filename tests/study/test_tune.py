"""The search finds what a search of everything would find, where pictures do not differ by chance."""

import numpy as np
import pytest

from samecast.metrics.statistics import balanced, front, widths
from samecast.study.tune import better_half

Points = dict[str, tuple[float, float]]


def searched(points: Points, weight: float) -> str:
    """Successive halving as `tune` does it, with the same means in each round."""
    scale, left = widths(points), points
    while len(left) > 3:
        kept = set(better_half(left, weight, scale))
        left = {name: at for name, at in left.items() if name in kept}
    return balanced(left, weight, scale)


def trade(seed: int, count: int = 54) -> Points:
    """Candidates on a bent trade-off, as text and image alignment are."""
    draw = np.random.default_rng(seed)
    along, bend = draw.random(count), draw.uniform(0.3, 3)
    lost = draw.exponential(0.1, (count, 2))
    text, image = 0.3 - 0.05 * (along + lost[:, 0]), 0.6 + 0.3 * (along**bend - lost[:, 1])
    return {str(number): (float(text[number]), float(image[number])) for number in range(count)}


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_without_noise_the_search_finds_the_choice_of_the_whole_grid(weight: float) -> None:
    for seed in range(200):
        points = trade(seed)
        assert searched(points, weight) == balanced(points, weight)


def test_the_ends_of_the_front_stay_to_the_last() -> None:
    points = trade(0)
    for count in (54, 20, 7):
        some = dict(list(points.items())[:count])
        kept = better_half(some, 0.5, widths(points))
        best = front(some)
        assert {best[0], best[-1]} <= set(kept)
        assert len(kept) == max(3, count // 2)
        assert len(set(kept)) == len(kept)


def test_ties_and_few_candidates_are_kept() -> None:
    same = dict.fromkeys("abcdefgh", (0.3, 0.5))
    assert better_half(same, 0.5, (1.0, 1.0))[0] == "a"
    assert sorted(better_half({"a": (0.1, 0.2), "b": (0.2, 0.1)}, 0.5, (1.0, 1.0))) == ["a", "b"]
