"""Modifier tokens in a pipeline's tokenizers and text encoders.

The tokenizer is copied and the embedding matrix is replaced by a longer one, so that reverting restores the original
objects. Where a checkpoint's configuration has `eos_token_id: 2`, as in SD 1.x and XL, CLIP pools at the token of the
largest id, which would be the modifier token: while it is applied, pooling uses the tokenizer's own end-of-text id.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import TEXT_ENCODERS, Concept, ModifierToken
from samecast.concepts.tokenizer import spelling, token_names, with_words
from samecast.errors import SamecastError

_LEGACY_END = 2


def tokenizer_of(encoder: str) -> str:
    """The name of the tokenizer that goes with a text encoder: `tokenizer_2` with `text_encoder_2`."""
    return encoder.replace("text_encoder", "tokenizer")


def encoders_of(pipeline: Any) -> tuple[str, ...]:
    """The names of a pipeline's text encoders."""
    return tuple(name for name in TEXT_ENCODERS if getattr(pipeline, name, None) is not None)


def check_words(pipeline: Any, concepts: Sequence[Concept]) -> None:
    """Refuses words already in use, and embeddings of another model.

    Raises:
        SamecastError: two words are equal to the tokenizer, a word is in its vocabulary, or vectors do not fit.
    """
    encoders, taken = encoders_of(pipeline), dict[str, str]()
    for concept in concepts:
        for word, token in concept.tokens.items():
            spelt = spelling(pipeline.tokenizer, word)
            if spelt in taken:
                raise SamecastError(
                    f"two concepts share the word {word} (case is ignored): rename one with samecast concept"
                    f" convert --rename '{word}=<other>'"
                )
            taken[spelt] = word
            if set(token.vectors) != set(encoders):
                raise SamecastError(
                    f"{word} has embeddings for {' and '.join(token.vectors)}, and this model has"
                    f" {' and '.join(encoders)}: it belongs to another model"
                )
            for encoder in encoders:
                _check_word(pipeline, encoder, word, token)
    if taken:
        _check_numbered(pipeline, taken)


def add_words(pipeline: Any, concepts: Sequence[Concept], undo: ExitStack) -> dict[str, dict[str, tuple[int, ...]]]:
    """Adds the concepts' words, already checked by `check_words`.

    Args:
        pipeline: changed in place.
        concepts: the concepts whose words are added.
        undo: receives the callbacks that remove them.

    Returns:
        The rows of the embedding matrix, by text encoder and word.
    """
    tokens = {word: token for concept in concepts for word, token in concept.tokens.items()}
    return {encoder: _add_to(pipeline, encoder, tokens, undo) for encoder in encoders_of(pipeline) if tokens}


def _check_word(pipeline: Any, encoder: str, word: str, token: ModifierToken) -> None:
    tokenizer = getattr(pipeline, tokenizer_of(encoder))
    vocabulary = tokenizer.get_vocab().keys() | {spelling(tokenizer, added) for added in tokenizer.get_added_vocab()}
    if {word, spelling(tokenizer, word)} & vocabulary:
        raise SamecastError(
            f"{word} is already in the model's vocabulary: rename the concept's word with samecast concept convert"
            f" --rename '{word}=<other>'"
        )
    width = getattr(pipeline, encoder).get_input_embeddings().weight.shape[1]
    if token.vectors[encoder].shape[1] != width:
        raise SamecastError(
            f"{word} has an embedding of {token.vectors[encoder].shape[1]} channels, but this model's {encoder} has"
            f" {width}: it belongs to another model"
        )


def _check_numbered(pipeline: Any, taken: Mapping[str, str]) -> None:
    """Refuses `rex` together with `rex_1`, which diffusers' pipelines read as the second vector of `rex`."""
    tokenizer = pipeline.tokenizer
    known = {spelling(tokenizer, str(added)): str(added) for added in tokenizer.get_added_vocab()} | dict(taken)
    for spelt, word in known.items():
        found = re.fullmatch(r"(.+)_\d+", spelt)
        if found and found[1] in known and (spelt in taken or found[1] in taken):
            raise SamecastError(
                f"{known[found[1]]} and {word} cannot be in one model: diffusers reads the second as a vector of the"
                f" first; rename one with samecast concept convert --rename '{word}=<other>'"
            )


def _add_to(
    pipeline: Any, encoder: str, tokens: Mapping[str, ModifierToken], undo: ExitStack
) -> dict[str, tuple[int, ...]]:
    name, module = tokenizer_of(encoder), getattr(pipeline, encoder)
    original = getattr(pipeline, name)
    tokenizer = with_words(original, {word: token.length for word, token in tokens.items()})
    undo.callback(setattr, pipeline, name, original)
    setattr(pipeline, name, tokenizer)
    ids = {
        word: tuple(tokenizer.convert_tokens_to_ids(token_names(word, token.length))) for word, token in tokens.items()
    }
    rows = {
        row: vector
        for word, token in tokens.items()
        for row, vector in zip(ids[word], token.vectors[encoder], strict=True)
    }
    _lengthen(module, rows, undo)
    _pool_at_the_end(module, int(tokenizer.eos_token_id), undo)
    return ids


def _lengthen(module: Any, rows: Mapping[int, Tensor], undo: ExitStack) -> None:
    """Replaces the embedding matrix by a longer one that also holds these rows."""
    embedding = module.get_input_embeddings()
    old = embedding.weight
    weight = old.new_zeros((max(old.shape[0], *(row + 1 for row in rows)), old.shape[1]))
    weight[: old.shape[0]] = old.detach()
    for row, vector in rows.items():
        weight[row] = vector.to(weight.device, weight.dtype)
    undo.callback(_set_matrix(module, embedding, old))
    _set_matrix(module, embedding, torch.nn.Parameter(weight, requires_grad=old.requires_grad))()


def _set_matrix(module: Any, embedding: Any, weight: torch.nn.Parameter) -> Callable[[], None]:
    def set_matrix() -> None:
        embedding.weight = weight
        embedding.num_embeddings = module.config.vocab_size = weight.shape[0]

    return set_matrix


def _pool_at_the_end(module: Any, end: int, undo: ExitStack) -> None:
    for part in module.modules():
        if getattr(part, "eos_token_id", None) == _LEGACY_END and end != _LEGACY_END:
            undo.callback(setattr, part, "eos_token_id", _LEGACY_END)
            part.eos_token_id = end
