"""Data that other tools' formats cannot hold, stored in the metadata of their safetensors files.

The word, where the file has another name; class nouns; and the base model.
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
    """The metadata for a file of a concept.

    Args:
        concept: the concept in the file.
        word: the word in the file; empty for none.
    """
    nouns = {name: token.class_noun for name, token in concept.tokens.items() if token.class_noun}
    data = {NOUNS: json.dumps(nouns, ensure_ascii=False)} if nouns else {}
    data |= {BASE: json.dumps(asdict(concept.base), ensure_ascii=False)} if concept.base.id else {}
    return data | ({WORD: word} if word else {})


def with_notes(parts: Parts, metadata: Mapping[str, str]) -> Parts:
    """The parts completed with the data of a file's metadata.

    Raises:
        SamecastError: the metadata is damaged.
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
        raise SamecastError(f"its samecast metadata is damaged: {' '.join(str(error).split())}") from None
