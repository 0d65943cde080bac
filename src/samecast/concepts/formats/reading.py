"""Reads a concept from a path; the format is detected from the contents."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from samecast.concepts.architectures import FAMILY, other_architecture
from samecast.concepts.checks import is_word
from samecast.concepts.concept import TEXT_ENCODERS, Change, Concept, ModifierToken, renamed
from samecast.concepts.file import KEY, parse_concept
from samecast.concepts.formats import custom_diffusion
from samecast.concepts.formats.contents import Contents, read_contents
from samecast.concepts.formats.lora import PEFT_NAME, is_lora, read_lora
from samecast.concepts.formats.notes import WORD, with_notes
from samecast.concepts.formats.peft import CONFIG_NAME, METADATA
from samecast.concepts.formats.textual_inversion import is_textual_inversion, read_textual_inversion
from samecast.concepts.parts import Parts
from samecast.disk import is_folder
from samecast.errors import SamecastError

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # files considered in a folder; preferred first
_LARGEST_CONFIG = 10_000_000
_Read = tuple[Path, Parts]


def read_concept(
    path: str | Path, *, pickles: bool, word: str = "", rename: Mapping[str, str] | None = None, what: str = "concept"
) -> Concept:
    """Reads a concept from a file or folder in any supported format.

    Args:
        path: the file, or a folder with the files of one concept.
        pickles: whether pickles may be read.
        word: the modifier token, for a concept that has one; empty is the file's own word, or the file's name.
        rename: new words by old word.
        what: the name for the file in messages.

    Raises:
        SamecastError: the file is missing, damaged, or in an unknown format.
    """
    path = Path(path).expanduser()
    read = _paired([(file, _read_file(file, pickles=pickles, what=what)) for file in _files(path, what)])
    try:
        words = _new_words({name: token for _, parts in read for name, token in parts.tokens.items()}, word, rename)
    except SamecastError as error:
        raise SamecastError(f"{what} {path}: {error}") from None
    concepts = [(file, _checked(file, parts, words, what)) for file, parts in read]
    return replace(_join(concepts, what), origin=str(path))


def read_lora_file(path: str | Path) -> Concept:
    """Reads a LoRA file for `--lora`: changed weights without words.

    Args:
        path: a safetensors file in any supported format, or a folder, in which diffusers' LoRA file takes precedence.

    Raises:
        SamecastError: the file is missing, damaged, in an unknown format, or holds words.
    """
    given = Path(path).expanduser()
    named = given / f"{PEFT_NAME}.safetensors"
    concept = read_concept(named if named.is_file() else given, pickles=False, what="LoRA")
    if concept.tokens:
        words = ", ".join(concept.tokens)
        raise SamecastError(
            f"LoRA {path}: it holds the modifier token {words}: use --concept, so that prompts can contain it"
        )
    return replace(concept, origin=str(path))


def describe_format(path: str | Path, *, pickles: bool) -> str:
    """The format of a file, or the formats of a folder's files, in words. Errors as for `read_concept`."""
    files = _files(Path(path).expanduser(), "concept")
    return " and ".join(dict.fromkeys(_recognise(read_contents(file, pickles=pickles))[0] for file in files))


def _read_file(path: Path, *, pickles: bool, what: str) -> Parts:
    try:
        contents = _with_settings(path, read_contents(path, pickles=pickles))
        return with_notes(_parse(contents), contents.metadata)
    except SamecastError as error:
        raise SamecastError(f"{what} {path}: {error}") from None


def _with_settings(path: Path, contents: Contents) -> Contents:
    """Adds the scales that PEFT keeps in a separate file in the same folder."""
    data, settings = contents.data, path.with_name(CONFIG_NAME)
    own = isinstance(data, Mapping) and any(str(key).startswith("base_model.model.") for key in data)
    if not own or METADATA in contents.metadata or not settings.is_file():
        return contents
    try:
        if settings.stat().st_size > _LARGEST_CONFIG:
            raise SamecastError(f"the {CONFIG_NAME} beside it is too large for a settings file")
        record = settings.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SamecastError(f"the {CONFIG_NAME} beside it cannot be read: {' '.join(str(error).split())}") from None
    return replace(contents, metadata={**contents.metadata, METADATA: record})


def _recognise(contents: Contents) -> tuple[str, Callable[[], Parts]]:
    """The format of a file in words, and the function that reads it."""
    data, metadata = contents.data, contents.metadata
    name = metadata.get(WORD) or contents.name
    if KEY in metadata:
        return "samecast concept", lambda: parse_concept(data, metadata)
    if custom_diffusion.is_diffusers(data):
        return "diffusers' Custom Diffusion weights", lambda: custom_diffusion.read_diffusers(data)
    if is_lora(data):
        return "LoRA", lambda: read_lora(data, metadata)
    if custom_diffusion.is_official(data):
        return "Custom Diffusion's delta.bin", lambda: custom_diffusion.read_official(data)
    if custom_diffusion.is_compvis(data):
        return "deltas of a CompVis checkpoint", lambda: custom_diffusion.read_compvis(data)
    if is_textual_inversion(data):
        return "textual inversion", lambda: read_textual_inversion(data, name)
    keys = ", ".join(str(key)[:60] for key in list(data)[:3]) if isinstance(data, Mapping) else type(data).__name__
    raise SamecastError(f"it is not a concept in a format that samecast supports; it holds {keys or 'nothing'}")


