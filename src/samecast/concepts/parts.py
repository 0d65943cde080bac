"""The unchecked contents of a file: words may still need renaming, and several files may form one concept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from samecast.concepts.concept import Base, Change, ModifierToken


@dataclass(frozen=True)
class Parts:
    """The parts of a concept, as `Concept` has them, unchecked."""

    tokens: Mapping[str, ModifierToken] = field(default_factory=dict[str, ModifierToken])
    changes: Mapping[str, Change] = field(default_factory=dict[str, Change])
    base: Base = field(default_factory=Base)
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
