"""Words to token positions: a phrase in a prompt, whole words only, every occurrence."""

from collections.abc import Sequence

from samecast.errors import SamecastError
from samecast.models.base import Backbone

_WORD_END = "</w>"


def find_phrase(tokens: Sequence[str], phrase: Sequence[str], starts: Sequence[bool]) -> tuple[int, ...]:
    """Positions of all tokens of all occurrences of a phrase.

    Args:
        tokens: of the prompt.
        phrase: tokens of the phrase.
        starts: for each token of the prompt, whether a word starts there.
    """
    length = len(phrase)
    found = [
        at
        for at in range(len(tokens) - length + 1)
        if length and starts[at] and list(tokens[at : at + length]) == list(phrase)
    ]
    return tuple(sorted({position for at in found for position in range(at, at + length)}))


def says(backbone: Backbone, text: str, phrase: str) -> bool:
    """Whether a text says a phrase, as the model reads both: in whole words, and in whatever case it passes over."""
    try:
        return bool(backbone.find_words(text, phrase))
    except SamecastError:
        return False


def word_starts(tokens: Sequence[str], whole: frozenset[str]) -> list[bool]:
    """For each token whether a word starts there: at the beginning and after each token that ends one.

    Args:
        tokens: of a prompt, as CLIP's byte-pair encoding writes them.
        whole: tokens that are words of their own, such as modifier tokens.
    """
    starts, ended = list[bool](), True
    for token in tokens:
        starts.append(ended or token in whole)
        ended = token.endswith(_WORD_END) or token in whole
    return starts
