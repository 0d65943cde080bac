"""Prompts and latents as transformers take them: texts of several parts, words in them, and latents as tokens."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Text:
    """A prompt as a transformer takes it.

    Args:
        tokens: its embedding, padded where the family attends to padding.
        pooled: of the whole prompt, where the family has it.
        guidance: of the row, where the denoiser takes the guidance scale as an input.
    """

    tokens: Float[Tensor, "token channel"]
    pooled: Float[Tensor, " channel_pooled"] | None = None
    guidance: float = 1.0


_MARK = "\ue000"
"""A character for private use, which no chat template holds."""


def within(template: Callable[[str], str], prompt: str) -> tuple[str, int, int]:
    """A prompt in its chat template, and where in that text it begins and ends, whatever words the template has too.

    Args:
        template: the whole text of a prompt.
        prompt: what the template may strip of white space.
    """
    whole = template(prompt)
    before, _, after = template(_MARK).partition(_MARK)
    return whole, len(before), len(whole) - len(after)


def words_in(tokenizer: Any, text: str, phrase: str, begin: int = 0, end: int | None = None) -> tuple[int, ...]:
    """Positions of a phrase's tokens among a text's, special ones counted; whole words, in either case.

    Args:
        tokenizer: a fast one, which reports the characters of each token.
        text: as it is encoded, such as a prompt within a chat template.
        phrase: the words.
        begin: the first character that is looked at.
        end: the character after the last; None is the end of the text.
    """
    spelt = r"\s+".join(re.escape(word) for word in phrase.split())
    if not spelt:
        return ()
    pattern = re.compile(rf"(?<!\w){spelt}(?!\w)", re.IGNORECASE)
    spans = [match.span() for match in pattern.finditer(text, begin, len(text) if end is None else end)]
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return tuple(
        at
        for at, (first, last) in enumerate(offsets)
        if first < last and any(first < stop and last > start for start, stop in spans)
    )


def stack_tokens(texts: Sequence[Text]) -> tuple[Float[Tensor, "row token channel"], Tensor | None]:
    """Texts padded to the longest with zeros, and which tokens are not padding, (row, token); None where all are."""
    lengths = [len(text.tokens) for text in texts]
    longest = max(lengths)
    stacked = torch.stack(
        [torch.nn.functional.pad(text.tokens, (0, 0, 0, longest - len(text.tokens))) for text in texts]
    )
    if min(lengths) == longest:
        return stacked, None
    at = torch.arange(longest, device=stacked.device)
    return stacked, at < torch.tensor(lengths, device=stacked.device)[:, None]


def pack(latents: Float[Tensor, "row channel height width"]) -> Float[Tensor, "row token channel_packed"]:
    """Latents as tokens of 2 x 2, a channel's four pixels side by side."""
    rows, channels, height, width = latents.shape
    parts = latents.view(rows, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(rows, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Float[Tensor, "row token channel_packed"], height: int, width: int) -> Tensor:
    """The inverse of `pack`, given height and width of the latents."""
    rows, _, channels = tokens.shape
    parts = tokens.view(rows, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(rows, channels // 4, height, width)
