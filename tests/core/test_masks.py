import pytest
import torch

from samecast.core.masks import SubjectMask, dropped, open_empty, resize_map, separate


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
        torch.testing.assert_close(resize_map(torch.full((8, 8), 0.7), side), torch.full((side, side), 0.7))


def test_tokens_that_make_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="no square"):
        SubjectMask(torch.ones(4, 4)).tokens(12)


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
