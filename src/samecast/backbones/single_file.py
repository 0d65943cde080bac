"""Single-file checkpoints of Stable Diffusion 1.x and 2.x: weights alone; the configurations are read off the shapes.

diffusers converts the weights; left to itself it would fetch the configurations and the tokenizer from the hub. What
shapes do not tell (heads, norm groups, the latent's scale) is the same in all models of the family.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from samecast.backbones.clip_tokenizer import END, VOCABULARY_SIZE, write_tokenizer
from samecast.backbones.quiet import first_line
from samecast.errors import SamecastError

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OPEN_CLIP = "cond_stage_model.transformer.text_model.", "cond_stage_model.model."
LAYERS_PER_BLOCK, HEAD_CHANNELS, HEADS_OF_SD1 = 2, 64, 8


@dataclass(frozen=True)
class Header:
    """What a checkpoint says of itself without its weights being read.

    Args:
        shapes: of each tensor, by key.
        metadata: free text by key; `modelspec.*` where the writer kept to that convention.
    """

    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    def count(self, template: str) -> int:
        """How many numbers, from 0 up without a gap, make a key's beginning of a template with `{}`."""
        number = 0
        while any(key.startswith(template.format(number)) for key in self.shapes):
            number += 1
        return number

    def has(self, prefix: str) -> bool:
        """Whether any key starts so."""
        return any(key.startswith(prefix) for key in self.shapes)


def read_single_file(path: Path, dtype: torch.dtype, skipped: dict[str, Any]) -> Any:
    """Loads a single-file checkpoint as a StableDiffusionPipeline.

    Args:
        path: a `.safetensors` file with U-Net, autoencoder and text encoder.
        dtype: precision to load in.
        skipped: components that are not wanted, as keyword arguments of the pipeline.

    Raises:
        SamecastError: the file is damaged, incomplete or of another family.
    """
    header = _read_header(path)
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    with tempfile.TemporaryDirectory() as folder:
        try:
            _check(path, header)
            write_configs(header, Path(folder))
        except (KeyError, IndexError) as error:
            raise SamecastError(f"model {path} is no Stable Diffusion checkpoint: it lacks {error}") from error
        try:
            return StableDiffusionPipeline.from_single_file(
                str(path), config=folder, local_files_only=True, dtype=dtype, **skipped
            )
        except Exception as error:  # a wrong tensor fails in any of three libraries
            raise SamecastError(f"model {path} cannot be loaded: {first_line(error)}") from error