def _parse(contents: Contents) -> Parts:
    data: Any = contents.data
    try:
        return _recognise(contents)[1]()
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError, ArithmeticError) as error:
        other = other_architecture(str(key) for key in data) if isinstance(data, Mapping) else ""
        if other and KEY not in contents.metadata:
            raise SamecastError(f"it belongs to {other}; samecast supports concepts of {FAMILY}") from None
        if isinstance(error, SamecastError):
            raise
        raise SamecastError(f"it is damaged: {' '.join(str(error).split())}") from None


def _new_words(tokens: Mapping[str, ModifierToken], word: str, rename: Mapping[str, str] | None) -> Mapping[str, str]:
    """New words by old word."""
    if word and len(tokens) != 1:
        held = f"{len(tokens)}: {', '.join(tokens)}; rename them one by one" if tokens else "none"
        raise SamecastError(f"the word {word} needs a concept with one modifier token, but this has {held:.200}")
    words = dict.fromkeys(tokens, word) if word else {}
    renamed(renamed(tokens, words), rename or {})
    return {old: (rename or {}).get(words.get(old, old), words.get(old, old)) for old in tokens}


def _checked(file: Path, parts: Parts, words: Mapping[str, str], what: str) -> Concept:
    tokens = {words[word]: token for word, token in parts.tokens.items()}
    strange = next((word for word in tokens if not is_word(word)), None)
    if strange is not None:
        option = "--word '<new1>'" if len(words) == 1 else f"--rename '{strange:.60}=<new1>'"
        raise SamecastError(
            f"{what} {file}: {strange!r:.120} cannot be a modifier token; expected a word without spaces: rename it"
            f" with"
            f" samecast concept convert {option}"
        )
    try:
        return Concept(tokens, parts.changes, parts.base, parts.training)
    except SamecastError as error:
        raise SamecastError(f"{what} {file}: {error}") from None


def _files(path: Path, what: str) -> list[Path]:
    """The file itself, or a folder's files of tensors; of names that differ in the suffix alone, the safest format."""
    if not is_folder(path):
        if not path.exists():
            raise SamecastError(f"{what} {path} does not exist; expected a file, or a folder with its files")
        return [path]
    try:
        inside = sorted(file for file in path.iterdir() if file.is_file())
    except OSError as error:
        raise SamecastError(f"{what} {path} cannot be read: {error.strerror or error}") from None
    best: dict[str, Path] = {}
    for suffix in _SUFFIXES:
        for file in inside:
            if file.suffix.lower() == suffix:
                best.setdefault(file.stem, file)
    if not best:
        raise SamecastError(f"{what} {path} is a folder without files of tensors")
    return sorted(best.values())


def _join(read: Sequence[tuple[Path, Concept]], what: str) -> Concept:
    tokens, changes = dict[str, ModifierToken](), dict[str, Change]()
    for file, concept in read:
        twice = (tokens.keys() & concept.tokens.keys()) | (changes.keys() & concept.changes.keys())
        if twice:
            raise SamecastError(f"{what} {file.parent}: {sorted(twice)[0]} is in {file.name} and in another file")
        tokens |= concept.tokens
        changes |= concept.changes
    first = read[0][1]
    xl = next((concept.base for _, concept in read if concept.base.family == "xl"), first.base)
    try:
        return first if len(read) == 1 else Concept(tokens, changes, xl, first.training)
    except SamecastError as error:
        raise SamecastError(f"{what} {read[0][0].parent}: {error}") from None


def _paired(read: list[_Read]) -> list[_Read]:
    """Joins words whose vectors for XL's two text encoders are in two files, `name` and `name_2`."""
    seconds = {file.stem.removesuffix("_2"): parts for file, parts in read if file.stem.endswith("_2")}
    found: list[_Read] = []
    used = set[str]()
    for file, parts in read:
        second = seconds.get(file.stem)
        if second is not None and parts.tokens and parts.tokens.keys() == second.tokens.keys():
            used.add(f"{file.stem}_2")
            pairs = {word: (token, second.tokens[word]) for word, token in parts.tokens.items()}
            tokens = {
                word: ModifierToken(
                    {e: of.vectors[TEXT_ENCODERS[0]] for e, of in zip(TEXT_ENCODERS, pair, strict=True)},
                    pair[0].class_noun,
                )
                for word, pair in pairs.items()
            }
            parts = replace(parts, tokens=tokens, base=replace(parts.base, family="xl"))
        found.append((file, parts))
    return [(file, parts) for file, parts in found if file.stem not in used]
