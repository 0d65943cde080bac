"""Values that are not finite: which part gave them, and what to do about it."""

import torch
from torch import Tensor

from samecast.errors import SamecastError
from samecast.models.base import ModelIdentity


def check_finite(values: Tensor, part: str, dtype: torch.dtype, identity: ModelIdentity) -> None:
    """Refuses NaN and infinity; one reduction.

    Args:
        values: what a part put out.
        part: which: `autoencoder`, `text encoder`, `denoiser`.
        dtype: in which it computes.
        identity: of the model.

    Raises:
        SamecastError: some are there; said with the part and what helps.
    """
    # In a training the loss says so; what is being trained is not at fault at once.
    if not values.requires_grad and not bool(torch.isfinite(values).all()):
        raise SamecastError(f"the {part} gave values that are not finite: {remedy(dtype, identity)}")


def remedy(dtype: torch.dtype, identity: ModelIdentity) -> str:
    """What helps against values that are not finite, given the precision and what is applied to the model."""
    if dtype == torch.float16:
        return "float16 overflows in it, so load the model with dtype float32 or bfloat16"
    added = [*("LoRA" for _ in identity.lora), *("concept" for _ in identity.concepts)]
    if added:
        named = " or ".join(dict.fromkeys(added))
        return f"the {named} that is applied may be too strong or damaged, so lower its strength or leave it out"
    return "its weights may be damaged, so check the model's files"
