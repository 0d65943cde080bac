"""Stable Diffusion XL on tiny real classes, in our own loop and in the stock pipeline."""

import inspect
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image

import samecast as sc
from samecast.cli import main
from samecast.core.tokens import SubjectTokens
from samecast.models.base import Backbone
from samecast.models.loading import load_backbone
from samecast.models.xl import XLBackbone

STEPS = 4
LATE = "64-69"
# Pictures of our own loop are of 8 bits; beyond that only the order of float32 operations differs.
HALF_A_LEVEL = 0.5 / 255 + 1e-4


@pytest.fixture(scope="module")
def model(tiny_xl_dir: Path) -> sc.Model:
    return sc.load(tiny_xl_dir, device="cpu")


@pytest.fixture
def pipe(tiny_xl_dir: Path) -> Any:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_xl_dir, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), class_noun="dog")


def stock(pipeline: Any, prompts: list[str], *seeds: int, **options: Any) -> np.ndarray:
    generator = [torch.Generator().manual_seed(seed) for seed in seeds]
    options = {"height": 64, "width": 64, "num_inference_steps": STEPS} | options
    return pipeline(prompts, generator=generator, output_type="np", **options).images


def own(
    model: sc.Model, subject: sc.Subject | None, prompts: list[str], rules: sc.Rules, **settings: Any
) -> np.ndarray:
    out = model.render(subject, prompts, rules=rules, settings=sc.RenderSettings(num_inference_steps=STEPS, **settings))
    return np.stack([np.asarray(render.image) for render in out.renders]) / 255.0


def apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def test_the_adapter_keeps_the_protocol(model: sc.Model) -> None:
    assert isinstance(model.backbone, XLBackbone)
    assert isinstance(model.backbone, Backbone)


def test_its_guidance_is_that_of_diffusers(model: sc.Model, pipe: Any) -> None:
    usual = inspect.signature(type(pipe).__call__).parameters["guidance_scale"].default
    assert model.backbone.default_guidance == usual


def test_there_are_70_layers_in_execution_order(model: sc.Model) -> None:
    bound = model.backbone.self_attention()
    executed: list[int] = []
    seen: list[int] = []

    def record(module: Any, inputs: Any, output: Any, index: int) -> None:
        executed.append(index)
        seen.append(inputs[0].shape[1])

    hooks = [
        entry.module.to_q.register_forward_hook(lambda *call, index=entry.layer.index: record(*call, index=index))
        for entry in bound
    ]
    with torch.inference_mode():
        model.backbone.predict(torch.randn(1, 4, 16, 16), 10, model.backbone.encode_prompts([""]))
    for hook in hooks:
        hook.remove()
    assert executed == list(range(70))
    assert seen == [entry.layer.resolution**2 for entry in bound]
    assert Counter(entry.layer.stage for entry in bound) == {"down": 24, "mid": 10, "up": 36}


