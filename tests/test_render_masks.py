"""Rendering with several references, with given masks, and with targets that read each other."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.rule_files import rules_from_data

STEPS = 5
QUICK = sc.RenderSettings(num_inference_steps=STEPS)
FRESH = sc.RenderSettings(num_inference_steps=STEPS, init="noise")
PROMPTS = ["a dog running", "a dog asleep", "a dog"]
# Batch shape changes rounding (about 1e-6 per call), which may tip an 8-bit value over.
ONE_LEVEL = 1


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def other(photo: Image.Image) -> Image.Image:
    return photo.rotate(180)


def half(photo: Image.Image, *, left: bool = True) -> Image.Image:
    """A mask of the left or right half of the photo, widened a little."""
    mask = Image.new("L", photo.size, 0)
    middle = photo.width // 2 + 8
    mask.paste(255, (0, 0, middle, photo.height) if left else (middle, 0, photo.width, photo.height))
    return mask


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image, dtype=np.int16)


def largest_difference(left: sc.RenderResult, right: sc.RenderResult) -> int:
    return max(
        int(np.abs(pixels(one.image) - pixels(two.image)).max())
        for one, two in zip(left.renders, right.renders, strict=True)
    )


def test_all_references_are_read(model: sc.Model, photo: Image.Image, other: Image.Image) -> None:
    one, two, swapped = (
        model.render(sc.Subject(photos), PROMPTS[:1], rules=sc.masactrl(2, layers="all"), settings=FRESH)
        for photos in ((photo,), (photo, other), (other, photo))
    )
    assert largest_difference(one, two) > ONE_LEVEL
    # From noise the order of the references is of no account.
    assert largest_difference(two, swapped) <= ONE_LEVEL
    assert [image.tobytes() for image in two.references] == [image.tobytes() for image in swapped.references[::-1]]
    assert np.array_equal(pixels(one.sources[0]), pixels(two.sources[0]))


@pytest.mark.parametrize("references", [1, 3])
def test_r_references_and_n_targets_of_50_steps_take_50_r_and_100_n_evaluations(
    model: sc.Model, photo: Image.Image, references: int
) -> None:
    subject = sc.Subject(tuple(photo.rotate(90 * number) for number in range(references)))
    out = model.render(subject, PROMPTS[:2], settings=sc.RenderSettings(num_inference_steps=50))
    assert out.evaluations == 50 * references + 100 * 2


def test_chunks_of_references_and_targets_do_not_change_the_pictures(
    model: sc.Model, photo: Image.Image, other: Image.Image
) -> None:
    subject = sc.Subject((photo, other, photo.rotate(90)))
    together = model.render(subject, PROMPTS, rules=sc.masactrl_union(0, layers="all"), settings=QUICK)
    apart = model.render(
        subject, PROMPTS, rules=sc.masactrl_union(0, layers="all"), settings=replace(QUICK, batch_rows=2)
    )
    assert largest_difference(together, apart) <= ONE_LEVEL
    assert max(map(int, apart.provenance["batch_shapes"])) == 2 + 3  # the sources of step 0 come on top


def test_given_masks_part_subject_and_background(model: sc.Model, photo: Image.Image) -> None:
    subject, masked = sc.Subject((photo,)), sc.Subject((photo,), masks=(half(photo),))
    plain = model.render(subject, PROMPTS[:2], rules=sc.masactrl(0, layers="all"), settings=QUICK)
    rules = sc.masactrl_masked(0, layers="all")
    left = model.render(masked, PROMPTS[:2], rules=rules, settings=QUICK, target_masks=[half(photo)])
    right = model.render(masked, PROMPTS[:2], rules=rules, settings=QUICK, target_masks=[half(photo, left=False)])
    assert largest_difference(plain, left) > ONE_LEVEL
    assert largest_difference(left, right) > ONE_LEVEL
    each = model.render(masked, PROMPTS[:2], rules=rules, settings=QUICK, target_masks=[half(photo)] * 2)
    assert largest_difference(left, each) == 0
    assert left.evaluations == plain.evaluations + 1  # at step 0 the source is no target's row any more


def test_each_picture_and_each_reference_has_its_own_mask(
    model: sc.Model, photo: Image.Image, other: Image.Image
) -> None:
    """Masks in the order of what they are of: two pictures at once are two alone, and swapping both swaps nothing."""
    rules, left, right = sc.masactrl_masked(1, layers="all"), half(photo), half(photo, left=False)
    corner = Image.new("L", photo.size, 0)
    corner.paste(255, (0, 0, photo.width // 2, photo.height // 2))

    def rendered(photos: Any, masks: Any, prompts: list[str], targets: Any) -> sc.RenderResult:
        subject = sc.Subject(photos, masks=masks)
        return model.render(subject, prompts, rules=rules, settings=FRESH, target_masks=targets)

    both = rendered((photo, other), (left, corner), PROMPTS[:2], [left, right])
    for number, target in enumerate((left, right)):
        alone = rendered((photo, other), (left, corner), [PROMPTS[number]], [target])
        assert np.abs(pixels(both.renders[number].image) - pixels(alone.renders[0].image)).max() <= ONE_LEVEL
    swapped = rendered((other, photo), (corner, left), PROMPTS[:2], [left, right])
    assert largest_difference(both, swapped) <= ONE_LEVEL
    for wrong in (
        rendered((photo, other), (corner, left), PROMPTS[:2], [left, right]),
        rendered((photo, other), (left, corner), PROMPTS[:2], [right, left]),
    ):
        assert largest_difference(both, wrong) > ONE_LEVEL


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_permuting_the_prompts_permutes_pictures_that_read_each_other(
    model: sc.Model, photo: Image.Image, dropout: float
) -> None:
    rules, masks = sc.consistory(1, layers="all", dropout=dropout), [half(photo), half(photo, left=False), half(photo)]
    order = [2, 0, 1]
    there, back = (
        model.render(
            None, [PROMPTS[n] for n in numbers], rules=rules, settings=FRESH, target_masks=[masks[n] for n in numbers]
        ).renders
        for numbers in ([0, 1, 2], order)
    )
    for at, number in enumerate(order):
        assert np.abs(pixels(back[at].image) - pixels(there[number].image)).max() <= ONE_LEVEL


def test_a_mask_may_be_a_tensor(model: sc.Model, photo: Image.Image) -> None:
    mask = torch.from_numpy(np.asarray(half(photo), dtype=np.float32) / 255)
    subject = sc.Subject((photo,), masks=(half(photo),))
    outs = [
        model.render(subject, PROMPTS[:1], rules=sc.masactrl_masked(2), settings=QUICK, target_masks=[target])
        for target in (half(photo), mask)
    ]
    assert largest_difference(*outs) == 0


def test_free_custom_weighs_the_references(model: sc.Model, photo: Image.Image, other: Image.Image) -> None:
    subject = sc.Subject((photo, other), masks=(half(photo), half(other, left=False)))
    light, heavy = (
        model.render(subject, PROMPTS[:1], rules=sc.free_custom(weight=weight), settings=FRESH) for weight in (1.0, 3.0)
    )
    assert largest_difference(light, heavy) > ONE_LEVEL


def test_style_aligned_takes_the_source_or_a_picture_as_its_anchor(model: sc.Model, photo: Image.Image) -> None:
    square = replace(FRESH, fit="crop")
    source = model.render(sc.Subject((photo,)), PROMPTS[:2], rules=sc.style_aligned(), settings=square)
    anchored = model.render(None, PROMPTS[:2], rules=sc.style_aligned(anchor=0), settings=FRESH)
    plain = model.render(None, PROMPTS[:2], rules=(), settings=FRESH)
    # The anchor reads itself; the other picture is changed.
    assert np.abs(pixels(anchored.renders[0].image) - pixels(plain.renders[0].image)).max() <= ONE_LEVEL
    assert np.abs(pixels(anchored.renders[1].image) - pixels(plain.renders[1].image)).max() > ONE_LEVEL
    assert largest_difference(source, anchored) > ONE_LEVEL


def test_consistory_shares_the_subject_among_pictures(model: sc.Model, photo: Image.Image) -> None:
    plain = model.render(None, PROMPTS, rules=(), settings=FRESH)
    full, dropped = (
        model.render(None, PROMPTS, rules=sc.consistory(dropout=share), settings=FRESH, target_masks=[half(photo)])
        for share in (0.0, 0.5)
    )
    assert largest_difference(plain, full) > ONE_LEVEL
    assert largest_difference(full, dropped) > ONE_LEVEL
    back = model.render(
        None, PROMPTS[::-1], rules=sc.consistory(dropout=0.0), settings=FRESH, target_masks=[half(photo)]
    )
    assert largest_difference(full, replace(back, renders=back.renders[::-1])) <= ONE_LEVEL


def test_pictures_that_read_each_other_stay_in_one_batch_or_say_its_size(model: sc.Model, photo: Image.Image) -> None:
    with pytest.raises(sc.SamecastError, match=r"one batch of 6 rows, more than the 4 allowed.* batch_rows=6"):
        model.render(
            None,
            PROMPTS,
            rules=sc.consistory(),
            settings=replace(FRESH, batch_rows=4),
            target_masks=[half(photo)],
        )


def test_a_masked_run_is_made_again_from_its_provenance(model: sc.Model, photo: Image.Image) -> None:
    subject = sc.Subject((photo,), masks=(half(photo),))
    rules = sc.masactrl_masked(2)
    first = model.render(subject, PROMPTS[:1], rules=rules, settings=QUICK, target_masks=[half(photo)])
    record = json.loads(json.dumps(first.provenance))
    assert rules_from_data(record["rules"]) == rules
    again = model.render(
        sc.Subject(first.references, masks=first.reference_masks),
        PROMPTS[:1],
        rules=rules,
        settings=QUICK,
        target_masks=first.target_masks,
    )
    assert largest_difference(first, again) == 0


@pytest.mark.parametrize(
    ("masks", "targets", "rules", "message"),
    [
        ("half", [], sc.masactrl_masked(2), "need masks of the pictures: give target_masks"),
        (None, ["half"], sc.masactrl_masked(2), "need masks of the references"),
        ("half", [], sc.masactrl(2), "masks of the references were given that no rule reads"),
        ("half", ["half"] * 3, sc.masactrl_masked(2), "2 prompts need one mask for all or as many masks; got 3"),
        ("black", ["half"], sc.masactrl_masked(2), "the mask of reference 1 is empty"),
        ("half", ["white"], sc.masactrl_masked(2), "the mask of prompt 1 is full"),
        ("tall", ["half"], sc.masactrl_masked(2), "must have the same proportions"),
    ],
)
def test_mistakes_about_masks_are_one_line(
    model: sc.Model, photo: Image.Image, masks: str | None, targets: list[str], rules: sc.Rules, message: str
) -> None:
    named = {
        "half": half(photo),
        "black": Image.new("L", photo.size, 0),
        "white": Image.new("L", photo.size, 255),
        "tall": half(photo).resize((64, 128)),
    }
    subject = sc.Subject((photo,), masks=() if masks is None else (named[masks],))
    with pytest.raises(sc.SamecastError, match=message) as caught:
        model.render(subject, PROMPTS[:2], rules=rules, settings=QUICK, target_masks=[named[name] for name in targets])
    assert "\n" not in str(caught.value)


def test_as_many_masks_as_references(photo: Image.Image) -> None:
    with pytest.raises(sc.SamecastError, match="2 references need one mask each; got 1"):
        sc.Subject((photo, photo), masks=(half(photo),))
