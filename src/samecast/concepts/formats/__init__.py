"""Files of concepts, other tools' among them, told apart by what is in them and never by their names."""

from samecast.concepts.formats.reading import describe_format, read_concept, read_lora_file
from samecast.concepts.formats.writing import Format, write_concept

__all__ = ["Format", "describe_format", "read_concept", "read_lora_file", "write_concept"]
