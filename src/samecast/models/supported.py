"""Checks a pipeline's configurations for unsupported features before any weight is loaded.

A denoiser with inputs besides latents, timestep and text, another kind of noise schedule, or another autoencoder would
run and give wrong images without an error; so each is refused by name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from samecast.checked import parse_json, read_text, shown
from samecast.errors import SamecastError

# Schedulers over DDPM's cumulative alphas. Others (EDM, flow matching, consistency models) have other noise levels,
# which DDIM's would replace silently.
DIFFUSION_SCHEDULERS = frozenset(
    {
        "DDIMScheduler",
        "DDIMParallelScheduler",
        "DDIMInverseScheduler",
        "DDPMScheduler",
        "DDPMParallelScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverMultistepInverseScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "IPNDMScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)
_BLOCKS = frozenset(
    {
        "DownBlock2D",
        "CrossAttnDownBlock2D",
        "UpBlock2D",
        "CrossAttnUpBlock2D",
        "UNetMidBlock2DCrossAttn",
        "UNetMidBlock2D",
    }
)
_CLASSES = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
    "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
_UNET_WANTS = {
    "class_embed_type": "class labels",
    "num_class_embeds": "class labels",
    "encoder_hid_dim_type": "an image prompt or a projection of the text",
    "encoder_hid_dim": "a projection of the text",
    "time_cond_proj_dim": "the guidance scale as an input (LCM)",
    "only_cross_attention": "text in place of self-attention",
    "mid_block_only_cross_attention": "text in place of self-attention",
    "dual_cross_attention": "two texts",
}
_TEXT_MODELS = ("clip", "clip_text_model")


def check_classes(parts: Mapping[str, Any], name: str, expected: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Refuses an index whose parts have unsupported classes.

    Args:
        parts: the contents of `model_index.json`: [library, class] by part.
        name: the model's name in messages.
        expected: the classes that the family runs, by part; None is those of U-Nets.

    Raises:
        SamecastError: a class is not supported.
    """
    for part, classes in (expected or _CLASSES).items():
        data = parts.get(part)
        if data is None:
            continue
        pair = cast(list[Any], data) if isinstance(data, list) else []
        if pair == [None, None]:  # a part that the pipeline can do without
            continue
        if len(pair) != 2 or not isinstance(pair[1], str):
            raise SamecastError(f"model {name}: its index must give [library, class] for {part}; got {shown(data)}")
        if pair[1] not in classes:
            raise SamecastError(f"model {name} has a {pair[1]} as {part}; samecast runs {' or '.join(classes)}")


def check_configs(directory: Path, name: str, *, second: bool) -> None:
    """Refuses a pipeline directory whose configuration files need unsupported features.

    Args:
        directory: the pipeline directory.
        name: the model's name in messages.
        second: whether it has a second text encoder.

    Raises:
        SamecastError: a file is damaged or needs an unsupported feature.
    """
    check_unet(_config(directory, "unet", name), name)
    check_vae(_config(directory, "vae", name), name)
    check_scheduler(_config(directory, "scheduler", name, "scheduler_config.json"), name)
    for part in ("text_encoder", *(("text_encoder_2",) if second else ())):
        kind = _config(directory, part, name).get("model_type", "clip_text_model")
        if kind not in _TEXT_MODELS:
            raise SamecastError(f"model {name} has a {shown(kind)} as {part}; samecast runs CLIP's text models")


def check_unet(config: Mapping[str, Any], name: str) -> None:
    """Refuses a U-Net with inputs besides latents, timestep and text, or with another kind of attention."""
    for field, what in _UNET_WANTS.items():
        value = config.get(field)
        if any(cast(list[Any], value)) if isinstance(value, list) else value not in (None, False):
            raise SamecastError(
                f"model {name}: its U-Net takes {what} ({field} {shown(value)}), which is not supported"
            )
    added = config.get("addition_embed_type")
    if added not in (None, "text_time"):
        raise SamecastError(f"model {name}: its U-Net takes {shown(added)} conditions, which is not supported")
    if config.get("attention_type", "default") != "default":
        raise SamecastError(f"model {name}: its U-Net has {shown(config['attention_type'])} attention (GLIGEN)")
    blocks = [
        block
        for field in ("down_block_types", "mid_block_type", "up_block_types")
        for block in _listed(config.get(field))
        if block is not None
    ]
    others = [block for block in blocks if not isinstance(block, str) or block not in _BLOCKS]
    if others:
        raise SamecastError(f"model {name}: its U-Net has a {shown(others[0])}, whose attention cannot be controlled")


def _listed(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else [value]


def check_vae(config: Mapping[str, Any], name: str) -> None:
    """Refuses another class of autoencoder, or one that shifts its latents."""
    kind = config.get("_class_name", "AutoencoderKL")
    if kind != "AutoencoderKL":
        raise SamecastError(f"model {name} has a {shown(kind)} as vae; samecast runs AutoencoderKL")
    for field in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(field) is not None:
            raise SamecastError(f"model {name}: its autoencoder shifts its latents ({field}), which is not supported")


def check_scheduler(config: Mapping[str, Any], name: str) -> None:
    """Refuses noise levels other than DDPM's cumulative alphas."""
    kind = config.get("_class_name", "DDIMScheduler")
    if not isinstance(kind, str) or kind not in DIFFUSION_SCHEDULERS:
        raise SamecastError(f"model {name} uses {shown(kind)}, whose noise levels are not supported")
    for field in ("use_flow_sigmas", "sigma_max", "sigma_data"):
        if config.get(field):
            raise SamecastError(f"model {name}: its schedule sets {field}, and such noise levels are not supported")
    if config.get("timestep_type", "discrete") != "discrete":
        raise SamecastError(f"model {name} has {shown(config['timestep_type'])} timesteps, which are not supported")


def _config(directory: Path, part: str, name: str, file: str = "config.json") -> dict[str, Any]:
    path = directory / part / file
    if not path.is_file():
        raise SamecastError(f"model {name} lacks {part}/{file}; the download may be incomplete")
    complaint = f"model {name} has a damaged {part}/{file}"
    data = parse_json(read_text(path), complaint)
    if not isinstance(data, dict):
        raise SamecastError(f"{complaint}: expected an object; got {shown(data)}")
    return cast(dict[str, Any], data)
