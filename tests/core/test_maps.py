import pytest
import torch

from samecast.core.layers import Layer
from samecast.core.maps import combine_maps, normalise, otsu, probabilities, threshold_of
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError


def layers(finest: int) -> tuple[Layer, ...]:
    return tuple(Layer(f"up.{at}", at, "cross", "up", finest // part, 8) for at, part in enumerate((8, 4, 2, 1)))


def test_maps_over_all_tokens_sum_to_1() -> None:
    torch.manual_seed(0)
    found = probabilities(torch.randn(2, 3, 16, 8), torch.randn(2, 3, 77, 8))
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 16))


def test_probabilities_are_the_softmax_averaged_over_heads() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(1, 2, 4, 8), torch.randn(1, 2, 5, 8)
    expected = torch.zeros(4, 5)
    for head in range(2):
        weight = (query[0, head] @ key[0, head].T / 8**0.5).exp()
        expected += weight / weight.sum(1, keepdim=True) / 2
    torch.testing.assert_close(probabilities(query, key)[0], expected)


def test_combining_averages_tokens_and_layers_at_the_finest_resolution() -> None:
    coarse, fine = torch.zeros(4, 3), torch.zeros(16, 3)
    coarse[:, 1], fine[:, 2] = 0.4, 0.8
    torch.testing.assert_close(combine_maps([coarse, fine], [1, 2]), torch.full((4, 4), (0.2 + 0.4) / 2))


def test_normalising_spans_0_to_1_and_refuses_a_constant() -> None:
    values = normalise(torch.tensor([[0.2, 0.3], [0.4, 0.2]]), "'dog'")
    torch.testing.assert_close(values, torch.tensor([[0.0, 0.5], [1.0, 0.0]]))
    with pytest.raises(SamecastError, match=r"'dog' is 0\.013 everywhere"):
        normalise(torch.full((4, 4), 1 / 77), "'dog'")


def test_otsu_parts_two_groups_in_the_middle_of_their_gap() -> None:
    values = torch.cat([torch.full((12,), 0.1), torch.full((4,), 0.9)]).reshape(4, 4)
    assert otsu(values) == pytest.approx(0.5, abs=0.01)
    assert threshold_of(values, "otsu") == otsu(values)
    assert threshold_of(values, 0.1) == 0.1


def test_otsu_is_the_split_of_the_largest_variance_between_classes() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(20, 20, generator=generator) ** 2

    def between(threshold: float) -> float:
        low, high = values[values < threshold], values[values >= threshold]
        return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)

    best = max(between(step / 256) for step in range(1, 256) if (values < step / 256).any())
    assert between(otsu(values)) == pytest.approx(best, rel=1e-3)


def test_the_default_layers_are_masactrls_or_the_two_finest() -> None:
    assert SubjectTokens().selector(layers(64)) == "@1/4"
    assert SubjectTokens().selector(layers(32)) == "@1/1,@1/2"
    assert SubjectTokens(layers="mid").selector(layers(32)) == "mid"


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(SamecastError, match="threshold must be between 0 and 1"):
        SubjectTokens(threshold=threshold)
