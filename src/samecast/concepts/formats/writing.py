"""Writes a concept in the formats of other tools."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from torch import Tensor

from samecast.concepts.concept import Concept
from samecast.concepts.file import concept_bytes
from samecast.concepts.formats import custom_diffusion
from samecast.concepts.formats.lora import PEFT_NAME, write_kohya, write_peft
from samecast.concepts.formats.notes import notes
from samecast.concepts.formats.textual_inversion import write_a1111, write_textual_inversion
from samecast.disk import write_new_bytes, writing_folder
from samecast.errors import SamecastError

Format = Literal["samecast", "official", "compvis", "diffusers", "textual-inversion", "a1111", "peft", "kohya"]

Files = dict[str, bytes]
"""File contents by file name."""


def write_concept(concept: Concept, path: str | Path, to: Format = "samecast") -> Path:
    """Writes a concept in a format; an existing file is kept, and the next free name is used.

    Args:
        concept: the concept to write.
        path: a file, or a folder for formats of several files or a path without suffix.
        to: the format.

    Returns:
        The path written.

    Raises:
        SamecastError: the format cannot hold the concept, or the path cannot be written.
    """
    files = _WRITERS[to](concept)
    target = Path(path).expanduser()
    if len(files) == 1 and target.suffix:
        return write_new_bytes(target, next(iter(files.values())))
    with writing_folder(target) as place:
        for name, content in files.items():
            (place.path / name).write_bytes(content)
    return place.final


def _samecast(concept: Concept) -> Files:
    return {"concept.safetensors": concept_bytes(concept)}


def _official(concept: Concept) -> Files:
    return {"delta.bin": custom_diffusion.write_official(concept)}


def _compvis(concept: Concept) -> Files:
    return {"delta.ckpt": custom_diffusion.write_compvis(concept)}


def _diffusers(concept: Concept) -> Files:
    weights = _safe(custom_diffusion.write_diffusers(concept), {"format": "pt", **notes(_wordless(concept))})
    return _beside(f"{custom_diffusion.DIFFUSERS_NAME}.safetensors", weights, concept)


def _textual_inversion(concept: Concept) -> Files:
    files: Files = {}
    for word, tensors in write_textual_inversion(concept).items():
        alone = replace(concept, tokens={word: concept.tokens[word]})
        files[f"{word}.safetensors"] = _safe(tensors, {"format": "pt", **notes(alone, word)})
    return files


def _peft(concept: Concept) -> Files:
    tensors, metadata = write_peft(concept)
    weights = _safe(tensors, {**metadata, **notes(_wordless(concept))})
    return _beside(f"{PEFT_NAME}.safetensors", weights, concept)


def _kohya(concept: Concept) -> Files:
    return _beside("lora.safetensors", _safe(write_kohya(concept), notes(_wordless(concept))), concept)


def _wordless(concept: Concept) -> Concept:
    return replace(concept, tokens={})


def _beside(name: str, weights: bytes, concept: Concept) -> Files:
    """The weights, and the words in separate textual inversion files, as the format cannot hold them."""
    words = _textual_inversion(replace(concept, changes={})) if concept.tokens else {}
    if name.lower() in {word.lower() for word in words}:
        word = name.removesuffix(".safetensors")
        raise SamecastError(
            f"the file of the word {word} would replace the weights file: rename the word with --rename"
            f" '{word}=<other>'"
        )
    return {name: weights, **words}


def _safe(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, metadata)


_WRITERS: dict[Format, Callable[[Concept], Any]] = {
    "samecast": _samecast,
    "official": _official,
    "compvis": _compvis,
    "diffusers": _diffusers,
    "textual-inversion": _textual_inversion,
    "a1111": write_a1111,
    "peft": _peft,
    "kohya": _kohya,
}
