"""A tokenizer that knows modifier tokens, as whole words, whatever their case and however many vectors they have.

diffusers leaves words of several vectors to its pipelines, which replace strings in the prompt by other strings, as it
is written: a word in capitals, which the tokenizer lower-cases, keeps its first vector alone, one word takes a part of
another, and `rex` is found in `trex`. Here it is the tokenizer's business, in its own spelling, so that every pipeline
which has it encodes the same, and what diffusers does before finds nothing left to do.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken

_SEPARATOR = "\ue000"
"""In the names of a word's further tokens. From Unicode's private use area, so that no prompt has it."""


def pieces(word: str, length: int) -> list[str]:
    """The tokens that a word of so many vectors stands for: itself, and others that no prompt can say."""
    return [word, *(f"{word}{_SEPARATOR}{number}" for number in range(1, length))]


def spelling(tokenizer: Any, text: str) -> str:
    """A text as a tokenizer reads it: CLIP's knows no capitals, and joins spaces and accents."""
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    return text if normalizer is None else normalizer.normalize_str(text)


def with_words(tokenizer: Any, words: Mapping[str, int]) -> Any:
    """A copy of a tokenizer that knows words.

    Args:
        tokenizer: left as it is.
        words: how many tokens each stands for.
    """
    known = copy.deepcopy(tokenizer)
    for word, length in words.items():
        # Within brackets a word needs no space beside it; a letter must not go on in another word.
        single = bool(re.search(r"^\w|\w$", word))
        known.add_tokens([AddedToken(piece, single_word=single, normalized=True) for piece in pieces(word, length)])
    known.modifier_tokens = _Expansion(tokenizer, words)
    own = type(tokenizer)
    known.__class__ = type(own.__name__, (_Knowing, own), {"__module__": own.__module__})
    return known


class _Expansion:
    """Writes out, in a text, each word as its tokens: the longest word first, and never a part of a word."""

    def __init__(self, tokenizer: Any, words: Mapping[str, int]) -> None:
        self._tokenizer = tokenizer
        spelt = {spelling(tokenizer, word): pieces(word, length) for word, length in words.items()}
        # Spaces make no difference to the tokenizer, and keep tokens apart that stand side by side.
        self._written = {
            word: f" {' '.join(spelling(tokenizer, piece) for piece in of)} " for word, of in spelt.items()
        }
        longest_first = sorted(spelt, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_whole, longest_first)))

    def __call__(self, text: Any) -> Any:
        """The text, or each of a list of texts; anything else, and a text without a word, is as it was."""
        if isinstance(text, list | tuple):
            given: Sequence[Any] = text
            return [self(each) for each in given]
        if not isinstance(text, str):
            return text
        spelt = spelling(self._tokenizer, text)
        written = self._pattern.sub(lambda found: self._written[found[0]], spelt)
        return text if written == spelt else written


class _Knowing:
    """What goes before a tokenizer's own class, so that it reads texts with words written out."""

    modifier_tokens: Any

    def __call__(self, text: Any = None, *args: Any, **kwargs: Any) -> Any:
        own: Any = super()
        return own.__call__(self.modifier_tokens(text), *args, **kwargs)

    def encode(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """As the tokenizer's own."""
        own: Any = super()
        return own.encode(self.modifier_tokens(text), *args, **kwargs)

    def tokenize(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """As the tokenizer's own."""
        own: Any = super()
        return own.tokenize(self.modifier_tokens(text), *args, **kwargs)


def _whole(word: str) -> str:
    """A pattern for a word that is not a part of another: no letter, digit or underscore goes on at its ends."""
    before = r"(?<!\w)" if re.match(r"\w", word) else ""
    after = r"(?!\w)" if re.search(r"\w$", word) else ""
    return f"{before}{re.escape(word)}{after}"
