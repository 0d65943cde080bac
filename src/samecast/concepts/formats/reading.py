"""From a path to a concept: files are told apart by what is in them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from samecast.concepts.concept import TEXT_ENCODERS, Change, Concept, ModifierToken
from samecast.concepts.file import KEY, parse_concept
from samecast.concepts.formats import custom_diffusion
from samecast.concepts.formats.contents import Contents, read_contents
from samecast.concepts.formats.lora import is_lora, read_lora
from samecast.concepts.formats.notes import WORD, with_notes
from samecast.concepts.formats.textual_inversion import is_textual_inversion, read_textual_inversion
from samecast.disk import is_folder
from samecast.errors import SamecastError

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # of files worth a look in a folder; best first


def read_concept(path: str | Path, *, pickles: bool, word: str = "") -> Concept:
    """Reads a concept from a file or a folder of any format that is known.

    Args:
        path: the file, or a folder with the files of one concept.
        pickles: whether pickles may be read.
        word: the modifier token, for a file that does not say it; empty is the file's name.

    Raises:
        SamecastError: it is missing, damaged, or nothing that is known.
    """
    path = Path(path).expanduser()
    folder = is_folder(path)
    if not folder and not path.exists():
        raise SamecastError(f"concept {path} does not exist; expected a file, or a folder with its files")
    files = _files(path) if folder else [path]
    if not files:
        raise SamecastError(f"concept {path} is a folder without any file of tensors")
    concept = _join([(file, _read_file(file, pickles=pickles, word=word)) for file in files])
    return replace(concept, origin=str(path))


def describe_format(path: str | Path, *, pickles: bool) -> str:
    """What a file is, in words; of a folder, what its files are. Errors as for `read_concept`."""
    path = Path(path).expanduser()
    files = _files(path) if path.is_dir() else [path]
    return " and ".join(dict.fromkeys(_recognise(read_contents(file, pickles=pickles))[0] for file in files))


def _read_file(path: Path, *, pickles: bool, word: str) -> Concept:
    try:
        contents = read_contents(path, pickles=pickles)
        word = word or contents.metadata.get(WORD) or contents.name
        return with_notes(_parse(_recognise(contents)[1], contents, word), contents.metadata)
    except SamecastError as error:
        raise SamecastError(f"concept {path}: {error}") from None


def _recognise(contents: Contents) -> tuple[str, str]:
    """(in words, kind)."""
    data = contents.data
    if KEY in contents.metadata:
        return "samecast concept", "samecast"
    if custom_diffusion.is_diffusers(data):
        return "diffusers' Custom Diffusion weights", "diffusers"
    if is_lora(data):
        return "LoRA", "lora"
    if custom_diffusion.is_official(data):
        return "Custom Diffusion's delta.bin", "official"
    if custom_diffusion.is_compvis(data):
        return "deltas of a CompVis checkpoint", "compvis"
    if is_textual_inversion(data):
        return "textual inversion", "textual inversion"
    keys = ", ".join(str(key)[:60] for key in list(data)[:3]) if isinstance(data, Mapping) else type(data).__name__
    raise SamecastError(f"it is no concept of a format that samecast knows; it holds {keys or 'nothing'}")


def _parse(kind: str, contents: Contents, word: str) -> Concept:
    data: Any = contents.data
    try:
        if kind == "samecast":
            return parse_concept(data, contents.metadata)
        if kind == "lora":
            return read_lora(data, contents.metadata)
        if kind == "textual inversion":
            return read_textual_inversion(data, word)
        readers = {
            "diffusers": custom_diffusion.read_diffusers,
            "official": custom_diffusion.read_official,
            "compvis": custom_diffusion.read_compvis,
        }
        return readers[kind](data)
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError, ArithmeticError) as error:
        if isinstance(error, SamecastError):
            raise
        raise SamecastError(f"it is damaged: {' '.join(str(error).split())}") from None


def _files(folder: Path) -> list[Path]:
    """The folder's files of tensors; of those that differ in their suffix alone, the safest."""
    best: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() == suffix and file.is_file():
                best.setdefault(file.stem, file)
    return sorted(best.values())


def _join(parts: list[tuple[Path, Concept]]) -> Concept:
    first, parts = parts[0][1], _paired(parts)
    tokens, changes = dict[str, ModifierToken](), dict[str, Change]()
    for file, concept in parts:
        twice = (tokens.keys() & concept.tokens.keys()) | (changes.keys() & concept.changes.keys())
        if twice:
            raise SamecastError(f"concept {file.parent}: {sorted(twice)[0]} is in {file.name} and in another file")
        tokens |= concept.tokens
        changes |= concept.changes
    xl = next((concept.base for _, concept in parts if concept.base.family == "xl"), first.base)
    return parts[0][1] if len(parts) == 1 else Concept(tokens, changes, xl, first.training)


def _paired(parts: list[tuple[Path, Concept]]) -> list[tuple[Path, Concept]]:
    """Words whose vectors for XL's two text encoders are in two files, `name` and `name_2`, put together."""
    seconds = {file.stem.removesuffix("_2"): concept for file, concept in parts if file.stem.endswith("_2")}
    found: list[tuple[Path, Concept]] = []
    used = set[str]()
    for file, concept in parts:
        second = seconds.get(file.stem)
        if second is not None and concept.tokens and concept.tokens.keys() == second.tokens.keys():
            used.add(f"{file.stem}_2")
            pairs = {word: (token, second.tokens[word]) for word, token in concept.tokens.items()}
            tokens = {
                word: ModifierToken(
                    {e: of.vectors[TEXT_ENCODERS[0]] for e, of in zip(TEXT_ENCODERS, pair, strict=True)},
                    pair[0].class_noun,
                )
                for word, pair in pairs.items()
            }
            concept = replace(concept, tokens=tokens, base=replace(concept.base, family="xl"))
        found.append((file, concept))
    return [(file, concept) for file, concept in found if file.stem not in used]
