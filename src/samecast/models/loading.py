"""Loads a model by name: a directory, a hub id or a single file; every failure is one line.

Weights are read from safetensors only: a pickle can run arbitrary code.
"""

import re
from pathlib import Path
from typing import Any

import torch

from samecast.checked import check_text
from samecast.core.ddim import PredictionType
from samecast.core.embedded import EMBEDDED
from samecast.disk import expanded, is_file, is_folder
from samecast.errors import SamecastError
from samecast.models.base import Backbone, ModelIdentity
from samecast.models.directory import ALL_PARTS, is_transformer, read_directory
from samecast.models.families import FAMILIES
from samecast.models.fingerprint import PICKLES, directory_revision, file_revision
from samecast.models.hub import download
from samecast.models.joint import JointBackbone
from samecast.models.quiet import first_line, quiet_libraries
from samecast.models.single_file import read_single_file
from samecast.models.unet import UNetBackbone
from samecast.models.xl import XLBackbone

EMBEDDED_PATH = Path(__file__).parents[1] / "weights" / EMBEDDED
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load_backbone(
    model: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    prediction_type: str = "auto",
) -> Backbone:
    """Loads a model of any supported family.

    Args:
        model: `diorama` (the embedded model), a pipeline directory, a single `.safetensors` file, or a hub id.
        device: `auto` chooses CUDA, then Apple's MPS, then the CPU; or any device name of torch, such as `cuda:1`.
        dtype: `auto` is float16 on CUDA, bfloat16 there for transformers, and float32 elsewhere; or float32, float16,
            bfloat16.
        revision: branch, tag or commit of a hub id.
        prediction_type: what a U-Net predicts, `epsilon` or `v_prediction`; `auto` takes it from its configuration or,
            for a single file, from its metadata.

    Raises:
        SamecastError: the model is missing, unreachable, of another family, or a pickle.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    predicted = choose_prediction_type(prediction_type)
    path, identity = _locate(model, revision)
    with quiet_libraries():
        if path.is_file():
            pipeline = read_single_file(path, precision, predicted)
        else:
            if dtype == "auto" and place.type == "cuda" and is_transformer(path, identity.id):
                precision = torch.bfloat16  # what they are trained in; many overflow in float16
            pipeline = read_directory(path, identity.id, precision)
        if predicted is not None:
            if not hasattr(pipeline, "unet"):
                raise SamecastError(
                    f"model {identity.id} is a {type(pipeline).__name__}, whose prediction type is known:"
                    " leave prediction_type out"
                )
            pipeline.scheduler.register_to_config(prediction_type=predicted)
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.eval().requires_grad_(False)
        pipeline.to(place)
    return adapt(pipeline, identity)


def adapt(pipeline: Any, identity: ModelIdentity) -> UNetBackbone | JointBackbone:
    """Wraps a pipeline in the adapter of its family; a U-Net with pooled text and time ids is XL's."""
    if (family := FAMILIES.get(type(pipeline).__name__)) is not None:
        return family(pipeline, identity)
    kind = XLBackbone if pipeline.unet.config.addition_embed_type == "text_time" else UNetBackbone
    return kind(pipeline, identity)


def choose_device(device: str) -> torch.device:
    """The device for `auto` or for a torch device name, checked to be available.

    Raises:
        SamecastError: this machine has no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch raises AssertionError if compiled without CUDA.
        raise SamecastError(f"device {device!r} cannot be used here: {first_line(error)}") from None
    return place


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision for `auto` or one of DTYPES; `auto` is float16 on CUDA alone, where it is faster.

    Raises:
        SamecastError: the name is unknown.
    """
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise SamecastError(f"dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}")
    return DTYPES[dtype]


def choose_prediction_type(prediction_type: str) -> PredictionType | None:
    """The prediction type; None for `auto`.

    Raises:
        SamecastError: the name is unknown.
    """
    if prediction_type == "auto":
        return None
    if prediction_type not in ("epsilon", "v_prediction"):
        raise SamecastError(f"prediction_type must be auto, epsilon or v_prediction; got {prediction_type!r}")
    return prediction_type


def _locate(model: str | Path, revision: str | None) -> tuple[Path, ModelIdentity]:
    """The path of the model's files, fetched if needed, and their identity."""
    name = check_text(str(model), "the model's name")  # stored in records
    path = EMBEDDED_PATH if name == EMBEDDED else expanded(model)
    if path.suffix.lower() in PICKLES:
        raise SamecastError(f"model {name} is a pickle, which could run any code; convert it to .safetensors first")
    if is_file(path):
        return path, ModelIdentity(name, file_revision(path))
    if is_folder(path):
        return path, ModelIdentity(name, directory_revision(path, ALL_PARTS))
    if name == EMBEDDED:
        raise SamecastError(f"the embedded model is missing at {path}; reinstall samecast")
    if not _HUB_ID.fullmatch(name):
        raise SamecastError(
            f"model {name} does not exist; give a directory, a .safetensors file or a hub id like owner/name"
        )
    snapshot = download(name, revision)
    return snapshot, ModelIdentity(name, snapshot.name)
