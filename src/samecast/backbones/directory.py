"""Pipeline directories, as diffusers saves them."""

import json
from pathlib import Path
from typing import Any

import torch

from samecast.backbones.quiet import first_line
from samecast.errors import SamecastError

INDEX = "model_index.json"
# What samecast runs of a model directory. A safety checker, where there is one, stays on the disk.
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SKIPPED: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}


def read_directory(path: Path, name: str, dtype: torch.dtype) -> Any:
    """Loads a directory as a StableDiffusionPipeline.

    Args:
        path: the directory.
        name: what the user called it, for messages.
        dtype: precision to load in.

    Raises:
        SamecastError: it is incomplete, damaged, or of another family.
    """
    _check_directory(path, name)
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    try:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            str(path), dtype=dtype, use_safetensors=True, local_files_only=True, **SKIPPED
        )
    except Exception as error:  # every broken file raises a type of its own
        raise SamecastError(f"model {name} cannot be loaded: {first_line(error)}") from error
    channels, latent = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if channels != latent:
        raise SamecastError(f"model {name} takes {channels} channels for {latent}; inpainting models are not supported")
    return pipeline


def _check_directory(path: Path, name: str) -> None:
    if not (path / INDEX).is_file():
        raise SamecastError(f"model {name} is not a diffusers pipeline directory: it has no {INDEX}")
    check_index(path / INDEX, name)
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise SamecastError(f"model {name} lacks {', '.join(missing)}; the download may be incomplete")


def check_index(index: Path, name: str) -> None:
    """Refuses what is not of the family, by the file that names a pipeline's parts."""
    try:
        parts: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SamecastError(f"model {name} has a damaged {INDEX}: {first_line(error)}") from error
    if "text_encoder_2" in parts or parts.get("unet", [None, None])[1] != "UNet2DConditionModel":
        raise SamecastError(
            f"model {name} is a {parts.get('_class_name', 'model of another kind')};"
            " samecast runs the Stable Diffusion 1.x and 2.x family"
        )
