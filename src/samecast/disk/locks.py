"""Locks that go with their process, however it ends; and what killed processes left, told apart by them."""

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from samecast.disk.paths import check_writable
from samecast.errors import SamecastError

LOCK = ".lock"
"""In a folder that one process at a time works in."""
PENDING = ".samecast-"
"""Begins the name of a folder that something is made in; then comes which machine does so."""
_HERE = f"{PENDING}{sha256(socket.gethostname().encode()).hexdigest()[:8]}-"
OLD = "old"
"""In such a folder: what is being replaced, under its own name."""
_HELD = "lock"


@contextlib.contextmanager
def locked(path: str | Path) -> Generator[Path]:
    """A folder that nobody else works in meanwhile; it is made if it is not there.

    Raises:
        SamecastError: somebody does, or it cannot be written.
    """
    folder = check_writable(path, "folder")
    try:
        made = _make(folder)
        held = _hold(folder / LOCK)
    except OSError as error:
        raise SamecastError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    if held is None:
        raise SamecastError(f"{str(path)!r} is being worked on by another process: wait for it, or give another folder")
    try:
        yield folder
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):  # which it is where anything was written
                folder.rmdir()
        os.close(held)


def _make(folder: Path) -> bool:
    """Makes a folder; whether it was not there."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def pending(parent: Path) -> Generator[Path]:
    """A new hidden folder for the length of a block, held by a lock; what killed processes left beside it goes.

    Only what this machine's processes left: on storage that several share, locks may be known to each alone.
    """
    _sweep(parent.glob(f"{_HERE}*"))
    place, held = parent, None
    while held is None:  # a sweep may take it between these two lines
        place = Path(tempfile.mkdtemp(prefix=_HERE, dir=parent))
        held = _hold(place / _HELD)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def all_below(folder: Path) -> Iterator[Path]:
    """A folder and all in it, however deep, but what something is made in."""
    for place, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(PENDING)]
        yield Path(place)


def sweep(folders: Iterable[Path]) -> None:
    """Removes what killed processes left half-made in folders; what a living one is making is left alone.

    For whoever has the folders to himself: to `pending` it is not known which machines have what in them.
    """
    for folder in folders:
        _sweep(folder.glob(f"{PENDING}*"))


def _sweep(leftovers: Iterable[Path]) -> None:
    for left in leftovers:
        with contextlib.suppress(OSError):
            _remove(left)


def _remove(left: Path) -> None:
    held = _hold(left / _HELD, certain=True)
    if held is None:
        return
    try:
        for old in (left / OLD).glob("*"):  # killed between taking the old away and putting the new there
            if not os.path.lexists(left.parent / old.name):
                old.rename(left.parent / old.name)
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(held)


def _hold(file: Path, *, certain: bool = False) -> int | None:
    """Locks a file, made if need be, until the descriptor that it returns is closed.

    Args:
        file: to lock.
        certain: whether it counts as held by somebody where the file system has no locks.

    Returns:
        None where somebody holds it, or its folder is gone.
    """
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not _lock(descriptor, otherwise=not certain):
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):
            if os.path.samestat(file.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # removed by the one who held it before


if sys.platform == "win32":  # which has no such locks: nothing is swept, and nothing is refused

    def _lock(descriptor: int, *, otherwise: bool) -> bool:
        return otherwise

else:
    import fcntl

    def _lock(descriptor: int, *, otherwise: bool) -> bool:
        """Whether the lock is ours now; `otherwise` where the file system knows none."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return otherwise
        return True
