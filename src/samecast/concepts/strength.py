"""`FILE[:STRENGTH]`, the argument of `--lora` and `--concept`. Does not import torch."""

from pathlib import Path

from samecast.errors import SamecastError

_STRONGEST = 10.0


def split_strength(word: str) -> tuple[str, float]:
    """Splits `FILE` or `FILE:STRENGTH`; an existing file of the whole name takes precedence."""
    path, colon, strength = word.rpartition(":")
    try:
        return (path, float(strength)) if colon and path and not _exists(word) else (word, 1.0)
    except ValueError:  # the colon belongs to the path
        return word, 1.0


def join_strength(path: str, strength: float) -> str:
    """The inverse of `split_strength`; a strength of 1 is left out."""
    return path if strength == 1 and split_strength(path) == (path, 1.0) else f"{path}:{strength!r}"


def check_strength(strength: float) -> float:
    """Returns the strength if it is valid.

    Raises:
        SamecastError: the strength is not a number between -10 and 10.
    """
    if not _is_number(strength) or not -_STRONGEST <= strength <= _STRONGEST:
        raise SamecastError(f"the strength of a concept must be a number between -10 and 10; got {strength!r:.40}")
    return strength


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exists(word: str) -> bool:
    try:
        return Path(word).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, an unknown home directory
        return False
