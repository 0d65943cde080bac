"""A learning's folder: which one it is, and what a finished one says.

concepts/rex/
  rex.safetensors     the concept
  learn.json          settings, photos, losses, seconds; there once the run is finished
  samples/            fixed prompts, every so often
  class/              class pictures, where none were given
  state.safetensors   where an unfinished run goes on
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.checked import build, check_fields, read_json
from samecast.errors import SamecastError

RECORD, STATE = "learn.json", "state.safetensors"


@dataclass(frozen=True)
class Finished:
    """What is read of a finished run's record."""

    steps: int
    seconds: float
    losses: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.losses:
            raise SamecastError("losses must tell at least one; got none")


def find_place(wanted: Path, key: str) -> Path:
    """The folder to work in: the first of `name`, `name-2`, ... that holds this very run, or is free for it."""
    if wanted.name in ("", ".."):
        raise SamecastError(f"a concept is called as its folder, and {str(wanted)!r} has no name: give another --out")
    folder, number = wanted, 2
    while folder.is_dir() and not _is_ours(folder, key):
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def _is_ours(folder: Path, key: str) -> bool:
    """Whether a folder is a run's of this key, or an unfinished one's that is to say so itself, or empty."""
    if (folder / RECORD).is_file():
        return _record(folder).get("key") == key
    # What begins with a dot was being written when a run was killed.
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not names or bool(names & {STATE, "class", "samples", "log"})


def _record(folder: Path) -> dict[str, Any]:
    data = read_json(folder / RECORD, "record of a learning: delete it, or choose another --out")
    if not isinstance(data, dict):
        raise SamecastError(f"{str(folder / RECORD)!r} is damaged: delete it, or choose another --out")
    return data


def read_finished(folder: Path) -> Finished:
    """What a finished run's record says.

    Raises:
        SamecastError: it is damaged.
    """
    return build(Finished, _record(folder), f"{str(folder / RECORD)!r} is damaged: it", spare=True)
