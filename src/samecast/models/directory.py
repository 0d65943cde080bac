"""Pipeline directories, as diffusers saves them."""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch

from samecast.checked import Within, check_value, parse_json, read_text, shown
from samecast.errors import SamecastError
from samecast.models.base import GUIDANCE
from samecast.models.families import FAMILIES, REFUSED, SUPPORTED
from samecast.models.quiet import first_line
from samecast.models.supported import check_classes, check_configs

INDEX = "model_index.json"
# The parts of a model directory that samecast runs. A safety checker is not loaded.
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
XL_PARTS = (*PARTS, "text_encoder_2", "tokenizer_2")
ALL_PARTS = (*XL_PARTS, "transformer", "text_encoder_3", "tokenizer_3")
"""Of models of any family."""
SKIPPED: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}
XL_SKIPPED: dict[str, Any] = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}

_HALF = re.compile(r"\.fp16[.-]")

Family = str
"""`sd`, `xl`, or the name of a pipeline in `FAMILIES`."""


def pipeline_class(family: Family) -> Any:
    """The diffusers pipeline of a family."""
    if family in FAMILIES:
        return getattr(import_module("diffusers"), family)
    if family == "xl":
        from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

        return StableDiffusionXLPipeline
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    return StableDiffusionPipeline


def read_directory(path: Path, name: str, dtype: torch.dtype) -> Any:
    """Loads a directory as the pipeline of its family.

    Args:
        path: the directory.
        name: the model's name in messages.
        dtype: precision to load in.

    Raises:
        SamecastError: the directory is incomplete, damaged, or of another family.
    """
    family = _check_directory(path, name)
    skipped = skipped_of(family)
    variant = variant_of(file.relative_to(path).as_posix() for file in path.rglob("*.safetensors"))
    try:
        pipeline: Any = pipeline_class(family).from_pretrained(
            str(path), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant, **skipped
        )
    except Exception as error:  # damaged files raise many types of exception
        raise SamecastError(f"model {name} cannot be loaded: {first_line(error)}") from error
    if family not in FAMILIES:  # whose adapters do it
        channels, latent = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
        if channels != latent:
            raise SamecastError(
                f"model {name} takes {channels} channels for {latent}; inpainting models are not supported"
            )
    _keep_guidance(pipeline, path, name)
    return pipeline


def is_transformer(path: Path, name: str) -> bool:
    """Whether a directory is of a family in `FAMILIES`."""
    return (path / INDEX).is_file() and check_index(path / INDEX, name) in FAMILIES


def skipped_of(family: Family) -> dict[str, Any]:
    """What of a pipeline is not loaded, as arguments of `from_pretrained`."""
    if family in FAMILIES:
        return dict.fromkeys(FAMILIES[family].skipped)
    return XL_SKIPPED if family == "xl" else SKIPPED


def _keep_guidance(pipeline: Any, path: Path, name: str) -> None:
    """Copies the index's guidance scale into the pipeline's configuration, from which diffusers drops it."""
    data = _read_index(path / INDEX, name).get(GUIDANCE)
    if data is not None:
        check_value(data, Annotated[float, Within(0, 1000)], f"{GUIDANCE} in {INDEX} of model {name}")
        pipeline.register_to_config(**{GUIDANCE: float(data)})


def variant_of(files: Iterable[str]) -> str | None:
    """The variant of a pipeline to load: `fp16` if some part's weights exist in that precision alone.

    Args:
        files: paths within the pipeline, with `/`.
    """
    weights = [Path(file) for file in files if file.endswith(".safetensors")]
    parts = {file.parent.as_posix() for file in weights} & set(ALL_PARTS)
    plain = {file.parent.as_posix() for file in weights if not _HALF.search(file.name)}
    return "fp16" if parts - plain else None


def _check_directory(path: Path, name: str) -> Family:
    if not (path / INDEX).is_file():
        raise SamecastError(f"model {name} is not a diffusers pipeline directory: it has no {INDEX}")
    family = check_index(path / INDEX, name)
    parts = XL_PARTS if family == "xl" else PARTS
    if family in FAMILIES:
        index = _read_index(path / INDEX, name)
        parts = tuple(part for part in FAMILIES[family].parts if _class_of(index, part) is not None)
    missing = [part for part in parts if not (path / part).is_dir()]
    if missing:
        raise SamecastError(f"model {name} lacks {', '.join(missing)}; the download may be incomplete")
    if family in FAMILIES:
        return family
    check_configs(path, name, second=family == "xl")
    return family


def check_index(index: Path, name: str) -> Family:
    """The model family, from the index of a pipeline.

    Raises:
        SamecastError: the family is not supported, or the file is damaged.
    """
    parts = _read_index(index, name)
    kind = shown(parts.get("_class_name", "model of another kind")).strip("'")
    if kind in FAMILIES:
        check_classes(parts, name, FAMILIES[kind].parts)
        return kind
    if kind in REFUSED:
        raise SamecastError(f"model {name} is a {kind}, which is not supported: {REFUSED[kind]}")
    has_unet = _class_of(parts, "unet") == "UNet2DConditionModel"
    is_xl = "text_encoder_2" in parts
    if not has_unet or (is_xl and not kind.startswith("StableDiffusionXL")):
        raise SamecastError(f"model {name} is a {kind}; samecast runs {SUPPORTED}")
    if is_xl and _class_of(parts, "text_encoder") is None:
        raise SamecastError(f"model {name} is a refiner, which only refines images; samecast runs base models")
    check_classes(parts, name)
    return "xl" if is_xl else "sd"


def _read_index(index: Path, name: str) -> dict[str, Any]:
    data = parse_json(read_text(index), f"model {name} has a damaged {INDEX}")
    if not isinstance(data, dict):
        raise SamecastError(f"model {name} has a damaged {INDEX}: expected an object; got {shown(data)}")
    return data


def _class_of(parts: dict[str, Any], part: str) -> str | None:
    """The class of a part in an index, where it is stored as [library, class]."""
    data = parts.get(part)
    return str(data[1]) if isinstance(data, list) and len(data) == 2 and data[1] is not None else None
