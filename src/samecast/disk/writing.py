"""Writing that is all or nothing: made in a hidden folder beside its place, then put there under a name of its own."""

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
        path: where to write.
        final: where it will be found; settled when the block has ended.
    """

    path: Path
    final: Path


@contextlib.contextmanager
def writing_folder(target: str | Path, *, replaces: Callable[[Path], bool] | None = None) -> Generator[PendingFolder]:
    """A folder that appears at its place when the block ends, and not at all if the block fails.

    Args:
        target: the place; if something is there, the next free name is taken.
        replaces: asked about what is there; where it says yes, the old folder gives way to the new one.

    Raises:
        SamecastError: the place cannot be written.
    """
    wanted = check_writable(target)
    with _clear_errors(target):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with pending(wanted.parent) as place:
            made = PendingFolder(place / _MADE, wanted)
            made.path.mkdir()
            yield made
            made.final = _put_folder(made.path, wanted, replaces or (lambda old: False))


def write_picture(image: Image.Image, path: str | Path) -> Path:
    """Write one picture, whole or not at all, under the next free name; returns where.

    Raises:
        SamecastError: it cannot be written there.
    """
    wanted = absolute(path)
    if wanted.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise SamecastError(f"cannot write {str(path)!r}: expected a name that ends in .png, .jpg or .webp")
    return _write(wanted, _saving(image), _put_file)


def write_new_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file, whole or not at all, under the next free name; returns where.

    Raises:
        SamecastError: it cannot be written there.
    """
    return _write(absolute(path), lambda part: part.write_bytes(content), _put_file)


def write_text(path: Path, text: str) -> None:
    """Write a text file in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file in place of what is there, whole or not at all; returns where.

    Raises:
        SamecastError: it cannot be written there.
    """
    replace_file(path, lambda part: part.write_bytes(content))
    return path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file at the path it is given, and put it in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    _write(path, write, Path.replace)


def replace_picture(image: Image.Image, path: Path) -> None:
    """Write a picture in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    replace_file(path, _saving(image))


def save_tensors(tensors: "Mapping[str, Tensor]", path: Path, data: Mapping[str, str]) -> None:
    """Writes tensors and texts as safetensors, for `replace_file` or a folder that is being written.

    Raises:
        OSError: it cannot be written; the library has an error of its own for a disk that is full.
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
        except ValueError as error:  # a side that the format cannot have
            raise OSError(f"{error}") from error

    return save


def _write(path: Path, write: Callable[[Path], object], put: Callable[[Path, Path], Path]) -> Path:
    """Make a file beside its place and put it there; returns where."""
    check_writable(path, "new file" if put is _put_file else "file")
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with pending(path.parent) as place:
            write(place / path.name)
            return put(place / path.name, path)


def _put_file(made: Path, wanted: Path) -> Path:
    """Give a file the first of its names that nobody has, which a link does at once or not at all."""
    for name in names(wanted):
        try:
            try:
                os.link(made, name)
            except FileExistsError:
                raise
            except OSError:  # no hard links on this file system: claim the name, then take its place
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                made.replace(name)
        except FileExistsError:
            continue
        return name
    raise AssertionError  # names do not end


def _put_folder(made: Path, wanted: Path, replaces: Callable[[Path], bool]) -> Path:
    """Give a folder its place where it may take it, else the first of its names that nobody has."""
    for name in names(wanted):
        while True:
            there = _identity(name)
            if there is None:
                try:
                    return made.rename(name)
                except OSError as error:
                    if error.errno not in _TAKEN:
                        raise
            elif name == wanted and name.is_dir() and replaces(name):
                _take_away(name, made.parent / OLD)
            elif there == _identity(name):  # what was asked about is still what is there
                break
    raise AssertionError  # names do not end


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file or folder this is; None where nothing is."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _take_away(folder: Path, old: Path) -> None:
    """Keep a folder under its name in `old` until the new one is there; another process may have taken it before."""
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
