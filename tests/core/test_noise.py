import pytest
import torch

from samecast.core.noise import seeded_noise, spherical_blend

SHAPE = (4, 16, 16)


def test_noise_is_what_diffusers_draws_for_one_image() -> None:
    from diffusers.utils.torch_utils import randn_tensor

    expected = randn_tensor((1, *SHAPE), generator=torch.Generator("cpu").manual_seed(7), dtype=torch.float32)
    assert torch.equal(seeded_noise(SHAPE, 7), expected[0])


def test_blend_is_exact_at_both_ends() -> None:
    first, second = seeded_noise(SHAPE, 0), seeded_noise(SHAPE, 1)
    assert torch.equal(spherical_blend(first, second, 0.0), first)
    assert torch.equal(spherical_blend(first, second, 1.0), second)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_blend_of_noises_keeps_unit_variance(share: float) -> None:
    blended = spherical_blend(seeded_noise(SHAPE, 0), seeded_noise(SHAPE, 1), share)
    # A straight line at 0.5 would give 0.71; 1024 samples scatter by 0.02.
    assert blended.std().item() == pytest.approx(1, abs=0.05)


def test_blend_with_itself_is_itself() -> None:
    noise = seeded_noise(SHAPE, 0)
    torch.testing.assert_close(spherical_blend(noise, noise, 0.3), noise)
