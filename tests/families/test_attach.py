"""Control of the stock pipelines of transformers, by hooks: it is that of our own loop."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.models.base import ModelIdentity
from samecast.models.loading import adapt
from tests.families.conftest import KINDS
from tests.families.stock import call
from tests.families.test_stock_equality import SIZE, apart

STEPS = 3
TOLERANCE = 3e-4
PROMPTS = ["a photo of a dog", "a dog on the beach, blurry", "dog"]
ALL = sc.Rule(layers="all")
SEEDS = [3, 4, 5]


def guidance(family: str) -> float | None:
    """Small, so that differences stay as small as they are."""
    return None if family in ("schnell", "klein_distilled") else 1.5


def stock(pipeline: Any, family: str, prompts: list[str] = PROMPTS, **options: Any) -> np.ndarray:
    options = {"size": SIZE, "seeds": SEEDS[: len(prompts)], "steps": STEPS, "guidance": guidance(family)} | options
    return call(pipeline, family, prompts, **options)


def test_rows_of_the_batch_read_a_row(family: str, tiny: Any) -> None:
    pipeline = tiny(family)
    plain = stock(pipeline, family)
    with sc.attach(pipeline, ALL, sources=0, targets=[1, 2]) as attached:
        images = stock(pipeline, family)
    assert apart(images[0], plain[0]) < TOLERANCE  # the source is as it was
    assert min(apart(images[at], plain[at]) for at in (1, 2)) > 1e-3
    groups = 1 if family in ("flux", "schnell", "klein_distilled") else 2
    assert attached.evaluations == groups * STEPS * len(PROMPTS)
    with sc.attach(pipeline, ALL, sources=0, targets=[1, 2]):
        other = stock(pipeline, family, [PROMPTS[0], PROMPTS[2], PROMPTS[1]], seeds=[3, 5, 4])
    assert apart(other[[0, 2, 1]], images) < TOLERANCE


def test_afterwards_the_pipeline_is_as_before(family: str, tiny: Any) -> None:
    pipeline = tiny(family)
    before = dict(vars(pipeline))
    plain = stock(pipeline, family)
    with sc.attach(pipeline, ALL, sources=0):
        stock(pipeline, family)
    assert np.array_equal(stock(pipeline, family), plain)
    assert {"encode_prompt", "check_inputs"}.isdisjoint(vars(pipeline))
    assert vars(pipeline).keys() == before.keys()


def test_it_is_what_our_own_loop_does(family: str, tiny: Any) -> None:
    """A picture that reads another one: the same rule in both."""
    pipeline = tiny(family)
    rule = sc.Rule(readers=(1,), sources=(0,), layers="all")
    settings = {"num_inference_steps": STEPS, "height": SIZE[0], "width": SIZE[1], "init": "noise"}
    out = sc.Model(adapt(pipeline, ModelIdentity("x", ""))).render(
        None, PROMPTS[:2], rules=(rule,), seed=(3, 4), guidance_scale=guidance(family), output_type="np", **settings
    )
    with sc.attach(pipeline, rule, targets=[0, 1]):
        images = stock(pipeline, family, PROMPTS[:2])
    assert apart(images, out.images) < TOLERANCE


@pytest.mark.parametrize("family", [*KINDS, "schnell"])
def test_a_photo_is_the_source(family: str, tiny: Any, photo: Image.Image) -> None:
    pipeline = tiny(family)
    with sc.attach(pipeline, ALL, sources=photo) as attached:
        images = stock(pipeline, family, PROMPTS[:2])
        first = attached.evaluations
        again = stock(pipeline, family, PROMPTS[:2])
        assert attached.evaluations - first < first  # inverted once
    assert np.array_equal(images, again)
    if family == "schnell":  # whose photos are mixed with noise: in a pipeline not the seed's
        assert apart(images, stock(pipeline, family, PROMPTS[:2])) > 1e-3
        return
    settings = {"num_inference_steps": STEPS, "height": SIZE[0], "width": SIZE[1], "init": "noise", "fit": "crop"}
    model = sc.Model(adapt(pipeline, ModelIdentity("x", "")))
    out = model.render(
        sc.Subject((photo,)),
        PROMPTS[:2],
        rules=(ALL,),
        seed=(3, 4),
        guidance_scale=guidance(family),
        output_type="np",
        **settings,
    )
    assert apart(images, out.images) < TOLERANCE


def test_several_pictures_of_a_prompt(family: str, tiny: Any) -> None:
    pipeline = tiny(family)
    # Of equal length: diffusers' Qwen-Image mixes up the masks of its prompts where each gets several pictures.
    prompts = ["a dog", "a cat"]
    with sc.attach(pipeline, ALL, sources=0):
        both = stock(pipeline, family, prompts, seeds=[3, 4, 5, 6], num_images_per_prompt=2)
        one = stock(pipeline, family, prompts, seeds=[4, 6])
    assert apart(both[[1, 3]], one) < TOLERANCE


def test_masks_are_found_in_its_maps(family: str, tiny: Any) -> None:
    pipeline = tiny(family)
    rules = sc.masactrl_auto_masked(layers="all", start=2)
    plain = stock(pipeline, family)
    with sc.attach(pipeline, rules, sources=0, class_noun="dog"):
        images = stock(pipeline, family)
    assert apart(images, plain) > 0


@pytest.mark.parametrize("family", ["flux"])
def test_true_guidance_is_a_second_call(family: str, tiny: Any) -> None:
    pipeline = tiny(family)
    options = {"true_cfg": 2.0, "negative": "a cat"}
    plain = stock(pipeline, family, **options)
    with sc.attach(pipeline, ALL, sources=0) as attached:
        images = stock(pipeline, family, **options)
        stock(pipeline, family)
    assert attached.evaluations == (2 + 1) * STEPS * len(PROMPTS)
    assert apart(images[0], plain[0]) < TOLERANCE
    assert apart(images[1], plain[1]) > 1e-3


def test_half_precision_finds_its_steps(tiny: Any) -> None:
    """FLUX gives its transformer a timestep that bfloat16 has rounded."""
    pipeline = tiny("flux")
    halved = copy.deepcopy(pipeline).to(torch.bfloat16)
    with sc.attach(halved, sc.Rule(layers="all", steps=sc.Steps(start=20, final=22)), sources=0) as attached:
        images = stock(halved, "flux", steps=28)
    assert np.isfinite(images).all()
    assert attached.evaluations == 28 * 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [("FluxKontextPipeline", "edits pictures"), ("SanaPipeline", "linear"), ("CogView4Pipeline", "has no U-Net")],
)
def test_other_pipelines_are_refused(kind: str, words: str) -> None:
    pipeline = type(kind, (), {"config": {}})()
    with pytest.raises(sc.SamecastError, match=words):
        sc.attach(pipeline, ALL)


def test_a_compiled_transformer_is_refused(tiny: Any) -> None:
    pipeline = tiny("sd3")
    eager = pipeline.transformer
    pipeline.transformer = torch.compile(eager)
    try:
        with pytest.raises(sc.SamecastError, match="compiled"):
            sc.attach(pipeline, ALL)
    finally:
        pipeline.transformer = eager


def test_another_attention_backend_is_refused(tiny: Any) -> None:
    pipeline = tiny("sd3")
    block = pipeline.transformer.transformer_blocks[0].attn.processor
    block._attention_backend = type("Backend", (), {"value": "flash"})()
    try:
        with pytest.raises(sc.SamecastError, match="attention backend 'flash'"), sc.attach(pipeline, ALL):
            pass
    finally:
        del block._attention_backend
