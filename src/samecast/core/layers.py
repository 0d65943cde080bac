"""The attention layers of a denoiser, addressed by name, stage, execution index or resolution.

Indices follow execution order (down, mid, up), as in MasaCtrl: Stable Diffusion 1.x has self-attention layers 0-5 in
the encoder, 6 in the middle and 7-15 in the decoder. (diffusers lists its processors down, up, mid.) A transformer
block holds one self-attention and one cross-attention layer, so both kinds share their numbering.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from samecast.errors import SamecastError

Stage = Literal["down", "mid", "up"]
_STAGE_WORDS: dict[str, tuple[Stage, ...]] = {
    "encoder": ("down",),
    "mid": ("mid",),
    "decoder": ("up",),
    "all": ("down", "mid", "up"),
}
_TERM = re.compile(r"(?:(?P<stage>down|mid|up)\.)?(?P<first>\d+)(?:-(?P<last>\d+))?")
_RESOLUTION = re.compile(r"@(?:(?P<side>[1-9]\d*)|1/(?P<part>[1-9]\d*))")
Kind = Literal["self", "cross"]


@dataclass(frozen=True)
class Layer:
    """One attention layer of the denoiser.

    Args:
        name: stage and position within the stage, like `up.3`.
        index: position in execution order over all layers of its kind.
        kind: whether its keys and values come from the image's own tokens (`self`) or from the prompt's (`cross`).
        stage: `down` (encoder), `mid` or `up` (decoder).
        resolution: side in tokens on the model's default image size.
        heads: of its attention.
    """

    name: str
    index: int
    kind: Kind
    stage: Stage
    resolution: int
    heads: int


def describe_layers(layers: Sequence[Layer]) -> str:
    """The choices in one line: `down.0-5 (0-5), mid.0 (6), up.0-8 (7-15), resolutions @64, @32, @16, @8`."""

    def span(first: int, last: int) -> str:
        return f"{first}-{last}" if last > first else str(first)

    parts: list[str] = []
    for stage, members in groupby(layers, key=lambda layer: layer.stage):
        group = list(members)
        parts.append(f"{stage}.{span(0, len(group) - 1)} ({span(group[0].index, group[-1].index)})")
    sides = sorted({layer.resolution for layer in layers}, reverse=True)
    return f"{', '.join(parts)}, resolutions {', '.join(f'@{side}' for side in sides)}"


def select_layers(selector: str, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that a selector names, in execution order.

    Args:
        selector: terms joined by commas, whose union is taken. A term is a stage (`encoder`, `mid`, `decoder`, `all`),
            an execution index or range (`7`, `10-15`), a name or range of names (`up.8`, `up.3-8`), or a resolution:
            `@16` is the layers of 16 x 16 tokens on the model's default image size, `@1/4` those at a quarter of the
            finest layer's side.
        layers: all the layers of the model, in execution order.

    Raises:
        SamecastError: a term is malformed or names a layer that this model has not; the message lists the choices.
    """
    chosen: set[Layer] = set()
    for term in selector.split(","):
        chosen |= _select_term(term.strip(), layers)
    return tuple(layer for layer in layers if layer in chosen)


def _select_term(term: str, layers: Sequence[Layer]) -> set[Layer]:
    if term in _STAGE_WORDS:
        found = {layer for layer in layers if layer.stage in _STAGE_WORDS[term]}
        wanted = max(1, len(found))
    elif by_resolution := _RESOLUTION.fullmatch(term):
        finest = max(layer.resolution for layer in layers)
        part = int(by_resolution["part"] or 1)
        # Rounded up, as a layer of stride 2 halves an odd side.
        side = int(by_resolution["side"]) if by_resolution["side"] else -(-finest // part)
        found, wanted = {layer for layer in layers if layer.resolution == side}, 1
    else:
        match = _TERM.fullmatch(term)
        if match is None:
            raise SamecastError(
                f"layers {term!r} is not a selector;"
                " use encoder, mid, decoder, all, indices like 10-15, names like up.8 or resolutions like @16"
            )
        first, last = int(match["first"]), int(match["last"] or match["first"])
        if last < first:
            raise SamecastError(f"layers {term!r} runs backwards; write {last}-{first}")
        members = [layer for layer in layers if match["stage"] in (None, layer.stage)]
        found = set(members[first : last + 1])
        wanted = last - first + 1
    if len(found) < wanted:
        verb = "match nothing" if not found else "go beyond the last layer"
        raise SamecastError(f"layers {term!r} {verb}; this model has {describe_layers(layers)}")
    return found
