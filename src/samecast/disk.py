"""Writing that is all or nothing: made under another name beside its place, then renamed into it."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from samecast.errors import SamecastError


@dataclass
class PendingFolder:
    """A folder that is being written.

    Args:
        path: where to write.
        final: where it will be found; settled when the block has ended.
    """

    path: Path
    final: Path


def free_path(path: str | Path) -> Path:
    """The path itself if nothing is there, else the first free of `name-2`, `name-3`, ... (before a file's suffix).

    Raises:
        SamecastError: it has no name of its own, as `.` has none, and something is there.
    """
    wanted = Path(path).expanduser()
    if os.path.lexists(wanted) and wanted.name in ("", ".."):
        raise SamecastError(f"{str(path)!r} is there already, and has no name that another could be made of: name one")
    found, number = wanted, 2
    while os.path.lexists(found):
        found = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        number += 1
    return found


def check_writable(path: str | Path) -> None:
    """See, before any work is done, whether a file or folder can be created at `path`.

    Raises:
        SamecastError: it cannot.
    """
    above = Path(path).expanduser().absolute().parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise SamecastError(f"cannot write {str(path)!r}: {str(above)!r} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SamecastError(f"cannot write {str(path)!r}: no permission in {str(above)!r}")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        SamecastError: it cannot be looked at: no permission, or a name that is too long.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise SamecastError(f"cannot read {str(path)!r:.200}: {error.strerror or error}") from None


@contextlib.contextmanager
def writing_folder(target: str | Path, *, replaces: Callable[[Path], bool] | None = None) -> Generator[PendingFolder]:
    """A folder that appears at its place when the block ends, and not at all if the block fails.

    Args:
        target: the place; if something is there, the next free name is taken.
        replaces: asked about what is there; where it says yes, the old folder gives way to the new one.

    Raises:
        SamecastError: the place cannot be written.
    """
    wanted = Path(target).expanduser().absolute()
    check_writable(wanted)
    with _clear_errors(target):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        pending = PendingFolder(Path(tempfile.mkdtemp(prefix=f".{wanted.name}-", dir=wanted.parent)), wanted)
    try:
        with _clear_errors(target):
            yield pending
            pending.path.chmod(0o777 & ~_umask())  # mkdtemp makes it private
            if replaces is not None and wanted.is_dir() and replaces(wanted):
                old = Path(tempfile.mkdtemp(prefix=f".{wanted.name}-old-", dir=wanted.parent))
                wanted.rename(old / "old")
                pending.path.rename(wanted)
                shutil.rmtree(old)
            else:
                _rename_to_free(pending)
    finally:
        shutil.rmtree(pending.path, ignore_errors=True)


def write_picture(image: Image.Image, path: str | Path) -> Path:
    """Write one picture, whole or not at all, under the next free name; returns where.

    Raises:
        SamecastError: it cannot be written there.
    """
    wanted = Path(path).expanduser()
    if wanted.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise SamecastError(f"cannot write {str(path)!r}: expected a name that ends in .png, .jpg or .webp")
    return _write(wanted, image.save, replace=False)


def write_text(path: Path, text: str) -> None:
    """Write a text file in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    _write(path, lambda part: part.write_text(text, encoding="utf-8"), replace=True)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file in place of what is there, whole or not at all; returns where.

    Raises:
        SamecastError: it cannot be written there.
    """
    return _write(path, lambda part: part.write_bytes(content), replace=True)


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file at the path it is given, and put it in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    _write(path, write, replace=True)


def replace_picture(image: Image.Image, path: Path) -> None:
    """Write a picture in place of what is there, whole or not at all.

    Raises:
        SamecastError: it cannot be written there.
    """
    _write(path, image.save, replace=True)


def _write(path: Path, write: Callable[[Path], object], *, replace: bool) -> Path:
    """Make a file beside its place and rename it, over what is there or to the next free name; returns where."""
    check_writable(path)
    with _clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as place:
            write(Path(place) / path.name)
            final = path if replace else free_path(path)
            (Path(place) / path.name).replace(final)
    return final


def _rename_to_free(pending: PendingFolder) -> None:
    pending.final = free_path(pending.final)
    pending.path.rename(pending.final)


@contextlib.contextmanager
def _clear_errors(target: str | Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise SamecastError(f"cannot write {str(target)!r}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
