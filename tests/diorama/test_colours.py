"""Colour conversions against published numbers."""

import numpy as np
import pytest

from samecast.diorama import colours

# Sharma, Wu and Dalal (2005), table 1: pairs chosen to catch wrong hue arithmetic.
SHARMA = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 3.1571, -77.2803), (50.0, 0.0, -82.7485), 2.8615),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0009), 7.1792),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0011), 7.2195),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0011, -2.4900), 4.7461),
    ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "difference"), SHARMA)
def test_ciede2000_agrees_with_the_published_pairs(first, second, difference):
    assert colours.ciede2000(first, second) == pytest.approx(difference, abs=1e-4)
    assert colours.ciede2000(second, first) == pytest.approx(difference, abs=1e-4)


def test_lab_of_srgb_white_and_of_pure_red():
    assert colours.lab_from_srgb([1.0, 1.0, 1.0]) == pytest.approx([100, 0, 0], abs=1e-3)
    assert colours.lab_from_srgb([1.0, 0.0, 0.0]) == pytest.approx([53.24, 80.09, 67.20], abs=0.02)


def test_conversions_undo_each_other():
    rgb = np.random.default_rng(0).uniform(size=(200, 3))
    assert colours.linear_from_srgb(colours.srgb_from_linear(rgb)) == pytest.approx(rgb, abs=1e-9)
    assert colours.linear_from_lab(colours.lab_from_linear(rgb)) == pytest.approx(rgb, abs=1e-9)


def test_every_prototype_has_its_own_word_and_lies_inside_it():
    for word, lab in zip(colours.COLOUR_WORDS, colours.PROTOTYPE_LABS, strict=True):
        assert colours.colour_word(lab) == word
        assert colours.word_margin(lab) > 8
