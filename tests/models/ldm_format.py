"""The way back: a diffusers pipeline's weights under the names of the original single-file checkpoints."""

import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_PARTS = {
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPEN_CLIP_PARTS = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def save_single_file(
    pipeline: Any, path: Path, *, open_clip: bool = False, metadata: dict[str, str] | None = None
) -> None:
    """Writes U-Net, autoencoder and text encoders as one `.safetensors` file; with two text encoders as XL's."""
    weights: dict[str, Tensor] = {}
    attends_last = "Cross" in pipeline.unet.config.up_block_types[0]
    layers = pipeline.unet.config.layers_per_block
    for key, tensor in pipeline.unet.state_dict().items():
        weights["model.diffusion_model." + unet_key(key, attends_last, layers)] = tensor
    for key, tensor in pipeline.vae.state_dict().items():
        name = vae_key(key, len(pipeline.vae.config.block_out_channels))
        is_projection = ".attn_1." in name and name.endswith("weight") and tensor.ndim == 2
        weights["first_stage_model." + name] = tensor[:, :, None, None] if is_projection else tensor
    text = {key.removeprefix("text_model."): value for key, value in pipeline.text_encoder.state_dict().items()}
    if second := getattr(pipeline, "text_encoder_2", None):
        weights |= {"conditioner.embedders.0.transformer.text_model." + key: value for key, value in text.items()}
        text = {key.removeprefix("text_model."): value for key, value in second.state_dict().items()}
        weights |= open_clip_weights(text, "conditioner.embedders.1.model.")
        weights["conditioner.embedders.1.model.text_projection"] = text["text_projection.weight"].T
    elif open_clip:
        weights |= open_clip_weights(text, "cond_stage_model.model.")
    else:
        weights |= {"cond_stage_model.transformer.text_model." + key: tensor for key, tensor in text.items()}
    save_file({key: tensor.contiguous() for key, tensor in weights.items()}, path, metadata=metadata)


def unet_key(key: str, attends_last: bool = False, layers: int = 2) -> str:
    """`attends_last`: whether the coarsest level attends, as XL's does, so that its upsampler comes third; `layers`: of
    a level on the way down."""
    for ours, theirs in ENDS.items():
        if key.startswith(ours + "."):
            return key.replace(ours, theirs, 1)
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", key):
        kind, number, rest = match.groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}.{inner(kind, rest)}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", key)
    assert match is not None, key
    way, block, kind, number, rest = match.groups()
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (int(block) + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return (
            f"output_blocks.{(layers + 1) * int(block) + layers}.{1 if block == '0' and not attends_last else 2}.{rest}"
        )
    at = (layers + 1) * int(block) + int(number) + (1 if way == "down" else 0)
    place = 1 if kind == "attentions" else 0
    return f"{'input' if way == 'down' else 'output'}_blocks.{at}.{place}.{inner(kind, rest)}"


def inner(kind: str, rest: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{RESNET[head]}.{tail}" if kind == "resnets" else rest


def vae_key(key: str, levels: int) -> str:
    key = re.sub(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder.down.\1.block.\2", key)
    key = re.sub(r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample", key)
    flipped = re.compile(r"decoder\.up_blocks\.(\d)\.(resnets\.(\d)|upsamplers\.0)")
    key = flipped.sub(
        lambda match: (
            f"decoder.up.{levels - 1 - int(match[1])}." + (f"block.{match[3]}" if match[3] is not None else "upsample")
        ),
        key,
    )
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1")
    for ours, theirs in VAE_PARTS.items():
        key = key.replace(f".{ours}.", f".{theirs}.")
    return key


def open_clip_weights(text: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    import torch

    weights = {
        prefix + "token_embedding.weight": text["embeddings.token_embedding.weight"],
        prefix + "positional_embedding": text["embeddings.position_embedding.weight"],
        prefix + "ln_final.weight": text["final_layer_norm.weight"],
        prefix + "ln_final.bias": text["final_layer_norm.bias"],
    }
    for key, tensor in text.items():
        match = re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", key)
        if match is None or match[2] in ("self_attn.k_proj", "self_attn.v_proj"):
            continue
        layer, part, kind = match.groups()
        block = f"{prefix}transformer.resblocks.{layer}."
        if part == "self_attn.q_proj":
            names = [f"encoder.layers.{layer}.self_attn.{which}_proj.{kind}" for which in "qkv"]
            weights[f"{block}attn.in_proj_{kind}"] = torch.cat([text[name] for name in names])
        else:
            weights[f"{block}{OPEN_CLIP_PARTS[part]}.{kind}"] = tensor
    return weights
