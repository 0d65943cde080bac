"""Paths as people give them, and what can be wrong with one before any work is done."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from samecast.errors import SamecastError

Output = Literal["file", "folder", "new file", "new folder"]
"""What is to be written: a file or folder that may be there already, or one of a name that is free."""

_SPARE_BYTES = 300
"""Room in a path for what a folder will hold, and for the hidden folder that it is made in."""

_AT_ONCE = 2**18


def expanded(path: str | Path) -> Path:
    """The path with `~` filled in.

    Raises:
        SamecastError: there is no such user, or it is no path.
    """
    try:
        found = Path(path).expanduser()
        os.fsencode(found)
    except RuntimeError:
        raise SamecastError(f"{_quoted(path)} begins with the home of a user that this machine does not know") from None
    except (ValueError, TypeError) as error:
        raise SamecastError(f"{_quoted(path)} is not a path: {error}") from None
    if "\0" in str(found):
        raise SamecastError(f"{_quoted(path)} is not a path: it holds a null character")
    return found


def absolute(path: str | Path) -> Path:
    """The path from the root, `~` filled in.

    Raises:
        SamecastError: as for `expanded`; or it is relative, and the working folder is gone.
    """
    found = expanded(path)
    try:
        return found.absolute()
    except OSError:
        raise SamecastError(
            f"{_quoted(path)} is relative to a working folder that is gone: change to another folder, or give the whole"
            " path"
        ) from None


def lasting(name: str) -> str:
    """A path that is there as one that can be found from another folder too; any other name as it is."""
    try:
        return str(expanded(name).resolve()) if name and expanded(name).exists() else name
    except (OSError, SamecastError):
        return name


def is_folder(path: str | Path) -> bool:
    """Whether a path is a folder.

    Raises:
        SamecastError: it cannot be looked at: no permission, or a name that is too long.
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
    """The content of a regular file.

    Args:
        path: of the file.
        most: how many bytes it may have.

    Raises:
        SamecastError: it is missing, a folder, no regular file, too long, or cannot be read.
    """
    if is_folder(path):
        raise SamecastError(f"{_quoted(path)} is a folder: give one file")
    file = expanded(path)
    if not is_file(file):
        here = os.path.lexists(file)
        raise SamecastError(f"{_quoted(path)} {'is not a regular file' if here else 'does not exist'}")
    content = bytearray()  # in parts: one read of so many bytes takes memory for all of them, however short the file is
    try:
        with file.open("rb") as stream:
            while len(content) <= most and (part := stream.read(_AT_ONCE)):
                content += part
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(content) > most:
        raise SamecastError(f"{_quoted(path)} has more than {most:,} bytes: it is not what is expected here")
    return bytes(content)


def inside(folder: Path, name: object) -> Path:
    """The file of this name in the folder.

    Raises:
        SamecastError: it is no name, or leads elsewhere: by a separator, by dots or by a link.
    """
    plain = isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    try:
        if isinstance(name, str) and plain and (folder / name).resolve().parent == folder.resolve():
            return folder / name
    except (OSError, RuntimeError):  # a name that is too long, or links in a circle
        pass
    raise SamecastError(f"{name!r:.100} is not a file of its own folder, {str(folder)!r}")


def names(path: Path) -> Iterator[Path]:
    """The path, then `name-2`, `name-3`, ... before a file's suffix."""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def free_path(path: str | Path) -> Path:
    """The first of a path's `names` where nothing is: what a new file would be called now. Claims nothing.

    Raises:
        SamecastError: it has no name of its own, as `.` has none, and something is there.
    """
    wanted = expanded(path)
    if wanted.name in ("", "..") and os.path.lexists(wanted):
        raise SamecastError(
            f"{_quoted(path)} is there already, and has no name that another could be made of: name one"
        )
    return next(name for name in names(wanted) if not os.path.lexists(name))


def check_writable(path: str | Path, output: Output = "new folder") -> Path:
    """See, before any work is done, whether a file or folder can be created or worked in at `path`; returns it in full.

    Args:
        path: where to.
        output: what.

    Raises:
        SamecastError: it cannot: something else is in the way, a name is too long, or there is no permission.
    """
    wanted = absolute(path)
    new, kind = output.startswith("new"), output.removeprefix("new ")
    there = _kind_of(wanted)
    if there == "link" and output != "new file":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a link that leads nowhere")
    if there == "file" and kind == "folder":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a file, and a folder is wanted")
    if there == "folder" and kind == "file":
        raise SamecastError(f"cannot write {_quoted(path)}: it is a folder; name a file in it")
    if new and there is not None:
        free_path(path)
    above = wanted if there == "folder" and not new else wanted.parent
    while not os.path.lexists(above):
        above = above.parent
    if not above.is_dir():
        raise SamecastError(f"cannot write {_quoted(path)}: {_quoted(above)} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise SamecastError(f"cannot write {_quoted(path)}: no permission in {_quoted(above)}")
    _check_length(path, wanted, above)
    return wanted


def _kind_of(path: Path) -> Literal["file", "folder", "link"] | None:
    """What is there, in one look: other processes come and go. A link is one that leads nowhere."""
    try:
        return "folder" if stat.S_ISDIR(path.stat().st_mode) else "file"
    except OSError:
        # What is there by now, if it is no link, came after the look. (pathlib raises for names that are too long.)
        return "link" if os.path.islink(path) else None  # noqa: PTH114


def _check_length(path: str | Path, wanted: Path, above: Path) -> None:
    most, longest = _limits(above)
    free = free_path(wanted) if wanted.name not in ("", "..") else wanted
    for part in (*wanted.parts, free.name):
        if len(os.fsencode(part)) > most:
            raise SamecastError(
                f"cannot write {_quoted(path)}: a name has {len(os.fsencode(part))} bytes; {most} are the most"
            )
    if len(os.fsencode(wanted)) > longest - _SPARE_BYTES:
        raise SamecastError(f"cannot write {_quoted(path)}: the path is too long")


def _limits(folder: Path) -> tuple[int, int]:
    """The most bytes that a name and a path may have in a folder."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX"), os.pathconf(folder, "PC_PATH_MAX")
    except (OSError, ValueError, AttributeError):
        return 255, 4096


def _unreadable(path: str | Path, error: OSError) -> SamecastError:
    return SamecastError(f"cannot read {_quoted(path)}: {error.strerror or error}")


def _quoted(path: str | Path) -> str:
    text = repr(str(path))
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"
