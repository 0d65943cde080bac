"""The architecture of a weights file: within the family by its shapes, any other by its layer names.

Original code and diffusers separate the parts of a layer's name by dots, kohya's scripts by underscores.
"""

import re
from collections.abc import Iterable

from samecast.concepts.concept import TEXT_ENCODERS, Concept, Value

FAMILY = "Stable Diffusion 1.x, 2.x and XL"
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Architectures by the channels of the text embedding that cross-attention reads."""

_ROOT = r"(?:(?:^|\.)|lora_unet_|lora_transformer_)"
_JOINT = r"(?<!\d~)transformer_blocks~\d+~"  # in a U-Net they follow a numbered attention
_OTHERS = {
    "AnimateDiff": r"motion_modules~|temporal_transformer~(?!blocks)",
    "Stable Video Diffusion": r"temporal_(?:transformer_blocks|res_block)~",
    "HunyuanVideo": r"(?:img|txt)_(?:mlp~fc[12]|mod~linear)|modulation~linear|\.(?:img|txt)_attn_|token_refiner",
    "HunyuanDiT": rf"{_ROOT}blocks~\d+~attn[12]~(?:Wqkv|q_proj|kv_proj|out_proj)",
    "Chroma": r"distilled_guidance_layer",
    "HiDream": r"(?:double|single)_stream_blocks~\d",
    "AuraFlow": r"(?:double|single)_layers~\d|joint_transformer_blocks~\d",
    "FLUX": r"(?:double|single)_blocks~\d",
    "FLUX or HunyuanVideo": r"single_transformer_blocks~\d",
    "Qwen-Image": rf"{_JOINT}(?:img|txt)_(?:mlp|mod)~|(?<!\d~)transformer_blocks~(?:39|[45]\d)~attn~",
    "Stable Diffusion 3": rf"joint_blocks~\d|context_block~|{_JOINT}(?:attn~|ff_context)",
    "Z-Image": r"layers~\d+~attention~to_|layers~\d+~adaLN_modulation~0",
    "Lumina 2 or Z-Image": r"layers~\d+~(?:attention|attn|feed_forward)~|(?:noise|context)_refiner~",
    "Cosmos or Anima": rf"{_ROOT}blocks~\d+~(?:self|cross)_attn~[qkv]_proj|llm_adapter",
    "Wan": rf"{_ROOT}blocks~\d+~(?:(?:self|cross)_attn~[qkvo](?:_img)?(?:~|$)|ffn~|attn[12]~to_)",
    "PixArt": rf"{_ROOT}blocks~\d+~(?:attn~(?:qkv|proj)|cross_attn~(?:q_linear|kv_linear|proj))",
    "PixArt, LTX-Video, Sana or another diffusion transformer": rf"{_JOINT}|adaln_single|caption_projection",
    "Stable Cascade": r"^lora_prior_unet_",
    "DeepFloyd IF or Kandinsky": r"add_[kv]_proj",
    "an IP-Adapter": r"to_[kv]_ip\.|^image_proj\.|^ip_adapter\.",
    "a ControlNet": r"controlnet_|input_hint_block|zero_convs\.\d",
    "a model with T5 or another third text encoder": r"lora_te3_|text_encoder_3\.|t5xxl\.",
}
_COMPILED = {name: re.compile(pattern.replace("~", "[._]")) for name, pattern in _OTHERS.items()}
_WRAPPED = re.compile(r"(?:^|\.)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")


def other_architecture(keys: Iterable[str]) -> str:
    """The architecture that the keys of a weights file name, if known and outside the family; else empty."""
    plain = [_WRAPPED.sub("", key) for key in keys]
    return next((name for name, pattern in _COMPILED.items() if any(map(pattern.search, plain))), "")


def architecture_of(concept: Concept) -> str:
    """The architecture within the family that a concept fits, by the width of its text embeddings."""
    ends = ("attn2.to_k.weight", "attn2.to_v.weight")
    keys = (change for name, change in concept.changes.items() if name.endswith(ends))
    read = {(change.value if isinstance(change, Value) else change.down.flatten(1)).shape[-1] for change in keys}
    embedded = {token.vectors[TEXT_ENCODERS[0]].shape[-1] for token in concept.tokens.values()}
    widths = read or embedded
    if concept.base.family == "xl":
        return _WIDTHS[2048]
    if len(widths) != 1:
        return "Stable Diffusion 1.x or 2.x"
    (width,) = widths
    return _WIDTHS.get(width, f"of the Stable Diffusion family, with text embeddings of {width} channels")
