"""What the world promises: repeatable specs, honest captions, exact masks."""

from dataclasses import replace

import numpy as np
import pytest

from samecast.diorama import captions, scenes
from samecast.diorama.bodies import build
from samecast.diorama.colours import ciede2000
from samecast.diorama.march import bounding_box, distance
from samecast.diorama.renderer import render, render_duo, render_many
from samecast.diorama.scenes import (
    ANIMALS,
    BACKGROUNDS,
    CLASSES,
    POSES,
    VIEWS,
    Duo,
    Scene,
    Spec,
    sample_duo,
    sample_spec,
)
from samecast.diorama.sheet import contact_sheet


def specs(count):
    return [sample_spec(seed) for seed in range(count)]


def test_a_seed_gives_the_same_spec_and_another_seed_another():
    assert sample_spec(7) == sample_spec(7)
    assert len({repr(spec) for spec in specs(50)}) == 50


def test_a_spec_gives_the_same_pixels_in_any_thread():
    first = [picture.image for picture in render_many(specs(6), 48, threads=1)]
    again = [picture.image for picture in render_many(specs(6), 48, threads=3)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("size", [8, 33, 96])
def test_a_picture_has_the_size_asked_for(size):
    picture = render(sample_spec(1), size)
    assert picture.image.shape == (size, size, 3)
    assert picture.mask.shape == (size, size)


def test_sizes_agree_on_what_they_show():
    small, large = render(sample_spec(4), 32), render(sample_spec(4), 128)
    shrunk = large.image.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 6
    assert np.mean(large.mask) == pytest.approx(np.mean(small.mask), abs=0.02)


@pytest.mark.parametrize(("size", "supersampling"), [(4, 2), (64, 0)])
def test_impossible_sizes_are_refused(size, supersampling):
    with pytest.raises(ValueError, match="at least"):
        render(sample_spec(0), size, supersampling)


def test_the_mask_is_where_a_subjects_colours_make_a_difference():
    spec = sample_spec(3)
    other = replace(spec, identity=replace(spec.identity, base=(70.0, 60.0, -40.0), second=(20.0, 0.0, 30.0)))
    first, second = render(spec, 96, 1), render(other, 96, 1)
    changed = np.any(first.image != second.image, axis=-1)
    assert np.array_equal(first.mask, second.mask)
    assert changed[first.mask].mean() > 0.8
    assert not changed[~first.mask].any() or spec.scene.background == "lake"


def test_a_mirrored_spec_is_the_mirrored_picture_but_for_phases():
    for spec in [spec for spec in specs(60) if spec.identity.pattern == "plain"][:8]:
        plain, mirrored = render(spec, 64), render(spec.mirrored(), 64)
        overlap = (plain.mask & mirrored.mask[:, ::-1]).sum() / (plain.mask | mirrored.mask[:, ::-1]).sum()
        assert overlap > 0.9
        assert spec.mirrored().mirrored() == spec


@pytest.mark.parametrize("kind", CLASSES)
def test_every_subject_stands_on_the_ground_and_in_the_frame(kind):
    rng = np.random.default_rng(5)
    for pose in POSES if kind in ANIMALS else ("",):
        for _ in range(6):
            identity = scenes.sample_identity(rng, kind)
            parts = build(identity, pose)
            low, high = bounding_box(parts)[:3], bounding_box(parts)[3:]
            assert -0.15 < low[2] < 0.16 or pose == "running"
            assert 0.3 < high[2] < 1.6
            for view in VIEWS:
                mask = render(Spec(identity, Scene(pose, view, "grass")), 48, 1).mask
                assert 0.02 < mask.mean() < 0.5


def test_distance_is_positive_outside_and_negative_inside():
    parts = build(scenes.sample_identity(np.random.default_rng(0), "mug"), "")
    assert distance(parts, 0.0, 0.0, 5.0) > 3
    assert distance(parts, 0.0, 0.0, 0.05) < 0


def test_colours_of_an_identity_can_be_told_apart():
    for spec in specs(300):
        assert ciede2000(spec.identity.base, spec.identity.second) >= 30
        assert spec.identity.kind in ANIMALS or spec.identity.accessory == "none"
        assert bool(spec.scene.pose) == (spec.identity.kind in ANIMALS)


def test_every_value_of_every_attribute_is_drawn():
    drawn = specs(600)
    assert {spec.identity.kind for spec in drawn} == set(CLASSES)
    assert {spec.identity.pattern for spec in drawn} == set(scenes.PATTERNS)
    assert {spec.identity.accessory for spec in drawn} == set(scenes.ACCESSORIES)
    assert {spec.scene.background for spec in drawn} == set(BACKGROUNDS)
    assert {spec.scene.pose for spec in drawn} == {*POSES, ""}


def test_a_caption_states_only_facts_and_says_what_it_states():
    rng = np.random.default_rng(1)
    for spec in specs(300):
        data, truth = captions.caption(spec, rng), captions.facts(spec)
        assert data.states.items() <= truth.items()
        for name in ("kind", "colour", "pattern", "pose"):
            if name in data.states:
                assert data.states[name] in data.text.replace(",", "").split()
        if "background" in data.states:
            assert any(words in data.text for words in captions.BACKGROUND_PHRASES[data.states["background"]])


def test_a_bare_noun_says_nothing_of_what_a_subject_wears():
    rng = np.random.default_rng(3)
    bare: dict[bool, list[bool]] = {True: [], False: []}
    for spec in specs(300) * 40:
        wears = spec.identity.accessory != "none"
        bare[wears].append(not captions.caption(spec, rng).states.keys() & set(captions.LOOKS))
    shares = {wears: np.mean(data) for wears, data in bare.items()}
    assert shares[True] == pytest.approx(0.12, abs=0.015)
    assert shares[False] == pytest.approx(0.12, abs=0.015)


def test_captions_leave_everything_but_the_class_out_at_times():
    rng = np.random.default_rng(2)
    stated = [set(captions.caption(spec, rng).states) for spec in specs(400)]
    for name in ("colour", "pattern", "pose", "view", "background"):
        assert 0.3 < np.mean([name in each for each in stated]) < 0.95
    assert all("kind" in each for each in stated)


def test_wording_is_plain_english():
    assert captions.phrase({"kind": "dog", "colour": "orange", "pattern": "striped", "accessory": "hat"}) == (
        "an orange striped dog wearing a hat"
    )
    assert (
        captions.phrase({"kind": "mug", "background": "room", "view": "left"}) == "a mug in a room, seen from the left"
    )


def test_a_sheet_has_its_shape_and_refuses_to_be_empty():
    assert contact_sheet(seed=1, size=16, columns=3, rows=2).shape == (32, 48, 3)
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet(columns=0)


def test_a_duo_shows_each_subject_in_its_half_whoever_stands_in_the_other():
    for seed in range(6):
        duo, next_one = sample_duo(seed), sample_duo(seed + 50)
        scene = replace(duo.left.scene, pose=next_one.right.scene.pose, view=next_one.right.scene.view)
        other = Duo(duo.left, Spec(next_one.right.identity, scene))
        first, second = render_duo(duo, 48), render_duo(other, 48)
        assert first.image.shape == (48, 96, 3)
        assert duo.left.identity.kind != duo.right.identity.kind
        assert first.mask[:, :48].any()
        assert first.mask[:, 48:].any()
        left = np.array(np.nonzero(first.mask)[1] < 48)
        assert np.array_equal(first.image[first.mask][left], second.image[first.mask][left])


def test_a_duos_scene_goes_through_both_halves():
    """No seam: beside the middle, neighbours differ no more than further off."""
    for seed in range(12):
        picture = render_duo(sample_duo(seed), 64)
        steps = np.abs(np.diff(picture.image.astype(int), axis=1)).sum(-1)
        bare = ~(picture.mask[:, 1:] | picture.mask[:, :-1])
        seam = steps[:, 63][bare[:, 63]]
        assert seam.mean() <= np.percentile(steps[bare], 99) + 1


def test_a_duo_stands_in_one_scene():
    duo = sample_duo(3)
    elsewhere = replace(duo.right, scene=replace(duo.right.scene, distance=duo.left.scene.distance / 2))
    with pytest.raises(ValueError, match="distance"):
        Duo(duo.left, elsewhere)
    assert duo.mirrored().mirrored() == duo
    assert duo.mirrored().left.identity == duo.right.identity


def test_a_duos_caption_names_both_from_left_to_right():
    rng = np.random.default_rng(4)
    for seed in range(60):
        duo = sample_duo(seed)
        words = captions.duo_caption(duo, rng)
        assert words.index(f"{duo.left.identity.kind}") < words.index(" and ") < words.index(duo.right.identity.kind)
    assert captions.duo_phrase({"kind": "dog", "background": "snow"}, {"kind": "mug", "pattern": "striped"}) == (
        "a dog and a striped mug in the snow"
    )
