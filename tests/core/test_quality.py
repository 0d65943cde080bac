import math

import numpy as np
import pytest
from PIL import Image

from samecast.core.quality import peak_signal_to_noise, structural_similarity


def pictures(seed: int = 0, side: int = 24) -> tuple[Image.Image, Image.Image]:
    generator = np.random.default_rng(seed)
    first = generator.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
    noisy = np.clip(first + generator.normal(0, 25, first.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(first), Image.fromarray(noisy)


def windows(first: np.ndarray, second: np.ndarray) -> float:
    """SSIM as its paper states it, window by window."""
    at = np.arange(11) - 5
    weight = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for channel in range(3):
        one, two = first[..., channel].astype(float), second[..., channel].astype(float)
        for top in range(one.shape[0] - 10):
            for left in range(one.shape[1] - 10):
                a, b = (part[top : top + 11, left : left + 11] for part in (one, two))
                mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
                var_a, var_b = (weight * (a - mean_a) ** 2).sum(), (weight * (b - mean_b) ** 2).sum()
                both = (weight * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 6.5025)
                    * (2 * both + 58.5225)
                    / ((mean_a**2 + mean_b**2 + 6.5025) * (var_a + var_b + 58.5225))
                )
    return float(np.mean(values))


def test_ssim_is_that_of_its_paper() -> None:
    first, second = pictures()
    expected = windows(np.asarray(first), np.asarray(second))
    assert structural_similarity(first, second) == pytest.approx(expected, rel=1e-9)
    assert 0.3 < expected < 0.99


def test_equal_pictures_are_as_close_as_can_be() -> None:
    first, _ = pictures()
    assert structural_similarity(first, first) == pytest.approx(1)
    assert peak_signal_to_noise(first, first) == math.inf


def test_ssim_sees_lost_structure_where_psnr_is_the_same() -> None:
    ramp = np.tile(np.linspace(40, 200, 32), (32, 1)) + 20 * (np.indices((32, 32)).sum(0) % 2)
    shifted = ramp + 10
    scrambled = ramp + 10 * np.where(np.random.default_rng(0).random((32, 32)) < 0.5, 1, -1)
    image, brighter, noisy = (
        Image.fromarray(values.round().astype(np.uint8)).convert("RGB") for values in (ramp, shifted, scrambled)
    )
    assert peak_signal_to_noise(image, brighter) == pytest.approx(peak_signal_to_noise(image, noisy), abs=0.2)
    assert structural_similarity(image, brighter) > structural_similarity(image, noisy) + 0.02


def test_a_picture_smaller_than_the_window_is_refused() -> None:
    small = Image.new("RGB", (10, 30))
    with pytest.raises(ValueError, match="sides of 11 pixels"):
        structural_similarity(small, small)
