"""Validation of a concept: every error names the tensor, what was expected and what came."""

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from samecast.concepts.concept import TEXT_ENCODERS, Change, LowRank, ModifierToken
from samecast.concepts.parameters import is_parameter
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.concepts.concept import Concept

_WORD = re.compile(r"[^\s/\\\x00-\x1f\x7f]{1,100}")
_MOST_VECTORS = 75  # a prompt has 75 tokens
_LARGEST = 1e4
"""Far above any weight, embedding or change of these models."""


def check_concept(concept: "Concept") -> None:
    """Refuses a concept that no model can take.

    Raises:
        SamecastError: it is empty, or a tensor has a wrong shape, name or value.
    """
    if not concept.tokens and not concept.changes:
        raise SamecastError("a concept needs at least one modifier token or one changed parameter; this has none")
    for word, token in concept.tokens.items():
        _check_token(word, token)
    for name, data in (("id", concept.base.id), ("revision", concept.base.revision), ("family", concept.base.family)):
        _check_text(name, data)
    if concept.base.family not in ("sd", "xl"):
        raise SamecastError(f"the concept's base model is of family {concept.base.family!r:.40}; expected sd or xl")
    _check_together(concept)
    for name, change in concept.changes.items():
        _check_change(name, change)


def _check_together(concept: "Concept") -> None:
    """Refuses modifier tokens that do not fit one and the same model."""
    if len({frozenset(token.vectors) for token in concept.tokens.values()}) > 1:
        raise SamecastError("some modifier tokens have one text encoder and some two: they belong to different models")
    for encoder in TEXT_ENCODERS:
        held = (token.vectors.get(encoder) for token in concept.tokens.values())
        widths = {vectors.shape[1] for vectors in held if vectors is not None}
        if len(widths) > 1:
            raise SamecastError(
                f"the modifier tokens have embeddings of {' and '.join(map(str, sorted(widths)))} channels: they belong"
                " to different models"
            )


def is_word(word: str) -> bool:
    """Whether a word can be a modifier token: no spaces, and valid as a file name."""
    return _WORD.fullmatch(word) is not None


def _check_text(name: str, data: object) -> None:
    if not isinstance(data, str):
        raise SamecastError(f"the concept's base has the {name} {data!r:.60}; expected text")


def _check_numbers(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise SamecastError(f"{name!r:.120} holds {kind}; expected float32, float16 or bfloat16")
    if not tensor.numel():
        raise SamecastError(f"{name!r:.120} is empty")
    if not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise SamecastError(
            f"{name!r:.120} has {count} values that are NaN or infinite: training diverged, or the file is damaged"
        )
    largest = float(tensor.detach().abs().max())
    if largest > _LARGEST:
        raise SamecastError(
            f"{name!r:.120} has values up to {largest:.0e}, and no weight exceeds {_LARGEST:.0e}: training"
            " diverged, or the file is damaged"
        )


def _check_token(word: str, token: ModifierToken) -> None:
    if not is_word(word):
        raise SamecastError(f"{word!r:.120} cannot be a modifier token: expected a word without spaces, like <new1>")
    if not token.vectors or not set(token.vectors) <= set(TEXT_ENCODERS) or TEXT_ENCODERS[0] not in token.vectors:
        raise SamecastError(
            f"the token {word} has vectors of {sorted(token.vectors)}; expected text_encoder, or"
            f" text_encoder and text_encoder_2"
        )
    for vectors in token.vectors.values():
        if vectors.ndim != 2 or not 1 <= vectors.shape[0] <= _MOST_VECTORS:
            raise SamecastError(
                f"the token {word} has an embedding of shape {tuple(vectors.shape)}; expected (vectors, channels)"
                f" with 1 to {_MOST_VECTORS} vectors"
            )
    if len({vectors.shape[0] for vectors in token.vectors.values()}) > 1:
        raise SamecastError(f"the token {word} has more vectors in one text encoder than in the other")
    for encoder, vectors in token.vectors.items():
        _check_numbers(f"token/{word}/{encoder}", vectors)


def _check_change(name: str, change: Change) -> None:
    if not is_parameter(name):
        raise SamecastError(
            f"{name!r:.120} is not a parameter of a Stable Diffusion pipeline; expected a name such as"
            " unet.[...].attn2.to_k.weight"
        )
    if isinstance(change, LowRank):
        _check_shapes(name, change)
        if not change.rank:
            return
    for side, tensor in change.tensors().items():
        _check_numbers(f"{name}/{side}", tensor)
    if isinstance(change, LowRank):
        _check_size(name, change)


def _check_shapes(name: str, change: LowRank) -> None:
    up, down = change.up, change.down
    if not 2 <= up.ndim <= 4 or not 2 <= down.ndim <= 4 or up.flatten(1).shape[1] != down.shape[0]:
        raise SamecastError(
            f"the low-rank change of {name} has up {tuple(up.shape)} and down {tuple(down.shape)}, whose product is not"
            " defined; expected (out, rank) and (rank, in)"
        )
    if change.alpha is not None and not abs(change.alpha) < 1e6:
        raise SamecastError(
            f"the low-rank change of {name} has alpha {change.alpha}; expected a number between -1e6 and 1e6"
        )


def _check_size(name: str, change: LowRank) -> None:
    """Refuses a product that may exceed any weight although its factors do not."""
    up, down = change.up.detach().float().flatten(1), change.down.detach().float()
    largest = abs(change.scale) * float(up.abs().sum(1).max() * down.abs().max())
    if largest > _LARGEST:
        raise SamecastError(
            f"the low-rank change of {name}, with alpha {change.alpha} at rank {change.rank}, reaches up to"
            f" {largest:.0e},"
            f" and no weight exceeds {_LARGEST:.0e}: training diverged, or the file is damaged"
        )
