"""`FILE[:STRENGTH]`, as `--lora` and `--concept` take it. Knows no torch."""

from pathlib import Path

from samecast.errors import SamecastError

_STRONGEST = 10.0


def split_strength(word: str) -> tuple[str, float]:
    """A file and a strength out of `FILE` or `FILE:STRENGTH`; a file of that very name goes first."""
    path, colon, strength = word.rpartition(":")
    try:
        return (path, float(strength)) if colon and path and not _exists(word) else (word, 1.0)
    except ValueError:  # a colon of the path itself
        return word, 1.0


def join_strength(path: str, strength: float) -> str:
    """What `split_strength` reads, without a strength of 1."""
    return path if strength == 1 and split_strength(path) == (path, 1.0) else f"{path}:{strength!r}"


def check_strength(strength: float) -> float:
    """The strength, if it is a number that can be one.

    Raises:
        SamecastError: it is not between -10 and 10.
    """
    if not _is_number(strength) or not -_STRONGEST <= strength <= _STRONGEST:
        raise SamecastError(f"the strength of a concept must be a number between -10 and 10; got {strength!r:.40}")
    return strength


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exists(word: str) -> bool:
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, an unknown home
        return False