def write_configs(header: Header, directory: Path) -> None:
    """Writes a pipeline directory without weights that fits the checkpoint."""
    is_sd2 = header.has(OPEN_CLIP)
    velocity = predicts_velocity(header)
    sample_size = 96 if is_sd2 and velocity else 64
    configs: dict[str, dict[str, Any]] = {
        "unet": _unet_config(header) | {"sample_size": sample_size},
        "vae": _vae_config(header),
        "text_encoder": _open_clip_config(header) if is_sd2 else _clip_config(header),
        "scheduler": {
            "_class_name": "DDIMScheduler",
            "beta_schedule": "scaled_linear",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "prediction_type": "v_prediction" if velocity else "epsilon",
        },
    }
    for part, config in configs.items():
        (directory / part).mkdir()
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (directory / part / name).write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(directory / "tokenizer", pad_token="!" if is_sd2 else END)
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (directory / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def predicts_velocity(header: Header) -> bool:
    """Whether it is a v-prediction model: as it says itself, or, where it says nothing, as 2.x models mostly are.

    The weights cannot tell. diffusers, too, takes a silent 2.x checkpoint for 2.1 at 768 px.
    """
    stated = header.metadata.get("modelspec.prediction_type")
    if stated is not None:
        return stated.startswith("v")
    return "v_pred" in header.shapes or header.has(OPEN_CLIP)


def _read_header(path: Path) -> Header:
    try:
        with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
            opened: Any = file
            shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return Header(shapes, dict(opened.metadata() or {}))
    except Exception as error:  # its own error class is private
        raise SamecastError(f"model {path} is not a sound .safetensors file: {first_line(error)}") from error


def _check(path: Path, header: Header) -> None:
    if header.has("conditioner.embedders."):
        raise SamecastError(
            f"model {path} is an SDXL checkpoint in a single file; samecast reads SDXL from a diffusers directory"
        )
    parts = {"a U-Net": header.has(UNET), "an autoencoder": header.has(VAE + "encoder.")}
    parts["a text encoder"] = header.has(CLIP) or header.has(OPEN_CLIP)
    missing = [name for name, present in parts.items() if not present]
    if missing:
        raise SamecastError(f"model {path} is no complete Stable Diffusion checkpoint: it lacks {', '.join(missing)}")
    channels = header.shapes[UNET + "input_blocks.0.0.weight"][1]
    latent = header.shapes[VAE + "encoder.conv_out.weight"][0] // 2
    if channels != latent:
        raise SamecastError(f"model {path} takes {channels} channels for {latent}; inpainting models are not supported")
    embedding = CLIP + "embeddings.token_embedding.weight" if header.has(CLIP) else OPEN_CLIP + "token_embedding.weight"
    if header.shapes[embedding][0] != VOCABULARY_SIZE:
        raise SamecastError(
            f"model {path} has a vocabulary of {header.shapes[embedding][0]}, not CLIP's {VOCABULARY_SIZE};"
            " a single file cannot say which: use a pipeline directory"
        )


def _unet_config(header: Header) -> dict[str, Any]:
    shapes, per_level = header.shapes, LAYERS_PER_BLOCK + 1
    levels = header.count(UNET + "input_blocks.{}.") // per_level
    first_of = [UNET + f"input_blocks.{1 + per_level * level}." for level in range(levels)]
    channels = [shapes[first + "0.out_layers.3.weight"][0] for first in first_of]
    crossed = [header.has(first + "1.transformer_blocks.") for first in first_of]
    linear = len(shapes[first_of[0] + "1.proj_in.weight"]) == 2
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": shapes[UNET + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET + "out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": LAYERS_PER_BLOCK,
        "down_block_types": ["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crossed],
        "up_block_types": ["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in reversed(crossed)],
        "cross_attention_dim": shapes[first_of[0] + "1.transformer_blocks.0.attn2.to_k.weight"][1],
        # Named a dimension, but a number of heads, in these two families: 8, or channels / 64 with linear projections.
        "attention_head_dim": [width // HEAD_CHANNELS for width in channels] if linear else HEADS_OF_SD1,
        "use_linear_projection": linear,
    }


def _vae_config(header: Header) -> dict[str, Any]:
    levels = header.count(VAE + "encoder.down.{}.")
    channels = [header.shapes[VAE + f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)]
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": channels,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": header.count(VAE + "encoder.down.0.block.{}."),
        "latent_channels": header.shapes[VAE + "encoder.conv_out.weight"][0] // 2,
        "scaling_factor": 0.18215,
    }


def _clip_config(header: Header) -> dict[str, Any]:
    width = header.shapes[CLIP + "embeddings.token_embedding.weight"][1]
    return _text_config(
        width,
        header.shapes[CLIP + "encoder.layers.0.mlp.fc1.weight"][0],
        header.count(CLIP + "encoder.layers.{}."),
        "quick_gelu",
    )


def _open_clip_config(header: Header) -> dict[str, Any]:
    width = header.shapes[OPEN_CLIP + "token_embedding.weight"][1]
    # Stable Diffusion 2.x reads the last layer but one; diffusers leaves the last out.
    layers = header.count(OPEN_CLIP + "transformer.resblocks.{}.") - 1
    return _text_config(width, header.shapes[OPEN_CLIP + "transformer.resblocks.0.mlp.c_fc.weight"][0], layers, "gelu")


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
