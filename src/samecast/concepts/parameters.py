"""The parameter names of a Stable Diffusion pipeline: all that a concept may change.

Any other name belongs to another architecture, whatever its prefix.
"""

import re

_TRANSFORMER = r"transformer_blocks\.\d+\.(?:norm\d|attn[12]\.to_(?:[qkv]|out\.0)|ff\.net\.(?:0\.proj|2))"
_BLOCK = "|".join(
    (
        rf"attentions\.\d+\.(?:norm|proj_in|proj_out|{_TRANSFORMER})",
        r"resnets\.\d+\.(?:norm[12]|conv[12]|conv_shortcut|time_emb_proj)",
        r"(?:down|up)samplers\.0\.conv",
    )
)
_OUTSIDE = r"conv_in|conv_out|conv_norm_out|(?:time|add)_embedding\.linear_[12]|time_embedding\.cond_proj"
_CLIP = "|".join(
    (
        r"embeddings\.(?:token|position)_embedding",
        r"encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])",
        r"final_layer_norm|text_projection",
    )
)
_NAME = re.compile(
    rf"(?:unet\.(?:(?:down_blocks\.\d+|up_blocks\.\d+|mid_block)\.(?:{_BLOCK})|{_OUTSIDE})"
    rf"|text_encoder(?:_2)?\.(?:text_model\.)?(?:{_CLIP}))\.(?:weight|bias)"
)


def is_parameter(name: str) -> bool:
    """Whether a U-Net or a CLIP text encoder of the family can have a parameter of this name.

    Args:
        name: starts with the part of the pipeline, as in `samecast.concepts.concept`.
    """
    return _NAME.fullmatch(name) is not None
