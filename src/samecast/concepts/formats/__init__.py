"""Files of concepts, other tools' among them, told apart by what is in them and never by their names."""

from samecast.concepts.formats.reading import read_concept

__all__ = ["read_concept"]
