"""Pictures that are not square: against stock diffusers, and wherever a size is used."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

import samecast as sc
from samecast.core.noise import seeded_noise
from samecast.engine.prepare import size_of
from samecast.photos import nearest_shape
from samecast.records import read_record, save_run
from samecast.render.job import Job
from samecast.render.request import Request
from tests.conftest import make_scheduler

STEPS = 4
QUICK = sc.RenderSettings(num_inference_steps=STEPS, guidance_scale=7.5)
FRESH = replace(QUICK, init="noise")
PROMPTS = ["a dog running", "a dog asleep"]


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), class_noun="dog")  # 128 x 96


def same(one: Image.Image, two: Image.Image) -> bool:
    return one.size == two.size and int(np.abs(np.asarray(one, np.int16) - np.asarray(two, np.int16)).max()) <= 1


@pytest.mark.parametrize(("height", "width"), [(32, 96), (64, 32), (40, 56)])
@pytest.mark.parametrize("directory", ["tiny_pipeline_dir", "tiny_xl_dir"])
def test_without_rules_pictures_are_stock_diffusers(
    directory: str, height: int, width: int, request: pytest.FixtureRequest
) -> None:
    model = sc.load(request.getfixturevalue(directory), device="cpu")
    pipeline = model.backbone.pipeline  # type: ignore[attr-defined]
    pipeline.scheduler = make_scheduler()
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.stack([seeded_noise((4, height // 4, width // 4), 0)] * 2)
    expected = pipeline(
        PROMPTS, num_inference_steps=STEPS, guidance_scale=7.5, latents=latents, height=height, width=width
    ).images
    found = model.render(None, PROMPTS, rules=(), settings=replace(FRESH, height=height, width=width))
    assert all(same(one.image, two) for one, two in zip(found.renders, expected, strict=True))


@pytest.mark.parametrize(
    ("width", "height", "side", "multiple", "expected"),
    [
        (1000, 1000, 512, 64, (512, 512)),
        (4000, 3000, 512, 64, (448, 576)),
        (3000, 4000, 512, 64, (576, 448)),
        (1920, 1080, 1024, 32, (768, 1376)),
        (400, 300, 128, 16, (112, 144)),
        (16, 16, 768, 64, (768, 768)),
    ],
)
def test_a_photos_shape_comes_to_multiples_at_about_the_models_area(
    width: int, height: int, side: int, multiple: int, expected: tuple[int, int]
) -> None:
    assert nearest_shape(width, height, side=side, multiple=multiple) == expected


@pytest.mark.parametrize("width", [300, 333, 401, 640, 1200, 2999])
@pytest.mark.parametrize(("side", "multiple"), [(512, 64), (1024, 32), (128, 16)])
def test_shape_and_area_are_near_and_turned_photos_are_turned(width: int, side: int, multiple: int) -> None:
    high, wide = nearest_shape(width, 300, side=side, multiple=multiple)
    assert (wide, high) == nearest_shape(300, width, side=side, multiple=multiple)
    assert high % multiple == wide % multiple == 0
    assert abs(math.log(wide * high / side**2)) < math.log(1.5)
    assert abs(math.log(wide / high * 300 / width)) < math.log(1.25)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (56, 72)),
        ({"fit": "crop"}, (64, 64)),
        ({"fit": "pad"}, (64, 64)),
        ({"height": 96}, (96, 128)),
        ({"width": 96}, (72, 96)),
        ({"height": 32, "width": 80}, (32, 80)),
        ({"height": 32, "width": 80, "fit": "pad"}, (32, 80)),
        ({"height": 32, "fit": "crop"}, (32, 64)),
    ],
    ids=str,
)
def test_settings_and_photo_tell_the_size(
    model: sc.Model, subject: sc.Subject, given: dict[str, Any], expected: tuple[int, int]
) -> None:
    settings = replace(QUICK, **given)
    assert size_of(model.backbone, settings, (128, 96)) == expected
    job = Job(model.backbone, Request(subject, PROMPTS, sc.masactrl(1), settings), None)
    assert (job.pictures.height, job.pictures.width) == expected
    assert [each.size for each in job.pictures.references] == [expected[::-1]]


def test_a_photo_turned_by_its_exif_keeps_the_shape_it_shows(model: sc.Model, photo: Image.Image) -> None:
    turned = photo.copy()
    turned.getexif()[0x0112] = 6  # shown a quarter turned
    settings = Request(sc.Subject((turned,)), PROMPTS, sc.masactrl(1), QUICK)
    assert Job(model.backbone, settings, None).pictures.references[0].size == (56, 72)


def test_a_photo_keeps_its_shape_through_pictures_source_and_record(
    model: sc.Model, subject: sc.Subject, tmp_path: Path
) -> None:
    rules = sc.masactrl_auto_masked(2, layers="all", tokens=sc.SubjectTokens("dog", "@1/2"))
    found = model.render(subject, PROMPTS, rules=rules, settings=replace(QUICK, check_inversion=True))
    images = [*found.references, *found.sources, *(render.image for render in found.renders)]
    assert {image.size for image in images} == {(72, 56)}
    assert {mask.mask.size for mask in found.found_masks} == {mask.map.size for mask in found.found_masks} == {(72, 56)}
    plain = model.render(subject, PROMPTS, rules=(), settings=QUICK)
    assert not same(found.renders[0].image, plain.renders[0].image)
    assert (found.provenance["height"], found.provenance["width"]) == (56, 72)
    record = read_record(save_run(found, tmp_path / "run"))
    settings = sc.RenderSettings(**record.provenance["settings"])
    again = model.render(sc.Subject(record.references, "dog"), PROMPTS, rules=rules, settings=settings)
    assert [render.image for render in again.renders] == [render.image for render in found.renders]


def test_several_references_take_the_first_ones_shape(model: sc.Model, photo: Image.Image) -> None:
    subject = sc.Subject((photo, photo.rotate(90, expand=True), photo.crop((0, 0, 96, 96))), class_noun="dog")
    found = model.render(subject, PROMPTS[:1], settings=QUICK, rules=sc.masactrl(1))
    assert [each.size for each in found.references] == [(72, 56)] * 3
    assert found.renders[0].image.size == (72, 56)


def half(size: tuple[int, int], left: bool = True) -> Image.Image:
    """A mask that is white in its left or upper half."""
    image = Image.new("L", size)
    image.paste(255, (0, 0, size[0] // 2, size[1]) if left else (0, 0, size[0], size[1] // 2))
    return image


@pytest.mark.parametrize("left", [True, False])
def test_given_masks_lie_where_they_are_given_at_every_layer(model: sc.Model, photo: Image.Image, left: bool) -> None:
    """The picture is 96 x 64 with layers of 24 x 16, 12 x 8, 6 x 4 and 3 x 2 tokens, whose halves are told by hand."""
    subject = sc.Subject((photo,), "dog", masks=(half((128, 96), left),))
    settings = replace(QUICK, height=64, width=96)
    request = Request(subject, PROMPTS[:1], sc.masactrl_masked(1), settings, (half((96, 64), left),))
    masks = Job(model.backbone, request, None).given_masks
    assert len(masks) == 2
    for mask in masks.values():
        for high, wide in ((16, 24), (8, 12), (4, 6)):
            expected = np.zeros((high, wide), bool)
            expected[(slice(None), slice(0, wide // 2)) if left else slice(0, high // 2)] = True
            assert np.array_equal(mask.tokens(high * wide).reshape(high, wide).numpy(), expected)


@pytest.mark.parametrize("sides", [(36, 52), (64, 96), (40, 64)])
def test_memory_is_what_is_kept(model: sc.Model, subject: sc.Subject, sides: tuple[int, int]) -> None:
    settings = replace(QUICK, height=sides[0], width=sides[1])
    job = Job(model.backbone, Request(subject, PROMPTS, sc.masactrl(0, layers="all"), settings), None)
    with torch.inference_mode(), job.session:
        _, trajectory = job._make_sources()
    kept = trajectory.kept.values()  # type: ignore[union-attr]
    held = sum(part.nbytes for layers in kept for states in layers.values() for part in states.values())
    assert held == job.prepared.keeping.kept > 0


@pytest.mark.parametrize("rules", [sc.masactrl(1, layers="all"), None], ids=["read", "masked"])
def test_photos_in_stock_pipelines_take_the_calls_shape(
    model: sc.Model, subject: sc.Subject, rules: sc.Rules | None
) -> None:
    """A stock pipeline that reads a photo makes the pictures of our own loop, masks found in maps included."""
    if rules is None:
        rules = sc.masactrl_auto_masked(2, layers="all", tokens=sc.SubjectTokens("dog", "@1/1,@1/2"))
    settings = replace(FRESH, height=40, width=64, fit="crop")
    expected = model.render(subject, PROMPTS, rules=rules, settings=settings)
    pipeline = model.backbone.pipeline  # type: ignore[attr-defined]
    before, pipeline.scheduler = pipeline.scheduler, DDIMScheduler.from_config(make_scheduler().config)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.stack([seeded_noise((4, 10, 16), 0)] * 2)
    try:
        with torch.inference_mode(), sc.attach(pipeline, rules, sources=subject.references[0], class_noun="dog"):
            images = pipeline(
                PROMPTS, num_inference_steps=STEPS, guidance_scale=7.5, latents=latents, height=40, width=64
            ).images
    finally:
        pipeline.scheduler = before
    assert all(same(one.image, two) for one, two in zip(expected.renders, images, strict=True))
    plain = model.render(subject, PROMPTS, rules=(), settings=settings)
    assert not same(plain.renders[0].image, images[0])


def test_masks_are_looked_for_in_the_photos_shape(model: sc.Model, subject: sc.Subject) -> None:
    search = model.find_masks(subject, settings=QUICK)
    assert [each.size for each in (*search.references, search.masks[0].mask, search.masks[0].map)] == [(72, 56)] * 3


@pytest.mark.parametrize("fit", ["keep", "pad"])
def test_a_study_makes_the_pictures_that_a_render_makes(
    model: sc.Model, photo: Image.Image, fit: Any, tmp_path: Path
) -> None:
    from samecast.study.binding import orders_of
    from samecast.study.grid import Grid, Variant
    from samecast.study.job import prepare, run_study
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.unit import ExecutionConfig

    rules = sc.masactrl_auto_masked(2, layers="all", tokens=sc.SubjectTokens("dog", "@1/2"))
    grid = Grid((Variant("masked", {}, rules), Variant("plain", {}, sc.masactrl(1))), ())
    recipe = Recipe(
        grid, replace(QUICK, fit=fit), str(model.backbone.identity.id), "", "", photos="each", clip="diorama"
    )
    subject = StudySubject("rex", tuple(PROMPTS[:1]), (photo, photo.rotate(90, expand=True)), "dog")
    study, recipe = prepare(tmp_path / "study", recipe, [subject], model.backbone)
    ran = run_study(study, ExecutionConfig(study.path), backbone=model.backbone)
    assert (sum(tally.made for tally in ran.tallies), ran.failed) == (4, 0)
    sizes: set[tuple[int, int]] = set()
    for order in orders_of(recipe, next(iter(study.subjects()))):  # type: ignore[arg-type]
        photos = tuple(subject.references[number] for number in order.numbers)
        alone = model.render(
            sc.Subject(photos, "dog"), PROMPTS[:1], rules=order.variant.rules, settings=replace(QUICK, fit=fit)
        )
        assert same(study.picture(order.key), alone.renders[0].image)
        sizes.add(study.picture(order.key).size)
    assert sizes == ({(72, 56), (56, 72)} if fit == "keep" else {(64, 64)})


def test_the_embedded_model_keeps_a_wide_photos_shape_and_subject() -> None:
    """A 4:3 photo of a benchmark's dog: inverted and replayed as well as the autoencoder allows, and found in it."""
    from samecast.diorama.benchmark import case

    drawn = case(0).photos(256)[0]
    photo = Image.fromarray(drawn.image).crop((0, 32, 256, 224))
    truth = Image.fromarray(drawn.mask).crop((0, 32, 256, 224))
    model = sc.load()
    noun = case(0).noun
    search = model.find_masks(sc.Subject((photo,), noun), settings=sc.RenderSettings(num_inference_steps=20))
    found = search.masks[0].mask
    assert search.references[0].size == found.size == (144, 112)
    one, two = np.asarray(found) >= 128, np.asarray(truth.resize(found.size)).astype(bool)
    assert (one & two).sum() / (one | two).sum() > 0.4
    result = model.render(
        sc.Subject((photo,), noun), [f"a photo of a {noun}"], settings=sc.RenderSettings(num_inference_steps=20)
    )
    assert result.renders[0].image.size == (144, 112)
    assert result.source_psnr is not None
    assert result.source_psnr > 20
