from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from samecast.errors import SamecastError
from samecast.models.checkpoint import CLIP, OPEN_CLIP, Header, read_header
from samecast.models.clip_tokenizer import write_tokenizer
from samecast.models.loading import load_backbone
from samecast.models.xl import XLBackbone
from tests.conftest import make_scheduler

from .ldm_format import save_single_file


def make_pipeline(directory: Path, *, second_family: bool, **unet_config: Any) -> Any:
    """What a single file of the family can hold: 32 norm groups, CLIP's vocabulary; otherwise as small as may be."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
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
        **unet_config,
    )
    return StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(text_config),
        tokenizer=CLIPTokenizer.from_pretrained(directory / "tokenizer_source"),
        unet=unet,
        scheduler=make_scheduler("v_prediction" if second_family else "epsilon"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_xl_pipeline(directory: Path, **unet_config: Any) -> Any:
    """The same of XL: two text encoders of different widths, a plain first level, and added conditions."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(2)
    tokenizers: list[Any] = []
    for pad in ("<|endoftext|>", "!"):
        write_tokenizer(directory / pad.strip("<|>"), pad_token=pad)
        tokenizers.append(CLIPTokenizer.from_pretrained(directory / pad.strip("<|>")))
    common = {"vocab_size": 49408, "intermediate_size": 64, "bos_token_id": 49406, "eos_token_id": 49407}
    first = CLIPTextConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, **common)
    second = CLIPTextConfig(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=2, hidden_act="gelu", projection_dim=128, **common
    )
    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 1, 1),
        use_linear_projection=True,
        cross_attention_dim=64 + 128,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 128,
        **{"transformer_layers_per_block": (1, 2, 10), **unet_config},
    )
    return StableDiffusionXLPipeline(
        vae=make_vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(first),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=make_scheduler(),
        add_watermarker=False,
    )


def make_vae(**others: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        **others,
    )


def assert_same_model(loaded: Any, original: Any) -> None:
    encoders = [name for name in ("text_encoder", "text_encoder_2") if hasattr(original, name)]
    for part in ("unet", "vae", *encoders):
        ours, theirs = getattr(loaded, part).state_dict(), getattr(original, part).state_dict()
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert torch.equal(ours[key], tensor), f"{part} {key}"
    data = [
        {name: value for name, value in each.unet.config.items() if not name.startswith("_")}
        for each in (loaded, original)
    ]
    for name, value in data[1].items():
        assert alike(data[0][name], value), name
    assert loaded.vae.config.scaling_factor == original.vae.config.scaling_factor
    for part in encoders:
        for name in ("hidden_act", "num_hidden_layers", "num_attention_heads", "eos_token_id"):
            one, other = (getattr(getattr(each, part).config, name) for each in (loaded, original))
            assert one == other, f"{part} {name}"
    assert loaded.scheduler.config.prediction_type == original.scheduler.config.prediction_type
    text = "a dog running on the beach"
    for part in (name.replace("text_encoder", "tokenizer") for name in encoders):
        one, other = (getattr(each, part)(text, padding="max_length").input_ids for each in (loaded, original))
        assert one == other, part


def alike(one: Any, other: Any) -> bool:
    """Equal, where one value for all levels is the same as a list of it."""
    one, other = (tuple(each) if isinstance(each, (list, tuple)) else (each,) for each in (one, other))
    return one == other or (len(set(one)) == 1 and set(one) == set(other))


def test_first_family_loads_as_it_was_saved_and_runs(tmp_path: Path) -> None:
    original = make_pipeline(tmp_path, second_family=False)
    save_single_file(original, tmp_path / "model.safetensors")
    backbone = load_backbone(tmp_path / "model.safetensors")
    assert_same_model(backbone.pipeline, original)
    assert backbone.identity.revision.startswith("sha256:")
    latents, text = torch.randn(1, 4, 16, 16), backbone.encode_prompts(["a dog"])
    with torch.no_grad():
        expected = original.unet(latents, 10, original.encode_prompt("a dog", "cpu", 1, False)[0]).sample
        # The same weights at other addresses may take other kernels: close, not equal bit by bit.
        torch.testing.assert_close(backbone.predict(latents, 10, text), expected, rtol=1e-5, atol=1e-5)


