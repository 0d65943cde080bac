"""Token positions of a phrase in a prompt: every occurrence, whole words only."""

from collections.abc import Sequence

from samecast.errors import SamecastError
from samecast.models.base import Backbone

_WORD_END = "</w>"


def find_phrase(tokens: Sequence[str], phrase: Sequence[str], starts: Sequence[bool]) -> tuple[int, ...]:
    """Positions of all tokens of all occurrences of a phrase.

    Args:
        tokens: tokens of the prompt.
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
    """Whether a text contains a phrase, as the model tokenises both: whole words, with the tokenizer's handling of
    case."""
    try:
        return bool(backbone.find_words(text, phrase))
    except SamecastError:
        return False


def word_starts(tokens: Sequence[str], whole: frozenset[str]) -> list[bool]:
    """For each token, whether a word starts there: the first token, and each token after the end of a word.

    Args:
        tokens: tokens of a prompt, in CLIP's byte-pair encoding.
        whole: tokens that are whole words, such as modifier tokens.
    """
    starts, ended = list[bool](), True
    for token in tokens:
        starts.append(ended or token in whole)
        ended = token.endswith(_WORD_END) or token in whole
    return starts
