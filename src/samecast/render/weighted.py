"""LoRAs and concepts by their files and strengths: read from disk, and applied to a model together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samecast.concepts.apply import Applied, apply_concepts
from samecast.concepts.concept import Concept
from samecast.concepts.formats import read_lora_file
from samecast.concepts.strength import check_strength, join_strength, split_strength
from samecast.errors import SamecastError
from samecast.models.base import Backbone

if TYPE_CHECKING:
    from samecast.render.model import Model

Weighted = str | Path | tuple[str | Path, float]
"""A file, as `FILE` or `FILE:STRENGTH`, or with its strength beside it."""

_Concepts = list[tuple[Concept, float]]


def read_weighted(lora: Sequence[Weighted], concepts: Sequence[Weighted]) -> tuple[_Concepts, _Concepts]:
    """LoRAs and concepts with their strengths, read from disk; errors as for `load`."""
    loras, others = (
        [(read(path), strength) for path, strength in map(_weighted, entries)]
        for read, entries in ((read_lora_file, lora), (Concept.load, concepts))
    )
    return loras, others


def apply_weighted(model: "Model", weighted: tuple[_Concepts, _Concepts]) -> Applied:
    """Applies what `read_weighted` read; `revert()` of what is returned takes it out. Errors as for `load`."""
    loras, others = weighted
    applied = apply_concepts(model, [*loras, *others])
    _show_loras(model.backbone, loras)
    return applied


def _weighted(entry: Weighted) -> tuple[str, float]:
    if isinstance(entry, tuple):
        return str(entry[0]), check_strength(entry[1])
    path, strength = split_strength(str(entry))
    if not path:
        raise SamecastError("the name of a LoRA or a concept is empty; expected a file, or a folder with its files")
    return path, check_strength(strength)


def _show_loras(backbone: Backbone, loras: Sequence[tuple[Concept, float]]) -> None:
    """Names the first of the concepts that are applied as LoRAs, for provenance."""
    identity = backbone.identity
    used = zip(loras, identity.concepts, strict=False)
    data = tuple(
        (join_strength(one.origin, strength), use.revision if strength == 1 else f"{use.revision}:{strength!r}")
        for (one, strength), use in used
    )
    backbone.identity = replace(identity, lora=data, concepts=identity.concepts[len(loras) :])
