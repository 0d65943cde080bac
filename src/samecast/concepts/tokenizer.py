"""A tokenizer with modifier tokens: whole words, in any case, with one vector or several.

diffusers expands words of several vectors in its pipelines, by string replacement in the raw prompt: a capitalised word
keeps its first vector only, one word replaces part of another, and `rex` is found in `trex`. Here the tokenizer expands
them after its own normalisation, so that every pipeline with this tokenizer encodes prompts alike and the replacement
in diffusers finds nothing to do.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken

_SEPARATOR = "\ue000"
"""Separates word and number in the names of further tokens; from Unicode's private use area, so in no prompt."""


def token_names(word: str, length: int) -> list[str]:
    """The token names of a word of `length` vectors: the word, then names that cannot occur in a prompt."""
    return [word, *(f"{word}{_SEPARATOR}{number}" for number in range(1, length))]


def spelling(tokenizer: Any, text: str) -> str:
    """A text as the tokenizer normalises it: CLIP's lower-cases it, merges spaces and composes accents."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return text if normalizer is None else normalizer.normalize_str(text)


def with_words(tokenizer: Any, words: Mapping[str, int]) -> Any:
    """A copy of a tokenizer with words added.

    Args:
        tokenizer: the original, which is not changed.
        words: the number of tokens of each word.
    """
    known = copy.deepcopy(tokenizer)
    for word, length in words.items():
        # A word in angle brackets needs no spaces around it; one that ends in a letter matches whole words only.
        single = bool(re.search(r"^\w|\w$", word))
        known.add_tokens(
            [AddedToken(piece, single_word=single, normalized=True) for piece in token_names(word, length)]
        )
    known.modifier_tokens = _Expansion(tokenizer, words)
    own = type(tokenizer)
    known.__class__ = type(own.__name__, (_Expanding, own), {"__module__": own.__module__})
    return known


class _Expansion:
    """Replaces each word in a text by its tokens: the longest word first, whole words only."""

    def __init__(self, tokenizer: Any, words: Mapping[str, int]) -> None:
        self._tokenizer = tokenizer
        spelt = {spelling(tokenizer, word): token_names(word, length) for word, length in words.items()}
        # The tokenizer ignores spaces; here they separate adjacent tokens.
        self._written = {
            word: f" {' '.join(spelling(tokenizer, piece) for piece in of)} " for word, of in spelt.items()
        }
        longest_first = sorted(spelt, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole, longest_first)))

    def __call__(self, text: Any) -> Any:
        """Expands a text or each of a list of texts; other values and texts without a word are returned unchanged."""
        if isinstance(text, list | tuple):
            given: Sequence[Any] = text
            return [self(each) for each in given]
        if not isinstance(text, str):
            return text
        spelt = spelling(self._tokenizer, text)
        written = self._pattern.sub(lambda found: self._written[found[0]], spelt)
        return text if written == spelt else written


class _Expanding:
    """Mixin before a tokenizer's own class, which expands modifier tokens in its input."""

    modifier_tokens: Any

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        own: Any = super()
        return own.__call__(self.modifier_tokens(text), *args, **kwargs)

    def encode(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """As in the tokenizer's own class."""
        own: Any = super()
        return own.encode(self.modifier_tokens(text), *args, **kwargs)

    def tokenize(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """As in the tokenizer's own class."""
        own: Any = super()
        return own.tokenize(self.modifier_tokens(text), *args, **kwargs)


def _whole(word: str) -> str:
    """A pattern for a whole word: no letter, digit or underscore before or after it."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return f"{before}{re.escape(word)}{after}"
