import pytest
import torch

from samecast.core.masks import SubjectMask, dropped, grid_of, open_empty, resize_map, separate


def test_a_mask_of_the_wanted_size_is_binarised_at_its_threshold() -> None:
    values = torch.tensor([[0.0, 0.1], [0.09, 1.0]])
    assert SubjectMask(values, 0.1).tokens(4).tolist() == [False, True, False, True]
    assert SubjectMask(values).tokens(4).tolist() == [False, False, False, True]


def test_a_coarse_token_belongs_to_what_covers_most_of_it() -> None:
    values = torch.zeros(8, 8)
    values[:, :4] = 1
    assert SubjectMask(values).tokens(16).tolist() == [True, True, False, False] * 4
    assert SubjectMask(values).tokens(4).tolist() == [True, False] * 2


def test_resizing_keeps_a_constant_constant() -> None:
    for side in (3, 8, 20):
        torch.testing.assert_close(resize_map(torch.full((8, 8), 0.7), (side, 5)), torch.full((side, 5), 0.7))


@pytest.mark.parametrize(
    ("count", "aspect", "grid"),
    [(16, 1.0, (4, 4)), (12, 1.5, (3, 4)), (12, 0.7, (4, 3)), (24, 1.5, (4, 6)), (24, 6.0, (2, 12)), (7, 1.0, (1, 7))],
)
def test_tokens_lie_on_the_grid_that_is_nearest_to_the_pictures_shape(
    count: int, aspect: float, grid: tuple[int, int]
) -> None:
    found = grid_of(count, aspect)
    assert found == grid or (aspect == 1.0 and found == grid[::-1])


def test_a_mask_of_a_rectangle_keeps_its_shape() -> None:
    values = torch.zeros(8, 16)
    values[:, :4] = 1
    assert SubjectMask(values).tokens(32).tolist() == [True, True, *[False] * 6] * 4
    assert SubjectMask(values).blank == {}


def test_separate_lets_like_read_like_and_opens_what_is_empty() -> None:
    query, keys = torch.tensor([True, False]), torch.tensor([True, False, True])
    assert separate(query, keys).tolist() == [[True, False, True], [False, True, False]]
    assert separate(query, torch.ones(3, dtype=torch.bool)).tolist() == [[True] * 3, [True] * 3]


def test_open_empty_leaves_rows_with_keys_alone() -> None:
    table = torch.tensor([[False, True], [False, False]])
    assert open_empty(table).tolist() == [[False, True], [True, True]]


def test_dropout_is_repeatable_and_of_the_share_asked_for() -> None:
    assert torch.equal(dropped(1000, 0.3, 5), dropped(1000, 0.3, 5))
    assert not torch.equal(dropped(1000, 0.3, 5), dropped(1000, 0.3, 6))
    assert dropped(100_000, 0.3, 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert not dropped(10, 0.0, 0).any()
