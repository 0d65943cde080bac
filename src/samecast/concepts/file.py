"""samecast's own file format: safetensors, with all other data as JSON in its metadata."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from samecast.concepts.concept import Base, Change, Concept, LowRank, ModifierToken, Value
from samecast.concepts.parts import Parts
from samecast.disk import write_bytes
from samecast.errors import SamecastError

FORMAT = 1
KEY = "samecast.concept"
"""The metadata entry that names the format."""


def save_concept(concept: Concept, path: str | Path) -> Path:
    """As `Concept.save`."""
    return write_bytes(Path(path).expanduser(), concept_bytes(concept))


def concept_bytes(concept: Concept) -> bytes:
    """The contents of the file."""
    return save(_contiguous(concept.tensors()), {KEY: _describe(concept)})


def parse_concept(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Parts:
    """The unchecked parts of a concept from a file's contents.

    Raises:
        SamecastError: the file is damaged, or its format version is not supported.
    """
    try:
        data = json.loads(metadata[KEY])
        json.dumps(data, ensure_ascii=False, allow_nan=False).encode()  # NaN and lone surrogates cannot be written
        if data["format"] != FORMAT:
            raise SamecastError(f"it has format {data['format']!r:.20}; this version of samecast reads {FORMAT}")
        nouns: dict[str, str] = {str(word): str(noun) for word, noun in data["tokens"].items()}
        alphas: dict[str, float] = {str(name): float(alpha) for name, alpha in data["alphas"].items()}
        vectors: dict[str, dict[str, Tensor]] = {word: {} for word in nouns}
        changed: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith("token/"):
                _, word, encoder = key.split("/")
                vectors[word][encoder] = tensor
            else:
                name, kind = key.split("/")
                changed.setdefault(name, {})[kind] = tensor
        return Parts(
            tokens={word: ModifierToken(vectors[word], noun) for word, noun in nouns.items()},
            changes={name: _change(of, alphas.get(name)) for name, of in changed.items()},
            base=Base(**data["base"]),
            training=dict(data["training"]),
        )
    except SamecastError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ArithmeticError) as error:
        raise SamecastError(f"it is damaged: {type(error).__name__} {error}") from None


def _describe(concept: Concept) -> str:
    alphas = {
        name: change.alpha
        for name, change in concept.changes.items()
        if isinstance(change, LowRank) and change.alpha is not None
    }
    data: dict[str, Any] = {
        "format": FORMAT,
        "tokens": {word: token.class_noun for word, token in concept.tokens.items()},
        "alphas": alphas,
        "base": asdict(concept.base),
        "training": dict(concept.training),
    }
    return json.dumps(data, ensure_ascii=False, allow_nan=False)


def _change(tensors: Mapping[str, Tensor], alpha: float | None) -> Change:
    if set(tensors) == {"value"}:
        return Value(tensors["value"])
    if set(tensors) == {"up", "down"}:
        return LowRank(tensors["up"], tensors["down"], alpha)
    raise ValueError(f"a change with {sorted(tensors)}; expected value, or up and down")


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses views and tensors that share memory."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
