"""Concepts in a model: weights are written straight into its parameters, and every bit is put back.

Not into attention processors, as diffusers' own Custom Diffusion does: weights that live there vanish when processors
are swapped, which is what attention routing does. Several concepts are applied together: what each changes of the model
adds up, W = W0 + Σ strength · (W_i - W0), and one alone at full strength is its values to the bit.
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
"""Concepts, each with its strength."""

_RELATED = 0.5
"""⟨W, W0⟩ / ⟨W0, W0⟩ is about 1 for weights that were trained from W0, and about 0 for those of another model."""

_ACTIVE: WeakKeyDictionary[torch.nn.Module, "Applied"] = WeakKeyDictionary()


class Applied:
    """Concepts that are in a model; a context manager that takes them out at the end, or call `revert`.

    Args:
        concepts: which, and how strongly.
        token_ids: by text encoder and modifier token, the rows of the embedding matrix that are its vectors.
        fit_warnings: what may be wrong, each in one line: a concept that was learned on other weights.
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
        """The modifier tokens that the model knows now."""
        return tuple(word for concept, _ in self.concepts for word in concept.tokens)

    def revert(self) -> None:
        """Puts the model back as it was, bit for bit; without effect the second time."""
        self._undo.close()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.revert()

    def hold(self, undo: ExitStack) -> None:
        """Takes charge of what `revert` is to do."""
        self._undo = undo


@dataclass(frozen=True)
class _Write:
    """One parameter that is to change."""

    name: str
    parameter: torch.nn.Parameter
    changes: tuple[tuple[Change, float], ...]


def apply_concepts(model: Any, concepts: Weighted) -> Applied:
    """Puts concepts into a model; it changes at once, or, where something is wrong, not at all.

    Args:
        model: a `samecast.Model`, a backbone, or a stock diffusers pipeline.
        concepts: which, and how strongly; see `Concept.apply`.

    Raises:
        SamecastError: a concept is of another model, words collide, or concepts are applied already.
    """
    pipeline = find_pipeline(model)
    if pipeline.unet in _ACTIVE:
        names = ", ".join(_name(concept) for concept, _ in _ACTIVE[pipeline.unet].concepts)
        raise SamecastError(
            f"concepts are applied already ({names}): revert them, or give all to one apply_concepts, or to load"
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
    """What a change adds to the model's parameter, in float32 and its shape, at strength 1."""
    if isinstance(change, Value):
        return change.value.to(base.device, torch.float32) - base.float()
    return change.difference(base.shape, base.device)


@torch.no_grad()
def _write(write: _Write) -> None:
    """Writes what the changes make of a parameter, if its precision can hold that."""
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
    """Every parameter that changes, found and checked."""
    found: dict[str, _Write] = {}
    for number, (concept, strength) in enumerate(concepts, start=1):
        label = f"{concept.origin or f'concept {number}'} ({', '.join((*concept.tokens, architecture_of(concept)))})"
        for name, parameter in related_parameters(pipeline, concept, label).items():
            earlier = found[name].changes if name in found else ()
            found[name] = _Write(name, parameter, (*earlier, (concept.changes[name], strength)))
    return list(found.values())


@torch.no_grad()
def related_parameters(pipeline: Any, concept: Concept, label: str) -> dict[str, torch.nn.Parameter]:
    """The parameters that a concept changes, by name, if it was learned on this model or one trained from it.

    Args:
        pipeline: whose parameters.
        concept: of which those of low rank fit every model of their shapes.
        label: of the concept, for messages.

    Raises:
        SamecastError: names or shapes are another model's, or whole weights have nothing to do with this one's.
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
            f"{label} has values that have nothing to do with this model's, of which they contain"
            f" {shared[0] / shared[1]:.0%}: it was learned on another one{_known_base(concept)}"
        )
    return found


def _name(concept: Concept) -> str:
    return ", ".join(concept.tokens) or concept.origin or "without words"


def _known_base(concept: Concept) -> str:
    return f", {concept.base.id}" if concept.base.id else ""


def _restore(parameter: torch.nn.Parameter) -> Callable[[], None]:
    """Puts a parameter back; kept in main memory, where a LoRA of all layers does not double what the model takes."""
    original = parameter.detach().to("cpu", copy=True)

    def restore() -> None:
        with torch.no_grad():
            parameter.copy_(original)

    return restore


def _show(model: Any, concepts: Weighted, undo: ExitStack) -> None:
    """Lets a backbone say of itself that the concepts are in it, for provenance."""
    backbone = getattr(model, "backbone", model)
    identity = getattr(backbone, "identity", None)
    if isinstance(identity, ModelIdentity):
        uses = tuple(ConceptUse(one.origin, strength, one.revision, tuple(one.tokens)) for one, strength in concepts)
        undo.callback(setattr, backbone, "identity", identity)
        backbone.identity = replace(identity, concepts=uses)


def fit_warnings(model: Any, concepts: Weighted) -> list[str]:
    """What may be wrong about concepts in a model, each in one line: they were learned on other weights."""
    identity = getattr(getattr(model, "backbone", model), "identity", None)
    revision: str = getattr(identity, "revision", "")
    return [
        f"concept {', '.join(concept.tokens) or number} was learned on {concept.base.id} with other weights than this"
        " model's: it may look different"
        for number, (concept, _) in enumerate(concepts, start=1)
        if revision and concept.base.revision and concept.base.revision != revision
    ]
