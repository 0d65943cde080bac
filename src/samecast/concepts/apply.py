"""Apply concepts to a model: weights are written into its parameters, and reverting restores every bit.

diffusers' own Custom Diffusion puts weights into attention processors, where they are lost when attention routing swaps
the processors. Several concepts are applied together and their changes add up, W = W0 + Σ strength · (W_i - W0); a
single concept at full strength gives its own values exactly.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from samecast.concepts.architectures import architecture_of
from samecast.concepts.concept import Change, Concept, Value
from samecast.concepts.places import find_parameter, find_pipeline
from samecast.concepts.strength import check_strength
from samecast.concepts.words import add_words, check_words
from samecast.errors import SamecastError
from samecast.models.base import ConceptUse, ModelIdentity

Weighted = Sequence[tuple[Concept, float]]
"""Pairs (concept, strength)."""

_RELATED = 0.5
"""⟨W, W0⟩ / ⟨W0, W0⟩ is about 1 for weights that were trained from W0, and about 0 for another model's weights."""

_ACTIVE: WeakKeyDictionary[torch.nn.Module, "Applied"] = WeakKeyDictionary()


class Applied:
    """Concepts applied to a model; as a context manager it removes them on exit, as does `revert`.

    Args:
        concepts: the concepts and their strengths.
        token_ids: by text encoder and modifier token, the rows of the embedding matrix that hold its vectors.
        fit_warnings: warnings of one line each, such as a concept that was trained on other weights.
    """

    def __init__(
        self, concepts: Weighted, token_ids: Mapping[str, Mapping[str, tuple[int, ...]]], fit_warnings: Sequence[str]
    ) -> None:
        self.concepts = tuple(concepts)
        self.token_ids = token_ids
        self.fit_warnings = tuple(fit_warnings)
        self._undo = ExitStack()

    @property
    def words(self) -> tuple[str, ...]:
        """The modifier tokens that the concepts add to the model."""
        return tuple(word for concept, _ in self.concepts for word in concept.tokens)

    def revert(self) -> None:
        """Restores the model bit for bit; a second call has no effect."""
        self._undo.close()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.revert()

    def hold(self, undo: ExitStack) -> None:
        """Stores the callbacks that `revert` runs."""
        self._undo = undo


@dataclass(frozen=True)
class _Write:
    """A parameter and the changes to write into it."""

    name: str
    parameter: torch.nn.Parameter
    changes: tuple[tuple[Change, float], ...]


def apply_concepts(model: Any, concepts: Weighted) -> Applied:
    """Applies concepts to a model; on an error the model stays unchanged.

    Args:
        model: a `samecast.Model`, a backbone, or a stock diffusers pipeline.
        concepts: the concepts and their strengths; see `Concept.apply`.

    Raises:
        SamecastError: a concept belongs to another model, words collide, or concepts are already applied.
    """
    pipeline = find_pipeline(model)
    if pipeline.unet in _ACTIVE:
        names = ", ".join(_name(concept) for concept, _ in _ACTIVE[pipeline.unet].concepts)
        raise SamecastError(
            f"concepts are already applied ({names}): revert them, or pass all concepts to one apply_concepts or load"
        )
    for _, strength in concepts:
        check_strength(strength)
    check_words(pipeline, [concept for concept, _ in concepts])
    writes = _plan(pipeline, concepts)
    with ExitStack() as undo:
        token_ids = add_words(pipeline, [concept for concept, _ in concepts], undo)
        for write in writes:
            undo.callback(_restore(write.parameter))
            _write(write)
        applied = Applied(concepts, token_ids, fit_warnings(model, concepts))
        _show(model, concepts, undo)
        _ACTIVE[pipeline.unet] = applied
        undo.callback(_ACTIVE.pop, pipeline.unet)
        applied.hold(undo.pop_all())
    return applied


@torch.no_grad()
def difference(change: Change, base: Tensor) -> Tensor:
    """What a change adds to a parameter at strength 1: float32, in the parameter's shape."""
    if isinstance(change, Value):
        return change.value.to(base.device, torch.float32) - base.float()
    return change.difference(base.shape, base.device)


