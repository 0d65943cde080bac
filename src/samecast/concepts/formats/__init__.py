"""Files of concepts, other tools' among them, told apart by what is in them and never by their names."""

from samecast.concepts.formats.reading import describe_format, read_concept
from samecast.concepts.formats.writing import Format, write_concept

__all__ = ["Format", "describe_format", "read_concept", "write_concept"]
