"""Atomic writing: files are made in a hidden folder next to their final place and then moved there."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from samecast.disk.locks import OLD, pending
from samecast.disk.paths import absolute, check_writable, names
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from torch import Tensor

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
_MADE = "made"


@dataclass
class PendingFolder:
    """A folder that is being written.

    Args:
        path: the folder to write in.
        final: the final path; set at the end of the block.
    """

    path: Path
    final: Path


@contextlib.contextmanager
def writing_folder(target: str | Path, *, replaces: Callable[[Path], bool] | None = None) -> Generator[PendingFolder]:
    """A folder that appears at its final path when the block ends, and not at all if the block fails.

    Args:
        target: the path; if it exists, the next free name is used.
        replaces: called with an existing path; if it returns True, the new folder replaces the old one.

    Raises:
        SamecastError: the path cannot be written.
    """
    destination = check_writable(target)
    with _clear_errors(target):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with pending(destination.parent) as place:
            made = PendingFolder(place / _MADE, destination)
            made.path.mkdir()
            yield made
            made.final = _put_folder(made.path, destination, replaces or (lambda old: False))


def write_picture(image: Image.Image, path: str | Path) -> Path:
    """Writes an image atomically under the next free name; returns the path.

    Raises:
        SamecastError: the path cannot be written.
    """
    destination = absolute(path)
    if destination.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise SamecastError(f"cannot write {str(path)!r}: expected a name that ends in .png, .jpg or .webp")
    return _write(destination, _saving(image), _put_file)


def write_new_bytes(path: str | Path, content: bytes) -> Path:
    """Writes a file atomically under the next free name; returns the path.

    Raises:
        SamecastError: the path cannot be written.
    """
    return _write(absolute(path), lambda part: part.write_bytes(content), _put_file)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, replacing an existing one.

    Raises:
        SamecastError: the path cannot be written.
    """
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Writes a file atomically, replacing an existing one; returns the path.

    Raises:
        SamecastError: the path cannot be written.
    """
    replace_file(path, lambda part: part.write_bytes(content))
    return path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Has `write` create a file at a temporary path, then moves it to `path` atomically, replacing an existing file.

    Raises:
        SamecastError: the path cannot be written.
    """
    _write(path, write, Path.replace)


def replace_picture(image: Image.Image, path: Path) -> None:
    """Writes an image atomically, replacing an existing file.

    Raises:
        SamecastError: the path cannot be written.
    """
    replace_file(path, _saving(image))


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path, data: Mapping[str, str]) -> None:
    """Writes tensors and text metadata as safetensors, for `replace_file` or a `writing_folder`.

    Raises:
        OSError: it cannot be written; converted from safetensors' own error, such as for a full disk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, dict(data))
    except SafetensorError as error:
        raise OSError(f"{error}") from error


def _saving(image: Image.Image) -> Callable[[Path], None]:
    def save(part: Path) -> None:
        try:
            image.save(part)
        except ValueError as error:  # a side too long for the format
            raise OSError(f"{error}") from error

    return save


def _write(path: Path, write: Callable[[Path], object], put: Callable[[Path, Path], Path]) -> Path:
    """Makes a file in a temporary folder and moves it to its final path; returns the path."""
    check_writable(path, "new file" if put is _put_file else "file")
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with pending(path.parent) as place:
            write(place / path.name)
            return put(place / path.name, path)


def _put_file(made: Path, destination: Path) -> Path:
    """Moves a file to the first of its names that is free; a hard link does so atomically."""
    for name in names(destination):
        try:
            try:
                os.link(made, name)
            except FileExistsError:
                raise
            except OSError:  # no hard links on this file system: create the name, then replace it
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                made.replace(name)
        except FileExistsError:
            continue
        return name
    raise AssertionError  # `names` is infinite


def _put_folder(made: Path, destination: Path, replaces: Callable[[Path], bool]) -> Path:
    """Moves a folder to its path if it may replace it, else to the first of its names that is free."""
    for name in names(destination):
        while True:
            there = _identity(name)
            if there is None:
                try:
                    return made.rename(name)
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
            elif name == destination and name.is_dir() and replaces(name):
                _take_away(name, made.parent / OLD)
            elif there == _identity(name):  # still the folder that `replaces` was called with
                break
    raise AssertionError  # `names` is infinite


def _identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of a file or folder; None if it does not exist."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _take_away(folder: Path, old: Path) -> None:
    """Moves a folder into `old` until the new one is in place; another process may have moved it before."""
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    with contextlib.suppress(FileNotFoundError):
        folder.rename(old / folder.name)


@contextlib.contextmanager
def _clear_errors(target: str | Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SamecastError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