def test_second_family_loads_as_it_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
    with caplog.at_level("WARNING", "samecast"):
        assert_same_model(load_backbone(tmp_path / "model.safetensors").pipeline, original)
    assert "does not state its prediction type" in caplog.text
    caplog.clear()
    base = load_backbone(tmp_path / "model.safetensors", prediction_type="epsilon")
    assert (base.prediction_type, base.default_size) == ("epsilon", 512)
    assert not caplog.text


def test_xl_loads_as_it_was_saved_and_runs(tmp_path: Path) -> None:
    original = make_xl_pipeline(tmp_path)
    save_single_file(original, tmp_path / "model.safetensors")
    backbone = load_backbone(tmp_path / "model.safetensors")
    assert_same_model(backbone.pipeline, original)
    assert (type(backbone), backbone.default_size) == (XLBackbone, 1024)
    assert len(backbone.self_attention()) == 70
    original.set_progress_bar_config(disable=True)
    latents, size = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)), {"height": 64, "width": 64}
    options = {"num_inference_steps": 3, "latents": latents, "output_type": "latent", **size}
    loaded = backbone.pipeline("a dog", **options).images
    # A weight that was saved transposed lies otherwise in memory, which rounds otherwise.
    torch.testing.assert_close(loaded, original("a dog", **options).images, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (Header({}, {"modelspec.prediction_type": "v"}), "v_prediction"),
        (Header({OPEN_CLIP: ()}, {"modelspec.prediction_type": "epsilon"}), "epsilon"),
        (Header({OPEN_CLIP: ()}, {"modelspec.architecture": "stable-diffusion-v2-512"}), "epsilon"),
        (Header({OPEN_CLIP: ()}, {"modelspec.architecture": "stable-diffusion-v2-768-v"}), "v_prediction"),
        (Header({OPEN_CLIP: ()}, {}, global_step=875_000), "epsilon"),
        (Header({OPEN_CLIP: ()}, {}, global_step=140_000), None),
        (Header({OPEN_CLIP: ()}), None),
        (Header({CLIP: ()}), "epsilon"),
        (Header({"conditioner.embedders.0.x": ()}), "epsilon"),
        (Header({"conditioner.embedders.0.x": (), "v_pred": ()}), "v_prediction"),
    ],
)
def test_what_it_says_of_its_prediction_decides(header: Header, expected: str | None) -> None:
    assert header.prediction_type() == expected


def test_the_step_of_training_is_read(tmp_path: Path) -> None:
    save_file({"global_step": torch.tensor(875_000), OPEN_CLIP: torch.zeros(1)}, tmp_path / "model.safetensors")
    assert read_header(tmp_path / "model.safetensors").prediction_type() == "epsilon"


def test_an_unknown_prediction_type_is_refused(tiny_pipeline_dir: Path) -> None:
    with pytest.raises(SamecastError, match="must be auto, epsilon or v_prediction; got 'x0'"):
        load_backbone(tiny_pipeline_dir, prediction_type="x0")


