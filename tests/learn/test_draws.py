"""Samples follow from the seed and their number."""

from collections import Counter
from dataclasses import replace

import pytest

from samecast.errors import SamecastError
from samecast.learn.draws import Draws, Pictures
from samecast.learn.settings import LearnSettings, Method, default_settings

SETTINGS = LearnSettings()


def draws(settings: LearnSettings = SETTINGS, subjects: int = 1) -> Draws:
    return Draws(settings, [Pictures(5, 7)] * subjects, timesteps=1000, wordings=4)


def test_every_photo_is_shown_before_any_is_shown_again() -> None:
    shots = [draws().sample(number) for number in range(35)]
    for first in range(0, 35, 5):
        assert sorted(photo.picture for photo, _ in shots[first : first + 5]) == list(range(5))
    for first in range(0, 35, 7):
        assert sorted(pair[1].picture for pair in shots[first : first + 7]) == list(range(7))


def test_a_sample_depends_on_nothing_but_seed_and_number() -> None:
    forward = [draws().sample(number) for number in range(20)]
    assert [draws().sample(number) for number in reversed(range(20))] == forward[::-1]
    other = [draws(replace(SETTINGS, seed=1)).sample(number) for number in range(20)]
    assert all(mine != theirs for mine, theirs in zip(forward, other, strict=True))
    assert len({shot.noise_seed for pair in forward for shot in pair}) == 40


def test_subjects_take_turns() -> None:
    assert [draws(subjects=3).sample(number)[0].subject for number in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_key_names_one_view() -> None:
    for settings in (SETTINGS, replace(SETTINGS, views=3), replace(SETTINGS, augment="none")):
        shots = [shot for number in range(60) for shot in draws(settings).sample(number)]
        views: dict[object, object] = {}
        for shot in shots:
            assert shot.key is None or views.setdefault(shot.key, shot.view) == shot.view
        photos = {shot.key for shot in shots if not shot.of_class}
        expected = 5 * {0: 2, 3: 3}[settings.views] if settings.augment == "none" or settings.views else 1
        assert len(photos) == expected


def test_class_pictures_are_shown_as_they_are() -> None:
    pairs = [draws().sample(number) for number in range(60)]
    assert all(pair[1].of_class and pair[1].view.scale == 1 for pair in pairs)
    assert {pair[1].view.mirrored for pair in pairs} == {False, True}
    assert len(draws(replace(SETTINGS, prior_weight=0)).sample(0)) == 1


def test_timesteps_are_spread_evenly() -> None:
    tenths = Counter(draws().sample(number)[0].timestep // 100 for number in range(2000))
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 1.35 * min(tenths.values())


@pytest.mark.parametrize("method", ["custom-diffusion", "textual-inversion", "lora", "dreambooth"])
@pytest.mark.parametrize("embedded", [False, True])
def test_every_method_has_defaults(method: Method, embedded: bool) -> None:
    settings = default_settings(method, embedded=embedded)
    assert settings.method == method
    # The same photos are seen, on however many devices: twice as many subjects take twice as long.
    assert settings.steps_in_all(2, 1) == 2 * settings.steps_in_all(1, 1) == 4 * settings.steps_in_all(1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"steps": 0},
        {"learning_rate": -1.0},
        {"learning_rate": 0.0},
        {"token_rate": float("nan")},
        {"views": -1},
        {"seed": -1},
        {"rank": 0},
        {"method": "textual-inversion", "token_rate": 0.0},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SamecastError):
        LearnSettings(**wrong)  # pyright: ignore[reportArgumentType]
