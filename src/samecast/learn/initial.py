"""Where a modifier token begins: at a rare word, as in Custom Diffusion, or at the class noun, as in Textual Inversion.

A rare word has no meaning to be in the way. Only a large vocabulary has such: where the authors' words (`ktn`, `pll`,
`ucd`) are no single tokens, the noun is taken.
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
    """The token of a subject before it is learnt.

    Args:
        pipeline: whose text encoders it is for.
        subject: whose token it is.
        index: which of the subjects that is, from 0; each takes another rare word.
        words: where it begins instead: the mean of these words' tokens.

    Raises:
        SamecastError: there is neither a rare word nor a noun.
    """
    begin = words or _rare_or_noun(pipeline, subject, index)
    return ModifierToken({encoder: _mean(pipeline, encoder, begin) for encoder in encoders_of(pipeline)}, subject.noun)


def _rare_or_noun(pipeline: Any, subject: ToLearn, index: int) -> str:
    rare = RARE[index % len(RARE)]
    if len(_ids(pipeline, "text_encoder", rare)) == 1:
        return rare
    if not subject.noun:
        raise SamecastError(
            f"{subject.token} has nowhere to begin: the model has no rare word {rare!r}, and no noun is given;"
            " say --initializer, a word"
        )
    return subject.noun


def _mean(pipeline: Any, encoder: str, words: str) -> Tensor:
    """The mean embedding of words (1, channel)."""
    weight: Tensor = getattr(pipeline, encoder).get_input_embeddings().weight
    ids = _ids(pipeline, encoder, words)
    if not ids:
        raise SamecastError(f"a modifier token cannot begin at {words!r}, which is no word to the model")
    return weight[torch.tensor(ids, device=weight.device)].detach().float().mean(0, keepdim=True)


def _ids(pipeline: Any, encoder: str, words: str) -> list[int]:
    return list(getattr(pipeline, tokenizer_of(encoder))(words, add_special_tokens=False).input_ids)