def test_a_directory_can_be_overruled(tiny_pipeline_dir: Path) -> None:
    backbone = load_backbone(tiny_pipeline_dir, device="cpu", prediction_type="v_prediction")
    assert backbone.schedule(2).prediction_type == "v_prediction"
    assert backbone.describe()["prediction_type"] == "v_prediction"


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
        (
            {"conditioner.embedders.0.x": torch.zeros(1)},
            "lacks a U-Net, an autoencoder, its first text encoder, its second",
        ),
        ({"conditioner.embedders.0.model.x": torch.zeros(1)}, "is a refiner"),
        ({"model.diffusion_model.x": torch.zeros(1)}, "lacks an autoencoder, a text encoder"),
        ({"lora_unet.x": torch.zeros(1)}, "lacks a U-Net"),
        (
            {
                "model.diffusion_model.x": torch.zeros(1),
                "first_stage_model.encoder.x": torch.zeros(1),
                "cond_stage_model.model.x": torch.zeros(1),
            },
            "is not a supported Stable Diffusion checkpoint: it lacks 'model.diffusion_model.input_blocks.0.0.weight'",
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
    with pytest.raises(SamecastError, match="not a valid"):
        load_backbone(tmp_path / "model.safetensors")


DISTILLED = {
    "one layer a level, no middle": {"layers_per_block": 1, "mid_block_type": None},
    "one layer a level": {"layers_per_block": 1},
    "a middle without attention": {"mid_block_type": "UNetMidBlock2D"},
    "three layers a level": {"layers_per_block": 3},
}


@pytest.mark.parametrize("config", DISTILLED.values(), ids=DISTILLED)
def test_distilled_checkpoints_of_the_first_family_load(tmp_path: Path, config: dict[str, Any]) -> None:
    original = make_pipeline(tmp_path, second_family=False, **config)
    save_single_file(original, tmp_path / "model.safetensors")
    assert_same_model(load_backbone(tmp_path / "model.safetensors").pipeline, original)


DISTILLED_XL = {
    "uneven depths": {
        "transformer_layers_per_block": (1, (2, 1), (3, 4)),
        "reverse_transformer_layers_per_block": ((4, 2, 1), (2, 1, 1), 1),
        "mid_block_type": "UNetMidBlock2D",
    },
    "even depths, no middle": {"transformer_layers_per_block": (1, 1, 2), "mid_block_type": None},
}


@pytest.mark.parametrize("config", DISTILLED_XL.values(), ids=DISTILLED_XL)
def test_distilled_checkpoints_of_xl_load(tmp_path: Path, config: dict[str, Any]) -> None:
    original = make_xl_pipeline(tmp_path, **config)
    save_single_file(original, tmp_path / "model.safetensors")
    loaded = load_backbone(tmp_path / "model.safetensors").pipeline
    ours, theirs = loaded.unet.state_dict(), original.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())


def with_keys(path: Path, out: Path, **tensors: torch.Tensor) -> Path:
    """A checkpoint with more keys, or, by None, without some."""
    weights = {**load_file(path), **{key.replace("__", "."): value for key, value in tensors.items()}}
    save_file(weights, out)
    return out


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("edm_vpred__sigma_max", "EDM's noise levels"),
        ("edm_mean", "EDM's noise levels"),
        ("edm_std", "EDM's noise levels"),
        ("model__diffusion_model__time_embed__cond_proj__weight", "takes the guidance scale as an input"),
    ],
)
def test_checkpoints_of_another_kind_are_refused_by_their_keys(tmp_path: Path, key: str, data: str) -> None:
    save_single_file(make_pipeline(tmp_path, second_family=False), tmp_path / "model.safetensors")
    path = with_keys(tmp_path / "model.safetensors", tmp_path / "other.safetensors", **{key: torch.ones(1)})
    with pytest.raises(SamecastError, match=data):
        load_backbone(path)


def test_a_schedule_that_ends_on_noise_begins_there(tmp_path: Path) -> None:
    save_single_file(make_pipeline(tmp_path, second_family=False), tmp_path / "model.safetensors")
    keys = {"ztsnr": torch.ones(1), "v_pred": torch.ones(1)}
    path = with_keys(tmp_path / "model.safetensors", tmp_path / "other.safetensors", **keys)
    schedule = load_backbone(path).schedule(10)
    assert schedule.prediction_type == "v_prediction"
    assert schedule.timesteps[0] == 999
    assert schedule.levels[0].signal ** 2 < 1e-6
    assert load_backbone(tmp_path / "model.safetensors").schedule(10).levels[0].signal ** 2 > 1e-3


def test_a_level_that_lacks_a_layer_is_refused(tmp_path: Path) -> None:
    save_single_file(make_pipeline(tmp_path, second_family=False), tmp_path / "model.safetensors")
    gone = ("model.diffusion_model.output_blocks.11.", "model.diffusion_model.output_blocks.10.")
    weights = {
        key: value for key, value in load_file(tmp_path / "model.safetensors").items() if not key.startswith(gone)
    }
    save_file(weights, tmp_path / "other.safetensors")
    with pytest.raises(SamecastError, match="12 output blocks; it has 10"):
        load_backbone(tmp_path / "other.safetensors")
