"""User-given paths, checked before any work is done."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from samecast.errors import SamecastError

Output = Literal["file", "folder", "new file", "new folder"]
"""What to write: a file or folder that may exist, or one under a free name."""

_SPARE_BYTES = 300
"""Path length reserved for a folder's contents and for the hidden folder that it is written in."""

_AT_ONCE = 2**18


def expanded(path: str | Path) -> Path:
    """The path with `~` expanded.

    Raises:
        SamecastError: the user does not exist, or the value is not a path.
    """
    try:
        found = Path(path).expanduser()
        os.fsencode(found)
    except RuntimeError:
        raise SamecastError(
            f"{_quoted(path)} starts with the home of a user that does not exist on this machine"
        ) from None
    except (ValueError, TypeError) as error:
        raise SamecastError(f"{_quoted(path)} is not a path: {error}") from None
    if "\0" in str(found):
        raise SamecastError(f"{_quoted(path)} is not a path: it holds a null character")
    return found


def absolute(path: str | Path) -> Path:
    """The absolute path, with `~` expanded.

    Raises:
        SamecastError: as for `expanded`; or the path is relative and the working folder no longer exists.
    """
    found = expanded(path)
    try:
        return found.absolute()
    except OSError:
        raise SamecastError(
            f"{_quoted(path)} is relative to a working folder that no longer exists: change to another folder, or give"
            f" an"
            " absolute path"
        ) from None


def lasting(name: str) -> str:
    """An existing path made absolute, so that it is valid from any folder; other names are returned unchanged."""
    try:
        return str(expanded(name).resolve()) if name and expanded(name).exists() else name
    except (OSError, SamecastError):
        return name


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder.

    Raises:
        SamecastError: it cannot be inspected: no permission, or a name that is too long.
    """
    found = expanded(path)
    try:
        return found.is_dir()
    except OSError as error:
        raise _unreadable(path, error) from None


def is_file(path: str | Path) -> bool:
    """Whether a path is a regular file; errors as for `is_folder`."""
    found = expanded(path)
    try:
        return found.is_file()
    except OSError as error:
        raise _unreadable(path, error) from None


def read_bytes(path: str | Path, *, most: int) -> bytes:
    """The contents of a regular file.

    Args:
        path: path of the file.
        most: largest size in bytes.

    Raises:
        SamecastError: the path is missing, a folder or not a regular file, or the file is too long or cannot be read.
    """
    if is_folder(path):
        raise SamecastError(f"{_quoted(path)} is a folder: give one file")
    file = expanded(path)
    if not is_file(file):
        here = os.path.lexists(file)
        raise SamecastError(f"{_quoted(path)} {'is not a regular file' if here else 'does not exist'}")
    content = bytearray()  # in parts: a read allocates its argument, however short the file
    try:
        with file.open("rb") as stream:
            while len(content) <= most and (part := stream.read(_AT_ONCE)):
                content += part
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(content) > most:
        raise SamecastError(f"{_quoted(path)} has more than {most:,} bytes, too many for this kind of file")
    return bytes(content)


def inside(folder: Path, name: object) -> Path:
    """The path of a file of this name in the folder.

    Raises:
        SamecastError: it is not a file name, or leads outside the folder by a separator, dots or a link.
    """
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    try:
        if isinstance(name, str) and plain and (folder / name).resolve().parent == folder.resolve():
            return folder / name
    except (OSError, RuntimeError):  # a name that is too long, or a cycle of links
        pass
    raise SamecastError(f"{name!r:.100} is not a file name in the folder {str(folder)!r}")


def names(path: Path) -> Iterator[Path]:
    """The path, then `name-2`, `name-3`, ... before a file's suffix."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def free_path(path: str | Path) -> Path:
    """The first free one of a path's `names`, the name that a new file would get now. Does not reserve it.

    Raises:
        SamecastError: the path exists and has no name to vary, as `.`.
    """
    destination = expanded(path)
    if destination.name in ("", "..") and os.path.lexists(destination):
        raise SamecastError(f"{_quoted(path)} exists, and has no name to derive another from: give a name")
    return next(name for name in names(destination) if not os.path.lexists(name))


def check_writable(path: str | Path, output: Output = "new folder") -> Path:
    """Checks, before any work is done, that a file or folder can be written at `path`; returns the absolute path.

    Args:
        path: the path to write.
        output: what to write.

    Raises:
        SamecastError: it cannot be written: another file is in the way, a name is too long, or permission is missing.
    """
    destination = absolute(path)
    new, kind = output.startswith("new"), output.removeprefix("new ")
    there = _kind_of(destination)
    if there == "link" and output != "new file":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a dangling link")
    if there == "file" and kind == "folder":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a file; expected a folder")
    if there == "folder" and kind == "file":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a folder; expected a file")
    if new and there is not None:
        free_path(path)
    above = destination if there == "folder" and not new else destination.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise SamecastError(f"cannot write {_quoted(path)}: {_quoted(above)} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SamecastError(f"cannot write {_quoted(path)}: no permission in {_quoted(above)}")
    _check_length(path, destination, above)
    return destination


def _kind_of(path: Path) -> Literal["file", "folder", "link"] | None:
    """The kind of an existing path, from a single check, as other processes may change it. "link" is a dangling
    link."""
    try:
        return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except OSError:
        # Anything but a link was created after the check. (pathlib raises for names that are too long.)
        return "link" if os.path.islink(path) else None  # noqa: PTH114


def _check_length(path: str | Path, destination: Path, above: Path) -> None:
    most, longest = _limits(above)
    free = free_path(destination) if destination.name not in ("", "..") else destination
    for part in (*destination.parts, free.name):
        if len(os.fsencode(part)) > most:
            raise SamecastError(
                f"cannot write {_quoted(path)}: a name has {len(os.fsencode(part))} bytes; at most {most} are allowed"
            )
    if len(os.fsencode(destination)) > longest - _SPARE_BYTES:
        raise SamecastError(f"cannot write {_quoted(path)}: the path is too long")


def _limits(folder: Path) -> tuple[int, int]:
    """The largest lengths in bytes of a name and of a path in a folder."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX"), os.pathconf(folder, "PC_PATH_MAX")
    except (OSError, ValueError, AttributeError):
        return 255, 4096


def _unreadable(path: str | Path, error: OSError) -> SamecastError:
    return SamecastError(f"cannot read {_quoted(path)}: {error.strerror or error}")


def _quoted(path: str | Path) -> str:
    text = repr(str(path))
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"
