"""What other tools' formats have no place for, in the metadata of their safetensors, which they leave alone.

A word where the file is called otherwise, the class nouns of words, and the model that was learned on.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from samecast.concepts.concept import Base, Concept
from samecast.concepts.parts import Parts
from samecast.errors import SamecastError

WORD, NOUNS, BASE = "samecast.word", "samecast.nouns", "samecast.base"


def notes(concept: Concept, word: str = "") -> dict[str, str]:
    """Metadata that tells it.

    Args:
        concept: of which.
        word: where the file holds one.
    """
    nouns = {name: token.class_noun for name, token in concept.tokens.items() if token.class_noun}
    data = {NOUNS: json.dumps(nouns, ensure_ascii=False)} if nouns else {}
    data |= {BASE: json.dumps(asdict(concept.base), ensure_ascii=False)} if concept.base.id else {}
    return data | ({WORD: word} if word else {})


def with_notes(parts: Parts, metadata: Mapping[str, str]) -> Parts:
    """The parts with what a file's metadata tells besides.

    Raises:
        SamecastError: that is damaged.
    """
    try:
        nouns: dict[str, Any] = json.loads(metadata.get(NOUNS, "{}"))
        tokens = {
            word: replace(token, class_noun=str(nouns.get(word, token.class_noun)))
            for word, token in parts.tokens.items()
        }
        base = Base(**json.loads(metadata[BASE])) if BASE in metadata else parts.base
        return replace(parts, tokens=tokens, base=base)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SamecastError(f"its notes are damaged: {' '.join(str(error).split())}") from None
