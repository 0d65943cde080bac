"""Textual inversion's files: diffusers' `learned_embeds`, A1111's, kohya's, OneTrainer's, and XL's pairs.

A file that does not hold its word takes the file's name as the word, as in A1111.
"""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import Base, Concept, ModifierToken
from samecast.concepts.parts import Parts
from samecast.errors import SamecastError

_FIRST, _SECOND = "text_encoder", "text_encoder_2"
_PAIR = {"clip_l": _FIRST, "clip_g": _SECOND}
_PIVOTAL = {"text_encoders_0": _FIRST, "text_encoders_1": _SECOND}  # diffusers' advanced DreamBooth script
_NAMELESS = {"*", "emb_params"}
_OTHERS = {"t5": "FLUX or Stable Diffusion 3", "t5xxl": "FLUX or Stable Diffusion 3"}
_BEHIND = "_out"
_LARGEST = 2048  # most channels of an embedding: other vectors of a checkpoint are no embeddings


def is_textual_inversion(data: Any) -> bool:
    """Whether a file holds embeddings of words alone."""
    if isinstance(data, Tensor):
        return True
    if not isinstance(data, Mapping) or not data:
        return False
    if "string_to_param" in data or _encoders(data):
        return True
    return all(_is_embedding(value) and not str(key).endswith((".weight", ".bias")) for key, value in data.items())


def read_textual_inversion(data: Any, name: str) -> Parts:
    """Reads embeddings.

    Args:
        data: the file's contents.
        name: the word, if the file does not hold it.
    """
    if isinstance(data, Tensor):
        return Parts({name: _token({_FIRST: data}, name)})
    if "string_to_param" in data:
        record: Any = data["string_to_param"]
        if not isinstance(record, Mapping) or len(record) != 1:
            raise SamecastError("its string_to_param does not hold one embedding")
        word = str(data.get("name") or name)
        return Parts({word: _token({_FIRST: next(iter(record.values()))}, word)})
    _check_places(data)
    for places in (_PAIR, _PIVOTAL):
        if set(data) & set(places):
            return _read_pair(data, places, name)
    words = {name if key in _NAMELESS else str(key): vectors for key, vectors in data.items()}
    if len(words) < len(data):
        raise SamecastError("it has several embeddings without a word")
    return Parts({word: _token({_FIRST: vectors}, word) for word, vectors in words.items()})


def write_textual_inversion(concept: Concept) -> dict[str, dict[str, Tensor]]:
    """The tensors of one file per word: diffusers and A1111 read one word from a file.

    Raises:
        SamecastError: the concept has no words.
    """
    if not concept.tokens:
        raise SamecastError("this concept has no modifier token to write as textual inversion")
    return {word: _tensors(word, token) for word, token in concept.tokens.items()}


def write_a1111(concept: Concept) -> dict[str, bytes]:
    """A1111's own layout, a pickle of tensors, one file per word.

    Raises:
        SamecastError: the concept has no words, or XL's pairs, which A1111 reads from `write_textual_inversion`.
    """
    files: dict[str, bytes] = {}
    for word, token in concept.tokens.items():
        if _SECOND in token.vectors:
            raise SamecastError(
                "A1111's own layout holds one text encoder; choose textual-inversion, which A1111 also reads"
            )
        vectors = token.vectors[_FIRST].detach().cpu().clone().contiguous()
        record = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": word, "step": 0}
        buffer = io.BytesIO()
        torch.save({**record, "sd_checkpoint": None, "sd_checkpoint_name": None}, buffer)
        files[f"{word}.pt"] = buffer.getvalue()
    if not files:
        raise SamecastError("this concept has no modifier token to write for A1111")
    return files


def _encoders(data: Mapping[str, Any]) -> set[str]:
    """The keys that name a text encoder instead of a word."""
    named = {*_PAIR, *_PIVOTAL, *_OTHERS, *_NAMELESS, "text_encoders_2"}
    return {str(key) for key in data if str(key).removesuffix(_BEHIND) in named}


def _check_places(data: Mapping[str, Any]) -> None:
    """Refuses embeddings that these models cannot use."""
    behind = next((key for key in _encoders(data) if key.endswith(_BEHIND)), None)
    if behind is not None:
        raise SamecastError(
            f"its {behind} is one of OneTrainer's output embeddings, which act after the text encoder and are not"
            " supported: train the embedding without them"
        )
    other = next((key for key in data if key in _OTHERS or key == "text_encoders_2"), None)
    if other is not None:
        raise SamecastError(
            f"its {other} is an embedding for {_OTHERS.get(other, 'a model with a third text encoder')}"
        )


def _read_pair(data: Mapping[str, Any], places: Mapping[str, str], name: str) -> Parts:
    """One word of XL, with vectors for both text encoders, or of the first alone, which belongs to another model."""
    first, second = places
    others = sorted(str(key) for key in set(data) - set(places))
    if others or first not in data:
        what = f"{second} without {first}" if first not in data else f"{first} beside {others[0]!r:.60}"
        raise SamecastError(f"it holds {what}; expected {first}, and for Stable Diffusion XL {second} as well")
    vectors = {encoder: data[key] for key, encoder in places.items() if key in data}
    return Parts({name: _token(vectors, name)}, base=Base(family="xl" if len(vectors) > 1 else "sd"))


def _tensors(word: str, token: ModifierToken) -> dict[str, Tensor]:
    if _SECOND in token.vectors:
        return {key: token.vectors[encoder] for key, encoder in _PAIR.items()}
    return {word: token.vectors[_FIRST]}


def _is_embedding(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim in (1, 2) and value.shape[-1] <= _LARGEST


def _token(vectors: Mapping[str, Any], word: str) -> ModifierToken:
    for value in vectors.values():
        if not isinstance(value, Tensor) or value.ndim not in (1, 2):
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise SamecastError(f"the embedding of {word!r:.60} is {shape}; expected (vectors, channels)")
    return ModifierToken({encoder: value.detach().reshape(-1, value.shape[-1]) for encoder, value in vectors.items()})
