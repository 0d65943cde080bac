"""Names of a U-Net's layers in diffusers, CompVis (and Stability) and kohya's scripts.

CompVis numbers all blocks: `input_blocks.4.1` is the attention after the fourth convolution or residual block.
diffusers numbers levels and blocks within a level: `down_blocks.1.attentions.0`. All models of the family have two
layers per level in the encoder and three in the decoder. kohya's names are paths with underscores for dots.
"""

import re
from collections.abc import Iterable
from functools import cache

from samecast.concepts.concept import TEXT_ENCODERS, Family
from samecast.errors import SamecastError

_DOWN, _UP = 3, 3  # blocks per level of the encoder, with the downsampler, and of the decoder

# Path segments that contain underscores; the longest match is used.
_COMPOUND = (
    *("down_blocks", "up_blocks", "mid_block", "input_blocks", "output_blocks", "middle_block", "transformer_blocks"),
    *("to_q", "to_k", "to_v", "to_out", "proj_in", "proj_out", "conv_in", "conv_out", "conv_shortcut"),
    *("time_emb_proj", "time_embedding", "add_embedding", "linear_1", "linear_2", "in_layers", "out_layers"),
    *("emb_layers", "skip_connection", "time_embed", "label_emb", "text_model", "text_projection"),
    *("self_attn", "q_proj", "k_proj", "v_proj", "out_proj", "base_model", "diffusion_model"),
)
_RESIDUAL = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.2": "conv_out",
}


PART_NAMES = {
    **dict.fromkeys(("unet", "diffusion_model"), "unet"),
    **dict.fromkeys(("text_encoder", "text_encoder_1", "te", "te1", "clip_l", "cond_stage_model"), TEXT_ENCODERS[0]),
    **dict.fromkeys(("text_encoder_2", "te2", "clip_g"), TEXT_ENCODERS[1]),
}
"""Other tools' names for the parts of a pipeline."""

# Wrapper names that PEFT, accelerate, torch.compile, FSDP and others leave in a layer's path.
_WRAPPERS = {"base_model", "model", "text_encoders", "pipe", "pipeline"}
_ANYWHERE = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "processor"}
_OF_CLIP = {"text_model", "encoder", "embeddings", "final_layer_norm", "text_projection"}


def family_of(names: Iterable[str]) -> Family:
    """The family of a model with these parameters: XL stacks transformer blocks, the others have one per attention."""
    return "xl" if any(re.search(r"^text_encoder_2\.|transformer_blocks\.[1-9]", name) for name in names) else "sd"


def split_underscores(name: str) -> str:
    """Converts kohya's underscores to dots: `mid_block_attentions_0` becomes `mid_block.attentions.0`."""
    words, path = name.split("_"), list[str]()
    while words:
        length = next((count for count in range(min(3, len(words)), 1, -1) if "_".join(words[:count]) in _COMPOUND), 1)
        path.append("_".join(words[:length]))
        del words[:length]
    return ".".join(path)


def to_diffusers(path: str) -> str:
    """Converts a layer's path in CompVis's U-Net to diffusers' path; a path of diffusers is returned unchanged.

    Raises:
        SamecastError: the family has no such layer.
    """
    if path.startswith(("down_blocks.", "up_blocks.", "mid_block.")):
        return path
    for theirs, ours in _OUTSIDE.items():
        if path == theirs:
            return ours
    found = re.fullmatch(r"(input_blocks|middle_block|output_blocks)\.(\d+)(?:\.(\d+))?\.(.+)", path)
    if not found:
        return path
    where, block, part, rest = found[1], int(found[2]), found[3], found[4]
    if where == "middle_block":
        rest = f"{part}.{rest}" if part else rest
        kind = "attentions.0" if block == 1 else f"resnets.{block // 2}"
        return f"mid_block.{kind}.{_residual(rest) if block != 1 else rest}"
    if part is None:
        raise SamecastError(f"{path!r:.120} is not a layer of a Stable Diffusion U-Net")
    if where == "input_blocks":
        level, layer = divmod(block - 1, _DOWN)
        if layer == _DOWN - 1:
            return f"down_blocks.{level}.downsamplers.0.conv"
        return f"down_blocks.{level}.{_inner(int(part), layer, rest)}"
    level, layer = divmod(block, _UP)
    if rest == "conv":
        return f"up_blocks.{level}.upsamplers.0.conv"
    return f"up_blocks.{level}.{_inner(int(part), layer, rest)}"


def to_compvis(path: str) -> str:
    """Converts a layer's path in diffusers' U-Net to CompVis's path.

    Raises:
        SamecastError: the layer has no name there.
    """
    outside = {ours: theirs for theirs, ours in _OUTSIDE.items()}
    found = re.fullmatch(r"(?:(down|up)_blocks\.(\d+)|mid_block)\.(\w+)\.(\d+)\.(.+)", path)
    if path in outside or not found:
        if path not in outside:
            raise SamecastError(f"{path} has no name in CompVis's files")
        return outside[path]
    stage, level, kind, layer, rest = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
    inner = {ours: theirs for theirs, ours in _RESIDUAL.items()}.get(rest, rest) if kind == "resnets" else rest
    if stage is None:
        return f"middle_block.{1 if kind == 'attentions' else 2 * layer}.{inner}"
    if kind == "downsamplers":
        return f"input_blocks.{_DOWN * (level + 1)}.0.op"
    if kind == "upsamplers":
        return f"output_blocks.{_UP * level + _UP - 1}.2.conv"
    block = f"input_blocks.{_DOWN * level + layer + 1}" if stage == "down" else f"output_blocks.{_UP * level + layer}"
    return f"{block}.{1 if kind == 'attentions' else 0}.{inner}"


def locate(layer: str, part: str = "") -> tuple[str, str]:
    """The part of a pipeline that holds a layer, and the layer's path there in diffusers' names, without wrappers.

    Args:
        layer: the path in any tool's file, with dots.
        part: the part, where the file states it separately; empty takes it from the path, by default the U-Net.

    Raises:
        SamecastError: CompVis's U-Net has no such layer.
    """
    segments = [segment for segment in layer.split(".") if segment not in _ANYWHERE]
    while segments:
        head = segments[0]
        if head in PART_NAMES and part in ("", PART_NAMES[head]):
            part = PART_NAMES[head]
        elif head not in _WRAPPERS and not (head == "transformer" and part in TEXT_ENCODERS):
            break
        segments = segments[1:]
    if not part:
        part = TEXT_ENCODERS[0] if segments and segments[0] in _OF_CLIP else "unet"
    path = ".".join(segments)
    return part, to_diffusers(path) if part == "unet" else path.removeprefix("text_model.")


def unet_parameter(name: str) -> str:
    """The name in `Concept.changes` of a U-Net parameter in any tool's file."""
    layer, _, leaf = name.rpartition(".")
    part, path = locate(layer, "unet")
    return f"{part}.{path}.{leaf}"


def _inner(part: int, layer: int, rest: str) -> str:
    return f"attentions.{layer}.{rest}" if part == 1 else f"resnets.{layer}.{_residual(rest)}"


@cache
def _residual(rest: str) -> str:
    return _RESIDUAL.get(rest, rest)