@torch.no_grad()
def _write(write: _Write) -> None:
    """Writes a parameter with its changes applied; raises SamecastError where the result is not finite."""
    base, changes = write.parameter, write.changes
    if len(changes) == 1 and changes[0][1] == 1 and isinstance(changes[0][0], Value):
        total = changes[0][0].value
    else:
        total = base.float()
        for change, strength in changes:
            total = total + strength * difference(change, base)
    base.copy_(total)
    if not bool(torch.isfinite(base).all()):
        strengths = ", ".join(f"{strength:g}" for _, strength in changes)
        raise SamecastError(
            f"{write.name} is no longer finite in {str(base.dtype).removeprefix('torch.')} with concepts at strength"
            f" {strengths}: lower the strength, or load the model with dtype float32"
        )


def _plan(pipeline: Any, concepts: Weighted) -> list[_Write]:
    """All parameters to write, checked against the model."""
    found: dict[str, _Write] = {}
    for number, (concept, strength) in enumerate(concepts, start=1):
        label = f"{concept.origin or f'concept {number}'} ({', '.join((*concept.tokens, architecture_of(concept)))})"
        for name, parameter in related_parameters(pipeline, concept, label).items():
            earlier = found[name].changes if name in found else ()
            found[name] = _Write(name, parameter, (*earlier, (concept.changes[name], strength)))
    return list(found.values())


@torch.no_grad()
def related_parameters(pipeline: Any, concept: Concept, label: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that a concept changes, by name, if it was trained on this model or on one fine-tuned from it.

    Args:
        pipeline: the pipeline to look in.
        concept: its whole weights are compared with the model's; low-rank changes are checked by shape alone.
        label: the concept's name in messages.

    Raises:
        SamecastError: names or shapes belong to another model, or whole weights are unrelated to this model's.
    """
    found: dict[str, torch.nn.Parameter] = {}
    shared = torch.zeros(2)
    for name, change in concept.changes.items():
        found[name] = parameter = find_parameter(pipeline, name, change, label)
        if isinstance(change, Value) and parameter.ndim > 1:
            base = parameter.detach().float()
            value = change.value.detach().to(base.device, torch.float32)
            shared += torch.stack([(value * base).sum(), base.square().sum()]).cpu()
    if shared[0] < _RELATED * shared[1]:
        raise SamecastError(
            f"{label} has weights unrelated to this model's (overlap {shared[0] / shared[1]:.0%}): it was trained on"
            f" another model{_known_base(concept)}"
        )
    return found


def _name(concept: Concept) -> str:
    return ", ".join(concept.tokens) or concept.origin or "without words"


def _known_base(concept: Concept) -> str:
    return f", {concept.base.id}" if concept.base.id else ""


def _restore(parameter: torch.nn.Parameter) -> Callable[[], None]:
    """A callback that restores a parameter; the copy is kept in CPU memory, so that GPU memory does not double."""
    original = parameter.detach().to("cpu", copy=True)

    def restore() -> None:
        with torch.no_grad():
            parameter.copy_(original)

    return restore


def _show(model: Any, concepts: Weighted, undo: ExitStack) -> None:
    """Records the concepts in a backbone's identity, for provenance."""
    backbone = getattr(model, "backbone", model)
    identity = getattr(backbone, "identity", None)
    if isinstance(identity, ModelIdentity):
        uses = tuple(ConceptUse(one.origin, strength, one.revision, tuple(one.tokens)) for one, strength in concepts)
        undo.callback(setattr, backbone, "identity", identity)
        backbone.identity = replace(identity, concepts=uses)


def fit_warnings(model: Any, concepts: Weighted) -> list[str]:
    """Warnings of one line each about concepts that were trained on other weights than the model's."""
    identity = getattr(getattr(model, "backbone", model), "identity", None)
    revision: str = getattr(identity, "revision", "")
    return [
        f"concept {', '.join(concept.tokens) or number} was trained on {concept.base.id} with other weights than this"
        " model's: the subject may look different"
        for number, (concept, _) in enumerate(concepts, start=1)
        if revision and concept.base.revision and concept.base.revision != revision
    ]
