"""Errors for values that are not finite, with the part that produced them and a remedy."""

import torch
from torch import Tensor

from samecast.errors import SamecastError
from samecast.models.base import ModelIdentity


def check_finite(values: Tensor, part: str, dtype: torch.dtype, identity: ModelIdentity) -> None:
    """Refuses NaN and infinity, with a single reduction.

    Args:
        values: the output of a part.
        part: the part: `autoencoder`, `text encoder` or `denoiser`.
        dtype: the precision that it computes in.
        identity: the model's identity.

    Raises:
        SamecastError: some values are not finite; names the part and a remedy.
    """
    # In training the loss is checked instead.
    if not values.requires_grad and not bool(torch.isfinite(values).all()):
        raise SamecastError(f"the {part} produced values that are not finite: {remedy(dtype, identity)}")


def remedy(dtype: torch.dtype, identity: ModelIdentity) -> str:
    """The remedy for values that are not finite, by the precision and the concepts applied to the model."""
    if dtype == torch.float16:
        return "float16 overflows in this model, so load it with dtype float32 or bfloat16"
    added = [*("LoRA" for _ in identity.lora), *("concept" for _ in identity.concepts)]
    if added:
        named = " or ".join(dict.fromkeys(added))
        return f"the applied {named} may be too strong or damaged, so lower its strength or leave it out"
    return "its weights may be damaged, so check the model's files"
