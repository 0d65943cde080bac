"""The configurations of a single-file checkpoint, derived from the shapes of its weights.

Values that shapes do not show (heads, norm groups, the latent's scale) are the same in all models of a family.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.core.ddim import PredictionType
from samecast.models.checkpoint import CLIP, OPEN_CLIP, UNET, VAE, XL_CLIP, XL_OPEN_CLIP, Header
from samecast.models.clip_tokenizer import END, VOCABULARY_SIZE, write_tokenizer

HEAD_CHANNELS, HEADS_OF_SD1 = 64, 8
TIME_IDS = 6  # original size, crop and target size, two numbers each


def write_configs(header: Header, directory: Path, prediction_type: PredictionType) -> None:
    """Writes the pipeline directory of the checkpoint, without weights.

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
            # A schedule with zero terminal SNR must start at pure noise (Lin et al. 2024).
            **({"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if header.ends_on_noise else {}),
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
        # Stable Diffusion 2.x uses the penultimate layer; diffusers leaves the last out.
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


@dataclass(frozen=True)
class _Blocks:
    """The layout of a U-Net, derived from the names of its weights.

    Args:
        channels: channels of each level, from the finest.
        down: number of transformer blocks of each layer of each level.
        middle: transformer blocks of the middle block; None without a middle block, 0 without attention.
        up: as `down`, from the coarsest level, with one layer more per level.
    """

    channels: tuple[int, ...]
    down: tuple[tuple[int, ...], ...]
    middle: int | None
    up: tuple[tuple[int, ...], ...]


def _read_blocks(header: Header) -> _Blocks:
    """The layout from the original names, which number layers consecutively with a downsampler between levels."""
    channels, down = list[int](), list[list[int]]([[]])
    for number in range(1, header.count(UNET + "input_blocks.{}.")):
        block = UNET + f"input_blocks.{number}."
        if block + "0.op.weight" in header.shapes:
            down.append([])
            continue
        if not down[-1]:
            channels.append(header.shapes[block + "0.out_layers.3.weight"][0])
        down[-1].append(header.count(block + "1.transformer_blocks.{}."))
    layers = {len(level) for level in down}
    if len(layers) != 1:
        raise KeyError("the same number of layers in every level")
    per_level = layers.pop() + 1
    depths = [
        header.count(UNET + f"output_blocks.{number}.1.transformer_blocks.{{}}.")
        for number in range(header.count(UNET + "output_blocks.{}."))
    ]
    if len(depths) != per_level * len(down):
        raise KeyError(f"{per_level * len(down)} output blocks; it has {len(depths)}")
    up = tuple(tuple(depths[at : at + per_level]) for at in range(0, len(depths), per_level))
    middle = (
        header.count(UNET + "middle_block.1.transformer_blocks.{}.") if header.has(UNET + "middle_block.") else None
    )
    if middle == 0 and header.count(UNET + "middle_block.{}.") > 1:
        raise KeyError("a transformer in its middle block of several layers")
    return _Blocks(tuple(channels), tuple(map(tuple, down)), middle, up)


def _layout(blocks: _Blocks) -> dict[str, Any]:
    """The layout in the terms of diffusers' configuration."""
    for level in (*blocks.down, *blocks.up):
        if any(level) and not all(level):
            raise KeyError("attention in every layer of a level that has it in one")
    down: list[Any] = [_depth(level) for level in blocks.down]
    up: list[Any] = [_depth(level) for level in blocks.up]
    coarsest = down[-1] if any(blocks.down[-1]) else None
    if blocks.middle and coarsest is not None and blocks.middle != (coarsest if isinstance(coarsest, int) else None):
        raise KeyError(f"as many transformer blocks in the middle as in the coarsest level; it has {blocks.middle}")
    if blocks.middle and coarsest is None:
        down[-1] = blocks.middle  # diffusers takes the middle block's depth from it
    config: dict[str, Any] = {
        "layers_per_block": len(blocks.down[0]),
        "block_out_channels": list(blocks.channels),
        "transformer_layers_per_block": down,
        "down_block_types": ["CrossAttnDownBlock2D" if any(level) else "DownBlock2D" for level in blocks.down],
        "up_block_types": ["CrossAttnUpBlock2D" if any(level) else "UpBlock2D" for level in blocks.up],
        "mid_block_type": {None: None, 0: "UNetMidBlock2D"}.get(blocks.middle, "UNetMidBlock2DCrossAttn"),
    }
    same = all(isinstance(depth, int) for depth in (*down, *up)) and all(
        one == other for one, other, of in zip(reversed(down), up, blocks.up, strict=True) if any(of)
    )
    return config if same else config | {"reverse_transformer_layers_per_block": up}


def _depth(level: tuple[int, ...]) -> int | list[int]:
    """A level's depth, as one number where its layers agree; 1 for a level without attention, as in diffusers."""
    return max(1, level[0]) if len(set(level)) == 1 else list(level)


def _unet_config(header: Header) -> dict[str, Any]:
    shapes, blocks = header.shapes, _read_blocks(header)
    attended = next(
        UNET + f"input_blocks.{1 + level * (len(of) + 1)}." for level, of in enumerate(blocks.down) if any(of)
    )
    linear = len(shapes[attended + "1.proj_in.weight"]) == 2
    config = {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        **_layout(blocks),
        "cross_attention_dim": shapes[attended + "1.transformer_blocks.0.attn2.to_k.weight"][1],
        # Despite its name the number of heads in these families: 8, or channels / 64 with linear projections.
        "attention_head_dim": [max(1, width // HEAD_CHANNELS) for width in blocks.channels] if linear else HEADS_OF_SD1,
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
        "force_upcast": is_xl,  # XL's autoencoder overflows in float16
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
