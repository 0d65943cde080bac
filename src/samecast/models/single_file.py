"""Single-file checkpoints of Stable Diffusion 1.x, 2.x and XL: weights alone; the configuration follows from shapes.

diffusers converts the weights; by itself it would fetch configurations and tokenizers from the hub.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from samecast.core.ddim import PredictionType
from samecast.disk import pending
from samecast.errors import SamecastError
from samecast.models.checkpoint import (
    CLIP,
    OPEN_CLIP,
    REFINER,
    UNET,
    VAE,
    XL_CLIP,
    XL_OPEN_CLIP,
    Header,
    read_header,
)
from samecast.models.clip_tokenizer import VOCABULARY_SIZE
from samecast.models.configs import write_configs
from samecast.models.directory import SKIPPED, XL_SKIPPED, pipeline_class
from samecast.models.quiet import first_line

_log = logging.getLogger(__name__)


def read_single_file(path: Path, dtype: torch.dtype, prediction_type: PredictionType | None = None) -> Any:
    """Loads a single-file checkpoint as a StableDiffusionPipeline, or a StableDiffusionXLPipeline.

    Args:
        path: a `.safetensors` file with U-Net, autoencoder and text encoders.
        dtype: precision to load in.
        prediction_type: what the model predicts; None takes it from the file.

    Raises:
        SamecastError: the file is damaged, incomplete or of another family.
    """
    header = read_header(path)
    is_xl = header.generation == "xl"
    with pending(Path(tempfile.gettempdir())) as folder:
        try:
            _check(path, header)
            write_configs(header, folder, prediction_type or _predicted(path, header))
        except (KeyError, IndexError) as error:
            raise SamecastError(
                f"model {path} is not a supported Stable Diffusion checkpoint: it lacks {error}"
            ) from error
        skipped = XL_SKIPPED if is_xl else SKIPPED
        try:
            pipeline: Any = pipeline_class("xl" if is_xl else "sd").from_single_file(
                str(path), config=str(folder), local_files_only=True, dtype=dtype, **skipped
            )
        except Exception as error:  # a wrong tensor can fail in any of three libraries
            raise SamecastError(f"model {path} cannot be loaded: {first_line(error)}") from error
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        empty = next((name for name, weight in part.named_parameters() if weight.is_meta), None)
        if empty is not None:
            raise SamecastError(f"model {path} cannot be loaded: it lacks the weight {type(part).__name__}'s {empty}")
    return pipeline


def _predicted(path: Path, header: Header) -> PredictionType:
    stated = header.prediction_type()
    if stated is not None:
        return stated
    _log.warning(
        "model %s does not state its prediction type; assumed to be v-prediction, as of a 2.x model at 768 px. If its"
        " images are noise, it is a 512 px model: load it with prediction_type epsilon",
        path,
    )
    return "v_prediction"


def _check(path: Path, header: Header) -> None:
    if header.has(REFINER):
        raise SamecastError(f"model {path} is a refiner, which only refines images; samecast runs base models")
    if header.is_edm:
        raise SamecastError(f"model {path} has EDM's noise levels, which are not supported")
    if header.has(UNET + "time_embed.cond_proj"):
        raise SamecastError(
            f"model {path}: its U-Net takes the guidance scale as an input (LCM), which is not supported"
        )
    is_xl = header.generation == "xl"
    clips = header.has(CLIP) or header.has(OPEN_CLIP)
    parts = {"a U-Net": header.has(UNET), "an autoencoder": header.has(VAE + "encoder.")}
    parts |= (
        {"its first text encoder": header.has(XL_CLIP), "its second text encoder": header.has(XL_OPEN_CLIP)}
        if is_xl
        else {"a text encoder": clips}
    )
    missing = [name for name, present in parts.items() if not present]
    if missing:
        raise SamecastError(
            f"model {path} is not a complete Stable Diffusion checkpoint: it lacks {', '.join(missing)}"
        )
    channels = header.shapes[UNET + "input_blocks.0.0.weight"][1]
    latent = header.shapes[VAE + "encoder.conv_out.weight"][0] // 2
    if channels != latent:
        raise SamecastError(f"model {path} takes {channels} channels for {latent}; inpainting models are not supported")
    for prefix, name in (
        (CLIP, "embeddings.token_embedding.weight"),
        (XL_CLIP, "embeddings.token_embedding.weight"),
        (OPEN_CLIP, "token_embedding.weight"),
        (XL_OPEN_CLIP, "token_embedding.weight"),
    ):
        if header.has(prefix) and header.shapes[prefix + name][0] != VOCABULARY_SIZE:
            raise SamecastError(
                f"model {path} has a vocabulary of {header.shapes[prefix + name][0]}, not CLIP's {VOCABULARY_SIZE};"
                " a single file does not contain its tokenizer: use a pipeline directory"
            )
