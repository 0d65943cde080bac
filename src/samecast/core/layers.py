"""The attention layers of a denoiser, addressed by name, stage, execution index, resolution or named set.

Indices follow execution order (down, mid, up), as in MasaCtrl: Stable Diffusion 1.x has self-attention layers 0-5 in
the encoder, 6 in the middle and 7-15 in the decoder. (diffusers lists its processors down, up, mid.) A transformer
block holds one self-attention and one cross-attention layer, so both kinds share their numbering.

Transformers have layers of *joint* attention, in which picture and prompt are one sequence: `double` ones with
projections of their own for the prompt, `single` ones with the same for both, and, beside these, `dual` and `refiner`
layers that only the picture goes through. Within a stage they are numbered by block, as in papers: `double.7` is that
of block 7.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from samecast.errors import SamecastError

Stage = Literal["down", "mid", "up", "double", "single", "dual", "refiner", "block"]
STAGES: dict[str, tuple[Stage, ...]] = {
    "encoder": ("down",),
    "mid": ("mid",),
    "decoder": ("up",),
    "double": ("double",),
    "single": ("single",),
    "dual": ("dual",),
    "refiner": ("refiner",),
    "block": ("block",),
    "all": ("down", "mid", "up", "double", "single", "dual", "refiner", "block"),
}
"""The stages that a word of a selector names."""
_TERM = re.compile(r"(?:(?P<stage>down|mid|up|double|single|dual|refiner|block)\.)?(?P<first>\d+)(?:-(?P<last>\d+))?")
_RESOLUTION = re.compile(r"@(?:(?P<side>[1-9]\d*)|1/(?P<part>[1-9]\d*))")
Kind = Literal["self", "cross", "joint"]


@dataclass(frozen=True)
class Layer:
    """One attention layer of the denoiser.

    Args:
        name: stage and position within the stage, like `up.3`.
        index: position in execution order over all layers of its kind.
        kind: whether its keys and values come from the image's own tokens (`self`), from the prompt's (`cross`) or from
            both (`joint`).
        stage: of a U-Net `down` (encoder), `mid` or `up` (decoder); of a transformer `double`, `single`, `dual`,
            `refiner` or `block`.
        resolution: side in tokens on the model's default image size.
        heads: of its attention.
        sets: the named sets of papers that it is in, such as `vital`.
    """

    name: str
    index: int
    kind: Kind
    stage: Stage
    resolution: int
    heads: int
    sets: tuple[str, ...] = ()


def describe_layers(layers: Sequence[Layer]) -> str:
    """The choices in one line: `down.0-5 (0-5), mid.0 (6), up.0-8 (7-15), resolutions @64, @32, @16, @8`."""

    def span(first: int, last: int) -> str:
        return f"{first}-{last}" if last > first else str(first)

    parts: list[str] = []
    for stage in dict.fromkeys(layer.stage for layer in layers):
        group = [layer for layer in layers if layer.stage == stage]
        parts.append(f"{stage}.{span(0, len(group) - 1)} ({span(group[0].index, group[-1].index)})")
    sides = sorted({layer.resolution for layer in layers}, reverse=True)
    return f"{', '.join(parts)}, resolutions {', '.join(f'@{side}' for side in sides)}"


def select_layers(selector: str, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """The layers that a selector names, in execution order.

    Args:
        selector: terms joined by commas, whose union is taken. A term is a stage (`encoder`, `mid`, `decoder`,
            `double`, `single`, `all`), an execution index or range (`7`, `10-15`), a name or range of names (`up.8`,
            `up.3-8`), a named set of the model (`vital`), or a resolution: `@16` is the layers of 16 x 16 tokens on the
            model's default image size, `@1/4` those at a quarter of the finest layer's side.
        layers: all the layers of the model, in execution order.

    Raises:
        SamecastError: a term is malformed or names a layer that this model has not; the message lists the choices.
    """
    chosen: set[Layer] = set()
    for term in selector.split(","):
        chosen |= _select_term(term.strip(), layers)
    return tuple(layer for layer in layers if layer in chosen)


def _select_term(term: str, layers: Sequence[Layer]) -> set[Layer]:
    if named := {layer for layer in layers if term in layer.sets}:
        return named
    if term in STAGES:
        found = {layer for layer in layers if layer.stage in STAGES[term]}
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
                f" use {_words(layers)}, indices like {_range(layers)}, names like {layers[-1].name} or"
                f" resolutions like @{layers[-1].resolution}"
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


def _words(layers: Sequence[Layer]) -> str:
    """The words that select layers of this model."""
    stages = {layer.stage for layer in layers}
    sets = dict.fromkeys(name for layer in layers for name in layer.sets)
    return ", ".join([*(word for word, named in STAGES.items() if stages & set(named)), *sets])


def _range(layers: Sequence[Layer]) -> str:
    return f"{max(0, len(layers) - 6)}-{len(layers) - 1}"
