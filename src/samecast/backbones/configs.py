"""The configurations of a single-file checkpoint, read off the shapes of its weights.

What shapes do not tell (heads, norm groups, the latent's scale) is the same in all models of a family.
"""

import json
from pathlib import Path
from typing import Any

from samecast.backbones.checkpoint import CLIP, OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP, Header
from samecast.backbones.clip_tokenizer import END, VOCABULARY_SIZE, write_tokenizer
from samecast.core.ddim import PredictionType

LAYERS_PER_BLOCK, HEAD_CHANNELS, HEADS_OF_SD1 = 2, 64, 8
TIME_IDS = 6  # original size, crop and target size, two numbers each


def write_configs(header: Header, directory: Path, prediction_type: PredictionType) -> None:
    """Writes a pipeline directory without weights that fits the checkpoint.

    Raises:
        KeyError, IndexError: a tensor is missing.
    """
    generation = header.generation
    large = generation == "sd2" and prediction_type == "v_prediction"
    side = 128 if generation == "xl" else 96 if large else 64
    configs: dict[str, dict[str, Any]] = {
        "unet": _unet_config(header) | {"sample_size": side},
        "vae": _vae_config(header),
        "scheduler": {
            "_class_name": "DDIMScheduler",
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "prediction_type": prediction_type,
        },
    }
    pads = {"tokenizer": END}
    if generation == "xl":
        configs["text_encoder"] = _clip_config(header, XL_CLIP)
        configs["text_encoder_2"] = _open_clip_config(header, XL_OPEN_CLIP) | {
            "architectures": ["CLIPTextModelWithProjection"],
            "projection_dim": header.shapes[XL_OPEN_CLIP + "text_projection"][1],
        }
        pads["tokenizer_2"] = "!"
    elif generation == "sd2":
        # Stable Diffusion 2.x reads the last layer but one; diffusers leaves the last out.
        configs["text_encoder"] = _open_clip_config(header, OPEN_CLIP, unread=1)
        pads["tokenizer"] = "!"
    else:
        configs["text_encoder"] = _clip_config(header, CLIP)
    for part, config in configs.items():
        (directory / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (directory / part / name).write_text(json.dumps(config), encoding="utf-8")
    for part, pad in pads.items():
        write_tokenizer(directory / part, pad_token=pad)
    (directory / "model_index.json").write_text(json.dumps(_index(generation == "xl")), encoding="utf-8")


def _index(is_xl: bool) -> dict[str, Any]:
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline" if is_xl else "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    if is_xl:
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        index["force_zeros_for_empty_prompt"] = True
    return index


def _unet_config(header: Header) -> dict[str, Any]:
    shapes, per_level = header.shapes, LAYERS_PER_BLOCK + 1
    levels = header.count(UNET + "input_blocks.{}.") // per_level
    first_of = [UNET + f"input_blocks.{1 + per_level * level}." for level in range(levels)]
    channels = [shapes[first + "0.out_layers.3.weight"][0] for first in first_of]
    depths = [header.count(first + "1.transformer_blocks.{}.") for first in first_of]
    attended = next((first for first, depth in zip(first_of, depths, strict=True) if depth), first_of[0])
    linear = len(shapes[attended + "1.proj_in.weight"]) == 2
    config = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": LAYERS_PER_BLOCK,
        "transformer_layers_per_block": [max(1, depth) for depth in depths],
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        "cross_attention_dim": shapes[attended + "1.transformer_blocks.0.attn2.to_k.weight"][1],
        # Named a dimension, but a number of heads, in these families: 8, or channels / 64 with linear projections.
        "attention_head_dim": [max(1, width // HEAD_CHANNELS) for width in channels] if linear else HEADS_OF_SD1,
        "use_linear_projection": linear,
    }
    if header.generation == "xl":
        added, pooled = shapes[UNET + "label_emb.0.0.weight"][1], shapes[XL_OPEN_CLIP + "text_projection"][1]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": (added - pooled) // TIME_IDS,
            "projection_class_embeddings_input_dim": added,
        }
    return config


def _vae_config(header: Header) -> dict[str, Any]:
    levels = header.count(VAE + "encoder.down.{}.")
    channels = [header.shapes[VAE + f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    is_xl = header.generation == "xl"
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": header.count(VAE + "encoder.down.0.block.{}."),
        "latent_channels": header.shapes[VAE + "encoder.conv_out.weight"][0] // 2,
        "scaling_factor": 0.13025 if is_xl else 0.18215,
        "force_upcast": is_xl,  # XL's own overflows in float16
    }


def _clip_config(header: Header, prefix: str) -> dict[str, Any]:
    width = header.shapes[prefix + "embeddings.token_embedding.weight"][1]
    inner = header.shapes[prefix + "encoder.layers.0.mlp.fc1.weight"][0]
    return _text_config(width, inner, header.count(prefix + "encoder.layers.{}."), "quick_gelu")


def _open_clip_config(header: Header, prefix: str, *, unread: int = 0) -> dict[str, Any]:
    width = header.shapes[prefix + "token_embedding.weight"][1]
    inner = header.shapes[prefix + "transformer.resblocks.0.mlp.c_fc.weight"][0]
    return _text_config(width, inner, header.count(prefix + "transformer.resblocks.{}.") - unread, "gelu")


def _text_config(width: int, inner: int, layers: int, activation: str) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // HEAD_CHANNELS),
        "hidden_act": activation,
        "max_position_embeddings": 77,
        "bos_token_id": VOCABULARY_SIZE - 2,
        "eos_token_id": VOCABULARY_SIZE - 1,
    }
