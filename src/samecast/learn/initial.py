"""Initial embedding of a modifier token: a rare word's (Custom Diffusion) or the class noun's (Textual Inversion).

A rare word carries little meaning of its own. Where the authors' words (`ktn`, `pll`, `ucd`) are not single tokens of
the vocabulary, the noun is used.
"""

from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import ModifierToken
from samecast.concepts.words import encoders_of, tokenizer_of
from samecast.errors import SamecastError
from samecast.learn.lists import ToLearn

RARE = ("ktn", "pll", "ucd")


def initial_token(pipeline: Any, subject: ToLearn, index: int, words: str = "") -> ModifierToken:
    """The token of a subject before training.

    Args:
        pipeline: the pipeline, with its text encoders.
        subject: the subject of the token.
        index: index of the subject, from 0; each subject has its own rare word.
        words: words whose mean embedding replaces the default.

    Raises:
        SamecastError: the model has no rare word and the subject no noun.
    """
    begin = words or _rare_or_noun(pipeline, subject, index)
    return ModifierToken({encoder: _mean(pipeline, encoder, begin) for encoder in encoders_of(pipeline)}, subject.noun)


def _rare_or_noun(pipeline: Any, subject: ToLearn, index: int) -> str:
    rare = RARE[index % len(RARE)]
    if len(_ids(pipeline, "text_encoder", rare)) == 1:
        return rare
    if not subject.noun:
        raise SamecastError(
            f"{subject.token} has no initial embedding: the model has no rare word {rare!r}, and no noun is given;"
            " give --initializer WORD"
        )
    return subject.noun


def _mean(pipeline: Any, encoder: str, words: str) -> Tensor:
    """The mean embedding of words (1, channel)."""
    weight: Tensor = getattr(pipeline, encoder).get_input_embeddings().weight
    ids = _ids(pipeline, encoder, words)
    if not ids:
        raise SamecastError(
            f"a modifier token cannot be initialised with {words!r}: it has no tokens in the model's vocabulary"
        )
    return weight[torch.tensor(ids, device=weight.device)].detach().float().mean(0, keepdim=True)


def _ids(pipeline: Any, encoder: str, words: str) -> list[int]:
    return list(getattr(pipeline, tokenizer_of(encoder))(words, add_special_tokens=False).input_ids)
