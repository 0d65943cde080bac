"""From a path to a concept."""

from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from samecast.concepts.concept import Concept
from samecast.concepts.file import KEY, parse_concept
from samecast.errors import SamecastError


def read_concept(path: str | Path, *, pickles: bool) -> Concept:
    """Reads a concept (work in progress: samecast's own format)."""
    with safe_open(str(path), "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        opened: Any = file
        tensors: dict[str, Tensor] = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        metadata: dict[str, str] = dict(opened.metadata() or {})
    if KEY not in metadata:
        raise SamecastError(f"{path} is no concept")
    return parse_concept(tensors, metadata)
