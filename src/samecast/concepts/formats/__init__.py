"""Concept files, including other tools' formats; the format is detected from the contents, never from the name."""

from samecast.concepts.formats.reading import describe_format, read_concept, read_lora_file
from samecast.concepts.formats.writing import Format, write_concept

__all__ = ["Format", "describe_format", "read_concept", "read_lora_file", "write_concept"]
