"""Values that are not finite: named by the part that gave them, with a remedy that fits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.models.base import ConceptUse, ModelIdentity
from samecast.models.finite import remedy

QUICK = sc.RenderSettings(num_inference_steps=3)


@pytest.fixture
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def spoil(module: torch.nn.Module, value: float = float("nan")) -> None:
    next(module.parameters()).data.fill_(value)


@pytest.mark.parametrize(
    ("part", "record"), [("unet", "denoiser"), ("text_encoder", "text encoder"), ("vae.encoder", "autoencoder")]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_part_that_broke_is_named(
    model: sc.Model, photo: Image.Image, part: str, record: str, value: float
) -> None:
    pipeline: Any = model.backbone.pipeline  # type: ignore[attr-defined]
    owner, _, rest = part.partition(".")
    spoil(getattr(pipeline, owner).get_submodule(rest), value)
    decoded: list[int] = []
    pipeline.vae.decoder.register_forward_hook(lambda *args: decoded.append(1))
    with pytest.raises(
        sc.SamecastError, match=f"the {record} produced values that are not finite: its weights"
    ) as caught:
        model.render(sc.Subject((photo,), "dog"), ["a dog"], settings=QUICK)
    assert "float32" not in str(caught.value)  # it is in float32
    assert not decoded


@pytest.mark.parametrize("settings", [{"init": "noise"}, {"fixed_point": 1}, {"check_inversion": True}])
def test_a_broken_denoiser_is_found_at_the_first_step(
    model: sc.Model, photo: Image.Image, settings: dict[str, Any]
) -> None:
    spoil(model.backbone.denoiser)
    calls: list[int] = []
    model.backbone.denoiser.register_forward_hook(lambda *args: calls.append(1))
    with pytest.raises(sc.SamecastError, match="the denoiser produced values that are not finite"):
        model.render(
            sc.Subject((photo,), "dog"), ["a dog"], settings=sc.RenderSettings(num_inference_steps=3, **settings)
        )
    assert len(calls) <= 2


def test_a_generated_source_is_checked_too(model: sc.Model) -> None:
    spoil(model.backbone.denoiser)
    with pytest.raises(sc.SamecastError, match="the denoiser produced values"):
        model.render(None, ["a dog"], settings=sc.RenderSettings(num_inference_steps=3, source_prompt="a dog"))


def test_a_photo_in_a_stock_pipeline_is_checked_too(model: sc.Model, photo: Image.Image) -> None:
    from diffusers import DDIMScheduler

    pipe: Any = copy.copy(model.backbone.pipeline)  # type: ignore[attr-defined]
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    spoil(pipe.unet)
    with sc.attach(pipe, sc.masactrl(1), sources=photo), pytest.raises(sc.SamecastError, match="the denoiser produced"):
        pipe("a dog", num_inference_steps=3)


def test_the_remedy_fits() -> None:
    plain = ModelIdentity("model", "sha256:1")
    assert "load it with dtype float32" in remedy(torch.float16, plain)
    assert "weights may be damaged" in remedy(torch.float32, plain)
    assert "weights may be damaged" in remedy(torch.bfloat16, plain)
    added = ModelIdentity("model", "sha256:1", (("x", "y"),), (ConceptUse("", 1.0, "", ()),))
    assert "the applied LoRA or concept" in remedy(torch.float32, added)
