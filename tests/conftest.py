"""Shared fixtures: real diffusers and transformers classes at tiny widths, with Stable Diffusion 1.x's topology.

Three cross-attention levels and one plain, two layers per block: 16 self-attention layers, numbered as in SD. Weights
are random but seeded; nothing is downloaded.
"""

import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the libraries read it

import numpy as np
import pytest
import torch
from PIL import Image

TINY_SIZE = 64
LATENT_SIDE = 16


def make_tokenizer_files(directory: Path) -> None:
    """A CLIP tokenizer with an entry for every byte, alone and ending a word, and no merges: any text encodes."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (directory / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (directory / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")


def make_tiny_vae(**others: Any) -> Any:
    """A random AutoencoderKL for 64 px pictures and 16 x 16 latents of 4 channels."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=TINY_SIZE,
        **others,
    )


def make_scheduler(prediction_type: str = "epsilon") -> Any:
    """Stable Diffusion's noise schedule, as DDIM steps it."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def make_tiny_pipeline(
    directory: Path, *, prediction_type: str = "epsilon", seed: int = 0, second_family: bool = False
) -> Any:
    """A random StableDiffusionPipeline of SD 1.x's topology, or of 2.x's; 64 px pictures on 16 x 16 latents of 4
    channels."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(seed)
    make_tokenizer_files(directory / "tokenizer_source")
    tokenizer = CLIPTokenizer.from_pretrained(directory / "tokenizer_source", model_max_length=77)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(16, 16, 32, 32),
        attention_head_dim=(1, 2, 4, 4) if second_family else 2,
        use_linear_projection=second_family,
        norm_num_groups=8,
        cross_attention_dim=32,
    )
    # Freshly initialised attention hardly moves a picture; louder, a wrong key shows in the pixels.
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if ".attn" in name and name.endswith("weight"):
                weight.mul_(3)
    vae = make_tiny_vae()
    scheduler = make_scheduler(prediction_type)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_tiny_xl_pipeline(directory: Path, *, seed: int = 0) -> Any:
    """A random StableDiffusionXLPipeline of XL's topology, 70 layers; 64 px pictures on 16 x 16 latents."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(seed)
    make_tokenizer_files(directory / "tokenizer_source")
    tokenizers = [
        CLIPTokenizer.from_pretrained(directory / "tokenizer_source", model_max_length=77, pad_token=pad)
        for pad in ("<|endoftext|>", "!")
    ]
    config = CLIPTextConfig(
        vocab_size=len(tokenizers[0]),
        hidden_size=32,
        intermediate_size=64,
        projection_dim=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizers[0].bos_token_id,
        eos_token_id=tokenizers[0].eos_token_id,
        pad_token_id=tokenizers[0].pad_token_id,
    )
    unet = UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(8, 16, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(1, 2, 2),
        use_linear_projection=True,
        norm_num_groups=4,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
    )
    # Louder, as in the smaller model: attention by a wrong key, and added conditions, must show in the pixels.
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if (".attn" in name or "add_embedding" in name) and name.endswith("weight"):
                weight.mul_(3)
    vae = make_tiny_vae(scaling_factor=0.13025)
    scheduler = make_scheduler()
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )


@pytest.fixture(scope="session")
def tiny_xl_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline directory of SDXL's kind."""
    directory = tmp_path_factory.mktemp("tiny_xl")
    make_tiny_xl_pipeline(directory).save_pretrained(directory / "model")
    return directory / "model"


@pytest.fixture(scope="session")
def tiny_pipeline_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline directory, epsilon prediction. Read-only by agreement: the whole test session shares it."""
    directory = tmp_path_factory.mktemp("tiny")
    make_tiny_pipeline(directory).save_pretrained(directory / "model")
    return directory / "model"


@pytest.fixture(scope="session")
def tiny_velocity_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for a v-prediction checkpoint."""
    directory = tmp_path_factory.mktemp("tiny_velocity")
    make_tiny_pipeline(directory, prediction_type="v_prediction").save_pretrained(directory / "model")
    return directory / "model"


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A colourful picture, larger than the model's and not square."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((128, 96), Image.Resampling.BICUBIC)
