from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from samecast.backbones.clip_tokenizer import write_tokenizer
from samecast.backbones.loading import load_backbone
from samecast.errors import SamecastError

from .ldm_format import save_single_file


def make_pipeline(directory: Path, *, second_family: bool) -> Any:
    """What a single file of the family can hold: 32 norm groups, CLIP's vocabulary; otherwise as small as may be."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(1)
    pad_token = "!" if second_family else "<|endoftext|>"
    write_tokenizer(directory / "tokenizer_source", pad_token=pad_token)
    text_config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=23 if second_family else 2,
        num_attention_heads=1,
        hidden_act="gelu" if second_family else "quick_gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    unet = UNet2DConditionModel(
        sample_size=96 if second_family else 64,
        block_out_channels=(64, 64, 64, 64) if second_family else (32, 32, 32, 32),
        attention_head_dim=(1, 1, 1, 1) if second_family else 8,
        use_linear_projection=second_family,
        cross_attention_dim=64,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction" if second_family else "epsilon",
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text_config),
        tokenizer=CLIPTokenizer.from_pretrained(directory / "tokenizer_source"),
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def assert_same_model(loaded: Any, original: Any) -> None:
    for part in ("unet", "vae", "text_encoder"):
        ours, theirs = getattr(loaded, part).state_dict(), getattr(original, part).state_dict()
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor), f"{part} {key}"
    assert loaded.unet.config.attention_head_dim in (original.unet.config.attention_head_dim, [1, 1, 1, 1])
    for name in ("sample_size", "use_linear_projection", "cross_attention_dim"):
        assert loaded.unet.config[name] == original.unet.config[name]
    for name in ("hidden_act", "num_hidden_layers", "eos_token_id"):
        assert getattr(loaded.text_encoder.config, name) == getattr(original.text_encoder.config, name)
    assert loaded.scheduler.config.prediction_type == original.scheduler.config.prediction_type
    text = "a dog running on the beach"
    assert (
        loaded.tokenizer(text, padding="max_length").input_ids
        == original.tokenizer(text, padding="max_length").input_ids
    )


def test_first_family_loads_as_it_was_saved_and_runs(tmp_path: Path) -> None:
    original = make_pipeline(tmp_path, second_family=False)
    save_single_file(original, tmp_path / "model.safetensors")
    backbone = load_backbone(tmp_path / "model.safetensors")
    assert_same_model(backbone.pipeline, original)
    assert backbone.identity.revision.startswith("sha256:")
    latents, text = torch.randn(1, 4, 16, 16), backbone.encode_prompts(["a dog"])
    with torch.no_grad():
        expected = original.unet(latents, 10, original.encode_prompt("a dog", "cpu", 1, False)[0]).sample
        assert torch.equal(backbone.predict(latents, 10, text), expected)


def test_second_family_loads_as_it_was_saved(tmp_path: Path) -> None:
    original = make_pipeline(tmp_path, second_family=True)
    save_single_file(original, tmp_path / "model.safetensors", open_clip=True)
    # Real files hold one more text layer than Stable Diffusion 2.x reads.
    weights = load_file(tmp_path / "model.safetensors")
    weights |= {
        key.replace("resblocks.0.", "resblocks.23."): tensor.clone()
        for key, tensor in weights.items()
        if "resblocks.0." in key
    }
    save_file(weights, tmp_path / "model.safetensors")
    assert_same_model(load_backbone(tmp_path / "model.safetensors").pipeline, original)


def test_stated_prediction_type_decides(tmp_path: Path) -> None:
    original = make_pipeline(tmp_path, second_family=False)
    metadata = {"modelspec.prediction_type": "v"}
    save_single_file(original, tmp_path / "model.safetensors", metadata=metadata)
    assert load_backbone(tmp_path / "model.safetensors").prediction_type == "v_prediction"


def test_tokenizer_splits_words_as_clip_does(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    write_tokenizer(tmp_path, pad_token="!")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    # The published ids of openai/clip-vit-large-patch14 for this text.
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer.pad_token_id == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"conditioner.embedders.0.x": torch.zeros(1)}, "SDXL"),
        ({"model.diffusion_model.x": torch.zeros(1)}, "lacks an autoencoder, a text encoder"),
        ({"lora_unet.x": torch.zeros(1)}, "lacks a U-Net"),
        (
            {
                "model.diffusion_model.x": torch.zeros(1),
                "first_stage_model.encoder.x": torch.zeros(1),
                "cond_stage_model.model.x": torch.zeros(1),
            },
            "is no Stable Diffusion checkpoint: it lacks 'model.diffusion_model.input_blocks.0.0.weight'",
        ),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(
    tmp_path: Path, weights: dict[str, torch.Tensor], message: str
) -> None:
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(SamecastError, match=message) as caught:
        load_backbone(tmp_path / "model.safetensors")
    assert "\n" not in str(caught.value)


def test_damaged_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(SamecastError, match="not a sound"):
        load_backbone(tmp_path / "model.safetensors")