def test_layers_are_listed(capsys: pytest.CaptureFixture[str], tiny_xl_dir: Path) -> None:
    assert main(["layers", "--model", str(tiny_xl_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 71
    assert lines[1].split() == ["0", "down.0", "encoder", "8x8", "2"]
    assert lines[25].split() == ["24", "mid.0", "mid", "4x4", "2"]
    assert lines[65].split() == ["64", "up.30", "decoder", "8x8", "2"]


@pytest.mark.parametrize("negative", ["", "a cat"])
def test_without_rules_images_equal_stock_diffusers(model: sc.Model, pipe: Any, negative: str) -> None:
    images = own(model, None, ["a dog", "blue"], (), init="noise", seed=3, negative_prompt=negative)
    options = {"negative_prompt": [negative] * 2} if negative else {}
    assert apart(images, stock(pipe, ["a dog", "blue"], 3, 3, **options)) < HALF_A_LEVEL


def test_text_pooled_text_and_size_all_condition_the_denoiser(model: sc.Model) -> None:
    backbone = model.backbone
    with torch.inference_mode():
        latents = torch.randn(1, 4, 16, 16)
        dog, cat = (backbone.encode_prompts([text]) for text in ("a dog", "a cat"))
        mixed = torch.cat([dog[:, :-1], cat[:, -1:]], dim=1)
        predictions = [backbone.predict(latents, 500, text) for text in (dog, mixed, cat)]
        other_size = backbone.predict(torch.nn.functional.pad(latents, (0, 16, 0, 16)), 500, dog)[..., :8, :8]
    assert not torch.allclose(predictions[0], predictions[1], atol=1e-3)
    assert not torch.allclose(predictions[1], predictions[2], atol=1e-3)
    assert not torch.allclose(predictions[0][..., :8, :8], other_size, atol=1e-3)


def test_an_empty_text_is_zeros_where_the_checkpoint_says_so(tiny_xl_dir: Path) -> None:
    backbone = load_backbone(tiny_xl_dir, device="cpu")
    with torch.inference_mode():
        empty, dog = backbone.encode_prompts(["", "a dog"])
        assert not empty.any()
        assert dog.any()
        backbone.pipeline.register_to_config(force_zeros_for_empty_prompt=False)
        assert backbone.encode_prompts([""]).any()


def test_a_prompt_beyond_the_encoders_length_is_refused(model: sc.Model) -> None:
    with pytest.raises(sc.SamecastError, match="has 76 tokens; the model reads at most 75"):
        model.backbone.encode_prompts(["x" * 76])


def test_a_real_photo_is_inverted_replayed_and_read(model: sc.Model, subject: sc.Subject) -> None:
    settings = sc.RenderSettings(num_inference_steps=STEPS, fit="crop")
    out = model.render(subject, ["a {noun} running"], rules=sc.masactrl(0, layers=LATE), settings=settings)
    plain = model.render(subject, ["a {noun} running"], rules=(), settings=settings)
    assert out.evaluations == 3 * STEPS
    assert out.renders[0].image.tobytes() != plain.renders[0].image.tobytes()
    with torch.inference_mode():
        assert out.references[0].size == (64, 64)
        (alone,) = model.backbone.decode(model.backbone.encode_image(out.references[0])[None])
    assert out.sources[0].tobytes() == alone.tobytes()


def test_masks_are_found_in_maps(model: sc.Model, subject: sc.Subject) -> None:
    prompts = ["a {noun} running"]
    masked = own(model, subject, prompts, sc.masactrl_auto_masked(1, layers=LATE))
    assert apart(masked, own(model, subject, prompts, sc.masactrl(1, layers=LATE))) > 1e-3


def test_maps_are_taken_at_a_quarter_of_the_latents_side() -> None:
    from samecast.core.layers import Layer

    xl, sd = (
        [Layer(f"up.{index}", index, "cross", "up", side, 8) for index, side in enumerate(sides)]
        for sides in ((32, 64), (16, 32, 64))
    )
    assert SubjectTokens().selector(xl) == "@1/2"  # 32, of a latent of 128
    assert SubjectTokens().selector(sd) == "@1/4"  # 16, of a latent of 64


def test_the_stock_pipeline_under_control_makes_what_our_own_loop_makes(model: sc.Model, pipe: Any) -> None:
    rules = sc.masactrl(1, layers=LATE)
    expected = own(model, None, ["a cat", "blue"], rules, source_prompt="a dog", init="noise")
    with sc.attach(pipe, rules):
        images = stock(pipe, ["a dog", "a cat", "blue"], 0, 1, 1, negative_prompt=None)
    assert apart(images[1:], expected) < HALF_A_LEVEL
    assert apart(images, stock(pipe, ["a dog", "a cat", "blue"], 0, 1, 1)) > 1e-3


def test_the_stock_pipeline_reads_a_photo_as_our_own_loop_does(
    model: sc.Model, pipe: Any, subject: sc.Subject, photo: Image.Image
) -> None:
    rules = sc.masactrl(0, layers=LATE)
    expected = own(model, subject, ["a cat", "blue"], rules, init="noise", seed=2, fit="crop")
    with sc.attach(pipe, rules, sources=photo):
        assert apart(stock(pipe, ["a cat", "blue"], 2, 2), expected) < HALF_A_LEVEL


def test_control_attaches_under_xls_own_scheduler(pipe: Any) -> None:
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    expected = stock(pipe, ["a dog", "a cat"], 0, 1)
    with sc.attach(pipe, sc.masactrl(0, layers=LATE)):
        images = stock(pipe, ["a dog", "a cat"], 0, 1)
    assert apart(images[0], expected[0]) < 1e-4
    assert apart(images[1], expected[1]) > 1e-3


def test_image_to_image_is_controlled_too(pipe: Any) -> None:
    img2img = StableDiffusionXLImg2ImgPipeline.from_pipe(pipe, add_watermarker=False)
    img2img.set_progress_bar_config(disable=True)
    options = {"image": Image.new("RGB", (64, 64), (200, 40, 90)), "strength": 0.5, "num_inference_steps": STEPS}

    def make() -> np.ndarray:
        generator = [torch.Generator().manual_seed(seed) for seed in range(4)]
        prompts, count = ["a dog", "a cat"], 2
        options["num_images_per_prompt"] = count
        return img2img(prompts, generator=generator, output_type="np", **options).images

    expected = make()
    with sc.attach(img2img, sc.masactrl(0, layers="34-69")):
        images = make()
    assert apart(images[:2], expected[:2]) < 1e-4
    assert apart(images[2], expected[2]) > 1e-3
    assert apart(images[3], expected[3]) > 1e-3


def test_masactrls_numbers_for_16_layers_are_not_taken_for_the_decoder(
    model: sc.Model, pipe: Any, subject: sc.Subject
) -> None:
    with pytest.raises(sc.SamecastError, match=r"down\.10 to down\.15: give layers, such as 64-69"):
        own(model, subject, ["a cat"], sc.masactrl(0))
    with pytest.raises(sc.SamecastError, match="this model has 70"):
        sc.attach(pipe, sc.masactrl(0))
    with torch.inference_mode():
        assert own(model, subject, ["a cat"], sc.masactrl(0, layers="down.10-15")).any()


def test_an_autoencoder_that_overflows_in_half_precision_runs_in_single(tiny_xl_dir: Path, photo: Image.Image) -> None:
    backbone = load_backbone(tiny_xl_dir, device="cpu")
    backbone.pipeline.vae.to(torch.float16)
    ran_in: list[torch.dtype] = []
    vae = backbone.pipeline.vae
    vae.decoder.register_forward_hook(lambda module, inputs, output: ran_in.append(output.dtype))
    vae.encoder.register_forward_hook(lambda module, inputs, output: ran_in.append(output.dtype))
    with torch.inference_mode():
        backbone.decode(backbone.encode_image(photo.crop((0, 0, 64, 64)))[None])
    assert ran_in == [torch.float32, torch.float32]
    assert vae.dtype == torch.float16


def test_a_refiner_and_a_part_that_is_missing_are_refused(tiny_xl_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_xl_dir, tmp_path / "model"))
    shutil.rmtree(copy / "tokenizer_2")
    with pytest.raises(sc.SamecastError, match="lacks tokenizer_2"):
        load_backbone(copy, device="cpu")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"text_encoder": [None, None]}))
    with pytest.raises(sc.SamecastError, match="is a refiner"):
        load_backbone(copy, device="cpu")
