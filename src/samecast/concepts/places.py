"""Finds a concept's parameters in a pipeline."""

from collections.abc import Iterator
from typing import Any, Literal

import torch

from samecast.concepts.architectures import FAMILY
from samecast.concepts.concept import Change, Value
from samecast.errors import SamecastError

Mode = Literal["kv", "crossattn"]
"""What Custom Diffusion trains in cross-attention: keys and values, or queries and outputs as well."""

_LAYERS: dict[Mode, tuple[str, ...]] = {"kv": ("to_k", "to_v"), "crossattn": ("to_k", "to_v", "to_q", "to_out.0")}


def find_pipeline(model: Any) -> Any:
    """The diffusers pipeline of a `samecast.Model` or a backbone, or the pipeline itself.

    Raises:
        SamecastError: `model` has no pipeline of the Stable Diffusion family.
    """
    backbone = getattr(model, "backbone", model)
    pipeline = getattr(backbone, "pipeline", backbone)
    if isinstance(getattr(pipeline, "transformer", None), torch.nn.Module):
        raise SamecastError(
            f"a {type(pipeline).__name__} takes no concepts: they are learned and applied on {FAMILY}, so far"
        )
    if not isinstance(getattr(pipeline, "unet", None), torch.nn.Module) or not hasattr(pipeline, "text_encoder"):
        raise SamecastError(
            f"a {type(model).__name__} takes no concepts: expected a samecast model, or a diffusers pipeline of the"
            " Stable Diffusion family"
        )
    return pipeline


def cross_attention_parameters(model: Any, mode: Mode = "kv") -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters that Custom Diffusion trains, with their names, in the U-Net's order.

    Args:
        model: as for `find_pipeline`.
        mode: `kv` for keys and values, `crossattn` for queries and outputs as well.
    """
    unet = find_pipeline(model).unet
    for path, module in unet.named_modules():
        if not path.endswith("attn2"):
            continue
        for layer in _LAYERS[mode]:
            linear = _unwrapped(module.get_submodule(layer))
            for leaf, parameter in linear.named_parameters():
                yield f"unet.{path}.{layer}.{leaf}", parameter


def find_parameter(pipeline: Any, name: str, change: Change, label: str) -> torch.nn.Parameter:
    """The parameter of a name, checked: the change fits it and takes effect.

    Args:
        pipeline: the pipeline to look in.
        name: as in `Concept.changes`.
        change: the change to apply.
        label: the concept's name in messages.

    Raises:
        SamecastError: it does not exist, has another shape, is not used by the model, or cannot be written.
    """
    part, _, rest = name.partition(".")
    path, _, leaf = rest.rpartition(".")
    module = _find_module(getattr(pipeline, part, None), path)
    parameter = getattr(module, leaf, None)
    if not isinstance(parameter, torch.nn.Parameter):
        raise SamecastError(f"{label} changes {name}, which this model does not have: it belongs to another model")
    if isinstance(change, Value):
        fits, shape = change.value.shape == parameter.shape, tuple(change.value.shape)
    else:
        shape = (change.up.shape[0], change.down.flatten(1).shape[1])
        fits = shape == tuple(parameter.flatten(1).shape)
    if not fits:
        raise SamecastError(
            f"{label} has {name} of shape {shape}, but this model has {tuple(parameter.shape)}: it belongs to"
            " another model"
        )
    if parameter.is_meta:
        raise SamecastError(f"{name} is offloaded: apply concepts before enabling offloading")
    if not parameter.is_floating_point():
        raise SamecastError(
            f"{name} is quantised, and concepts cannot be written into it: load the model without quantisation"
        )
    _check_is_read(pipeline, part, path)
    return parameter


def _find_module(part: Any, path: str) -> Any:
    """A module by path; some versions of text encoders have a `text_model` level, and LoRAs wrap their layers."""
    if not isinstance(part, torch.nn.Module):
        return None
    for prefix in ("", "text_model."):
        try:
            return _unwrapped(part.get_submodule(prefix + path))
        except AttributeError:
            continue
    return None


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    base = getattr(module, "base_layer", None)
    return base if isinstance(base, torch.nn.Module) else module


def _check_is_read(pipeline: Any, part: str, path: str) -> None:
    """Refuses layers whose projections have been replaced: a change would have no effect."""
    attention, found, _ = path.rpartition(".to_")
    if part != "unet" or not found:
        return
    layer = pipeline.unet.get_submodule(attention)
    if getattr(layer, "fused_projections", False):
        raise SamecastError(f"{attention} has fused projections; call pipeline.unfuse_qkv_projections() first")
    processor = type(layer.processor).__name__
    if processor.startswith("CustomDiffusion"):
        raise SamecastError(f"{attention} has a {processor}, which has its own keys and values; unload it first")
