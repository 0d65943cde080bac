"""The folder of a training run: its layout, its name and the record of a finished run.

concepts/rex/
  rex.safetensors     the concept
  learn.json          settings, photos, losses, seconds; written at the end of the run
  samples/            images of fixed prompts at intervals
  class/              generated class images
  state.safetensors   checkpoint of an unfinished run
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.checked import build, check_fields, read_json
from samecast.errors import SamecastError

RECORD, STATE = "learn.json", "state.safetensors"


@dataclass(frozen=True)
class Finished:
    """The fields of a finished run's record that are read."""

    steps: int
    seconds: float
    losses: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.losses:
            raise SamecastError("losses must hold at least one number; got none")


def find_place(path: Path, key: str) -> Path:
    """The run's folder: the first of `name`, `name-2`, ... that holds this run or is free."""
    if path.name in ("", ".."):
        raise SamecastError(f"a concept takes its folder's name, but {str(path)!r} has no name: give another --out")
    folder, number = path, 2
    while folder.is_dir() and not _is_ours(folder, key):
        folder, number = path.with_name(f"{path.name}-{number}"), number + 1
    return folder


def _is_ours(folder: Path, key: str) -> bool:
    """Whether a folder is empty, holds the run of this key, or holds an unfinished run, which is checked when it is
    read."""
    if (folder / RECORD).is_file():
        return _record(folder).get("key") == key
    # Names with a leading dot are unfinished files of a killed run.
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return not names or bool(names & {STATE, "class", "samples", "log"})


def _record(folder: Path) -> dict[str, Any]:
    data = read_json(folder / RECORD, "record of a training run: delete it, or choose another --out")
    if not isinstance(data, dict):
        raise SamecastError(f"{str(folder / RECORD)!r} is damaged: delete it, or choose another --out")
    return data


def read_finished(folder: Path) -> Finished:
    """The record of a finished run.

    Raises:
        SamecastError: the record is damaged.
    """
    return build(Finished, _record(folder), f"{str(folder / RECORD)!r} is damaged: it", spare=True)
