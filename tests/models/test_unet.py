from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from samecast.errors import SamecastError
from samecast.models.base import Backbone
from samecast.models.loading import load_backbone
from samecast.models.unet import UNetBackbone


@pytest.fixture(scope="module")
def backbone(tiny_pipeline_dir: Path) -> UNetBackbone:
    return load_backbone(tiny_pipeline_dir, device="cpu")


def test_the_adapter_keeps_the_protocol(backbone: UNetBackbone) -> None:
    assert isinstance(backbone, Backbone)


def test_layers_are_numbered_in_execution_order(backbone: UNetBackbone) -> None:
    bound = backbone.self_attention()
    executed: list[int] = []
    hooks = [
        entry.module.to_q.register_forward_hook(lambda *call, index=entry.layer.index: executed.append(index))
        for entry in bound
    ]
    with torch.inference_mode():
        backbone.predict(torch.randn(1, 4, 16, 16), 10, backbone.encode_prompts([""]))
    for hook in hooks:
        hook.remove()
    assert executed == list(range(16))


def test_layers_are_stable_diffusions_16(backbone: UNetBackbone) -> None:
    layers = [entry.layer for entry in backbone.self_attention()]
    assert [layer.name for layer in layers] == (
        [f"down.{number}" for number in range(6)] + ["mid.0"] + [f"up.{number}" for number in range(9)]
    )
    assert [layer.resolution for layer in layers] == [16, 16, 8, 8, 4, 4, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16]
    assert {layer.heads for layer in layers} == {2}


def test_cross_attention_is_numbered_as_the_self_attention_of_its_blocks(backbone: UNetBackbone) -> None:
    crossed = backbone.cross_attention()
    assert [replace(entry.layer, kind="self") for entry in crossed] == [
        entry.layer for entry in backbone.self_attention()
    ]
    assert {entry.layer.kind for entry in crossed} == {"cross"}
    names = {id(module): name for name, module in backbone.denoiser.named_modules()}
    assert all(names[id(entry.module)].endswith("attn2") for entry in crossed)


def test_resolutions_are_the_sides_that_the_layers_see(backbone: UNetBackbone) -> None:
    seen: list[int] = []
    bound = backbone.self_attention()
    hooks = [
        entry.module.to_q.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape[1]))
        for entry in bound
    ]
    with torch.inference_mode():
        backbone.predict(torch.randn(1, 4, 16, 16), 10, backbone.encode_prompts([""]))
    for hook in hooks:
        hook.remove()
    assert seen == [entry.layer.resolution**2 for entry in bound]


def test_words_are_found_with_every_sub_token_and_occurrence(backbone: UNetBackbone) -> None:
    # The tiny tokenizer has a token for each letter; position 0 is the mark of the beginning.
    assert backbone.find_words("a dog, a Dog", "dog") == (2, 3, 4, 7, 8, 9)
    assert backbone.find_words("a hotdog and dog", "dog") == (11, 12, 13)
    assert backbone.find_words("a red dog", "red dog") == (2, 3, 4, 5, 6, 7)
    for phrase in ("cat", "og", "", "dog red"):
        with pytest.raises(SamecastError, match=f"the word '{phrase}' is not in the prompt 'a red dog'"):
            backbone.find_words("a red dog", phrase)


def test_prompts_embed_as_in_the_stock_pipeline(backbone: UNetBackbone) -> None:
    expected, _ = backbone.pipeline.encode_prompt("a dog running", "cpu", 1, False)
    assert torch.equal(backbone.encode_prompts(["a dog running"]), expected)


@pytest.mark.parametrize("letters", [75, 76])
def test_a_prompt_beyond_the_encoders_length_is_refused(backbone: UNetBackbone, letters: int) -> None:
    prompt = "x" * letters  # this tokenizer has no merges: one token a letter
    if letters == 75:
        backbone.encode_prompts([prompt])
    else:
        with pytest.raises(SamecastError, match="has 76 tokens; the model reads at most 75: shorten it"):
            backbone.encode_prompts([prompt])


def test_latents_are_the_posteriors_mean_scaled(backbone: UNetBackbone, photo: Image.Image) -> None:
    vae = backbone.pipeline.vae
    square = photo.crop((0, 0, 64, 64))
    with torch.inference_mode():
        pixels = backbone.pipeline.image_processor.preprocess(square)
        expected = vae.encode(pixels).latent_dist.mean[0] * vae.config.scaling_factor
        assert torch.equal(backbone.encode_image(square), expected)


def test_a_picture_decodes_the_same_in_any_company(backbone: UNetBackbone) -> None:
    latents = torch.randn(3, 4, 16, 16)
    with torch.inference_mode():
        together = backbone.decode(latents)
        assert together[1].tobytes() == backbone.decode(latents[1:2])[0].tobytes()


@torch.no_grad()
def test_pictures_decode_in_their_own_precision_within_a_training_of_another(backbone: UNetBackbone) -> None:
    latent = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = backbone.decode(latent)[0].tobytes()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert backbone.decode(latent)[0].tobytes() == plain


def test_latents_that_do_not_decode_are_an_error(backbone: UNetBackbone) -> None:
    with (
        torch.inference_mode(),
        pytest.raises(SamecastError, match="the autoencoder produced values that are not finite: its weights"),
    ):
        backbone.decode(torch.full((1, 4, 16, 16), torch.nan))


@pytest.mark.parametrize(("height", "width"), [(65, 64), (64, 65), (2, 64)])
def test_sizes_that_no_latent_has_are_refused(backbone: UNetBackbone, height: int, width: int) -> None:
    name, side = ("width", width) if height == 64 else ("height", height)
    with pytest.raises(SamecastError, match=f"{name} must be a multiple of 4 for this model; got {side}, try"):
        backbone.latent_shape(height, width)


def test_schedule_is_the_checkpoints_whatever_its_scheduler(tiny_pipeline_dir: Path) -> None:
    from diffusers import PNDMScheduler

    backbone = load_backbone(tiny_pipeline_dir, device="cpu")
    expected = backbone.schedule(50)
    # Stable Diffusion 1.x ships a PNDM configuration without clip_sample.
    config = {key: value for key, value in backbone.pipeline.scheduler.config.items() if key != "clip_sample"}
    backbone.pipeline.scheduler = PNDMScheduler.from_config(config, skip_prk_steps=True)
    assert backbone.schedule(50) == expected
    assert expected.timesteps[0] == 981
