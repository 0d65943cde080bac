"""Without rules and from noise, pictures are those of the stock pipelines."""

from typing import Any

import numpy as np
import pytest

import samecast as sc
from tests.families.stock import call
from tests.families.tiny import MAKERS

STEPS = 3
# Two prompts of different length: padding, masks and lengths are in it.
PROMPTS = ["a dog", "a big red ball on the beach with a cat, blurry"]
SIZE = (32, 48)
# Both are float32; the order of operations differs, and rows are batched otherwise.
TOLERANCE = 2e-4


def own(model: sc.Model, prompts: list[str] = PROMPTS, *, size: tuple[int, int] = SIZE, **settings: Any) -> np.ndarray:
    settings = {"num_inference_steps": STEPS, "init": "noise", "height": size[0], "width": size[1]} | settings
    return model.render(None, prompts, rules=(), output_type="np", **settings).images


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("family", MAKERS)
def test_pictures_equal_the_stock_pipeline(family: str, model: sc.Model) -> None:
    stock = call(model.pipeline, family, PROMPTS, size=SIZE, seeds=[3, 3], steps=STEPS)
    assert apart(own(model, seed=3), stock) < TOLERANCE
    assert apart(stock[0], stock[1]) > 100 * TOLERANCE  # the prompt shows, so that a wrong one would


@pytest.mark.parametrize("size", [(48, 32), (40, 56)])
def test_so_they_do_at_other_shapes(family: str, model: sc.Model, size: tuple[int, int]) -> None:
    stock = call(model.pipeline, family, ["a cat"], size=size, seeds=[0], steps=2)
    assert apart(own(model, ["a cat"], size=size, num_inference_steps=2), stock) < TOLERANCE


GUIDED = [("sd3", 3.0), ("sd35", 3.0), ("z_image", 2.0), ("z_image", 0.0), ("qwen", 3.0), ("klein", 2.0), ("flux", 1.5)]


@pytest.mark.parametrize(("family", "scale"), [*GUIDED, ("pixart", 3.0), ("sd3", 1.0)])
def test_guidance_is_the_familys(family: str, scale: float, tiny: Any, model: sc.Model) -> None:
    stock = call(tiny(family), family, PROMPTS, size=SIZE, seeds=[1, 1], steps=2, guidance=scale)
    images = own(model, guidance_scale=scale, seed=1, num_inference_steps=2)
    assert apart(images, stock) < TOLERANCE
    assert apart(images, own(model, seed=1, num_inference_steps=2)) > 10 * TOLERANCE  # and not the default's


@pytest.mark.parametrize("family", ["sd3", "z_image", "qwen", "pixart"])
def test_negative_prompts_are_the_stock_pipelines(family: str, tiny: Any, model: sc.Model) -> None:
    negative = "a cat in the snow"
    stock = call(tiny(family), family, PROMPTS, size=SIZE, seeds=[1, 1], steps=2, negative=negative)
    images = own(model, negative_prompt=negative, seed=1, num_inference_steps=2)
    assert apart(images, stock) < TOLERANCE
    assert apart(images, own(model, seed=1, num_inference_steps=2)) > 10 * TOLERANCE


@pytest.mark.parametrize("family", ["flux", "schnell"])
def test_true_guidance_beside_the_embedded_one(family: str, tiny: Any, model: sc.Model) -> None:
    options = {"true_cfg": 2.5, "negative": "a cat"}
    stock = call(tiny(family), family, PROMPTS, size=SIZE, seeds=[1, 1], steps=2, **options)
    images = own(model, true_cfg_scale=2.5, negative_prompt="a cat", seed=1, num_inference_steps=2)
    assert apart(images, stock) < TOLERANCE
    assert apart(images, own(model, seed=1, num_inference_steps=2)) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("schnell", {"guidance_scale": 3.5}, "distilled to do without guidance"),
        ("klein_distilled", {"guidance_scale": 4.0}, "distilled to do without guidance"),
        ("sd3", {"true_cfg_scale": 3.0}, "set that alone"),
        ("z_image", {"true_cfg_scale": 3.0}, "set that alone"),
        ("flux", {"height": 36}, "height must be a multiple of 8"),
        ("flux", {"num_inference_steps": 2000}, "steps must be at most 1000"),
    ],
)
def test_settings_that_a_family_has_not_are_refused(
    family: str, settings: dict[str, Any], words: str, model: sc.Model
) -> None:
    with pytest.raises(sc.SamecastError, match=words):
        own(model, **settings)


def test_long_prompts_are_refused_rather_than_cut(family: str, model: sc.Model) -> None:
    with pytest.raises(sc.SamecastError, match=r"tokens; the model reads at most \d+: shorten it"):
        own(model, ["a dog " * 600])
