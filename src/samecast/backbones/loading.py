"""From a name to a running model: a directory, a hub id or a single file; every failure is one line.

Weights are read from safetensors only: a pickle runs whatever code its author put in.
"""

import json
import re
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import hf_hub_download
from transformers.utils import logging as transformers_logging

from samecast.backbones.base import ModelIdentity
from samecast.backbones.fingerprint import directory_revision, file_revision
from samecast.backbones.single_file import read_single_file
from samecast.backbones.unet import UNetBackbone
from samecast.errors import SamecastError

EMBEDDED = "diorama"
INDEX = "model_index.json"
EMBEDDED_PATH = Path(__file__).parents[1] / "weights" / EMBEDDED
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
# What samecast runs of a model directory. A safety checker, where there is one, stays on the disk.
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SKIPPED: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}


def load_backbone(
    model: str | Path = EMBEDDED,
    *,
    device: str = "auto",
    dtype: str = "auto",
    lora: Sequence[str | Path] = (),
    revision: str | None = None,
) -> UNetBackbone:
    """Loads a model of the Stable Diffusion 1.x / 2.x family.

    Args:
        model: `diorama` (the embedded model), a pipeline directory, a single `.safetensors` file, or a hub id.
        device: `auto` takes CUDA, then Apple's MPS, then the CPU; or any name torch knows, such as `cuda:1`.
        dtype: `auto` is float16 on CUDA and float32 elsewhere; or float32, float16, bfloat16.
        lora: LoRA files or directories, all added at full strength.
        revision: branch, tag or commit of a hub id.

    Raises:
        SamecastError: the model is missing, unreachable, not of this family, or pickled.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    path, identity = _locate(model, revision)
    with _quiet_libraries():
        if path.is_file():
            pipeline = read_single_file(path, precision, _SKIPPED)
        else:
            pipeline = _read_directory(path, identity.id, precision)
        pipeline.set_progress_bar_config(disable=True)
        if lora:
            identity = _add_lora(pipeline, identity, [Path(path) for path in lora])
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.eval().requires_grad_(False)
        pipeline.to(place)
    return UNetBackbone(pipeline, identity)


def choose_device(device: str) -> torch.device:
    """`auto` or a name that torch knows, checked to be there.

    Raises:
        SamecastError: no such device on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        # torch raises AssertionError where it was compiled without CUDA.
        raise SamecastError(f"device {device!r} cannot be used here: {_first_line(error)}") from None
    return place


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto` or one of DTYPES: float16 pays on CUDA alone.

    Raises:
        SamecastError: another name.
    """
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise SamecastError(f"dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}")
    return DTYPES[dtype]


def _locate(model: str | Path, revision: str | None) -> tuple[Path, ModelIdentity]:
    """Where the model's files lie, after fetching them if need be, and which they are."""
    name = str(model)
    path = EMBEDDED_PATH if name == EMBEDDED else Path(model).expanduser()
    if path.suffix.lower() in PICKLES:
        raise SamecastError(f"model {name} is a pickle, which could run any code; convert it to .safetensors first")
    if path.is_file():
        return path, ModelIdentity(name, file_revision(path))
    if path.is_dir():
        return path, ModelIdentity(name, directory_revision(path, PARTS))
    if name == EMBEDDED:
        raise SamecastError(f"the embedded model is missing at {path}; reinstall samecast")
    if not _HUB_ID.fullmatch(name):
        raise SamecastError(
            f"model {name} does not exist; give a directory, a .safetensors file or a hub id like owner/name"
        )
    snapshot = _download(name, revision)
    return snapshot, ModelIdentity(name, snapshot.name)


def _download(hub_id: str, revision: str | None) -> Path:
    """The local snapshot of a hub repository, whose folder is named after the commit. Shows the hub's own bars."""
    with _quiet_libraries():
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    try:
        index = Path(hf_hub_download(hub_id, INDEX, revision=revision))
        _check_index(index, hub_id)  # before gigabytes of another family come down
        return Path(
            StableDiffusionPipeline.download(hub_id, revision=revision, use_safetensors=True, safety_checker=None)
        )
    except SamecastError:
        raise
    except Exception as error:  # the hub's client raises a dozen unrelated types
        raise SamecastError(
            f"model {hub_id} is no local path and could not be fetched from the hub: {_first_line(error)}"
        ) from error


def _read_directory(path: Path, name: str, dtype: torch.dtype) -> Any:
    _check_directory(path, name)
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    try:
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            str(path), dtype=dtype, use_safetensors=True, local_files_only=True, **_SKIPPED
        )
    except Exception as error:  # every broken file raises a type of its own
        raise SamecastError(f"model {name} cannot be loaded: {_first_line(error)}") from error
    channels, latent = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if channels != latent:
        raise SamecastError(f"model {name} takes {channels} channels for {latent}; inpainting models are not supported")
    return pipeline


def _check_directory(path: Path, name: str) -> None:
    if not (path / INDEX).is_file():
        raise SamecastError(f"model {name} is not a diffusers pipeline directory: it has no {INDEX}")
    _check_index(path / INDEX, name)
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise SamecastError(f"model {name} lacks {', '.join(missing)}; the download may be incomplete")


def _check_index(index: Path, name: str) -> None:
    """Refuses what is not of the family, by the file that names a pipeline's parts."""
    try:
        parts: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SamecastError(f"model {name} has a damaged {INDEX}: {_first_line(error)}") from error
    if "text_encoder_2" in parts or parts.get("unet", [None, None])[1] != "UNet2DConditionModel":
        raise SamecastError(
            f"model {name} is a {parts.get('_class_name', 'model of another kind')};"
            " samecast runs the Stable Diffusion 1.x and 2.x family"
        )


def _add_lora(pipeline: Any, identity: ModelIdentity, paths: Sequence[Path]) -> ModelIdentity:
    names: list[str] = []
    loaded: list[tuple[str, str]] = []
    for path in paths:
        if path.suffix.lower() in PICKLES:
            raise SamecastError(f"LoRA {path} is a pickle, which could run any code; convert it to .safetensors first")
        file = path / "pytorch_lora_weights.safetensors" if path.is_dir() else path
        if not file.is_file():
            raise SamecastError(
                f"LoRA {path} does not exist; expected a .safetensors file or a directory with {file.name}"
            )
        name = f"lora_{len(names)}"
        try:
            pipeline.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
        except Exception as error:  # a LoRA of another model fails in torch, peft or diffusers, each its own way
            raise SamecastError(f"LoRA {path} does not fit model {identity.id}: {_first_line(error)}") from error
        if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
            raise SamecastError(f"LoRA {path} has no weights for model {identity.id}")
        names.append(name)
        loaded.append((str(path), file_revision(file)))
    pipeline.set_adapters(names)
    return ModelIdentity(identity.id, identity.revision, tuple(loaded))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


@contextmanager
def _quiet_libraries() -> Generator[None]:
    """Holds back the libraries' own chatter and bars while loading; failures still raise."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    levels = [library.get_verbosity() for library in libraries]
    bars = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Their remarks on their own interfaces, and on a second adapter beside a first.
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level, bar in zip(libraries, levels, bars, strict=True):
            library.set_verbosity(level)
            if bar:
                library.enable_progress_bar()
