"""Locks that end with their process, and removal of the leftovers of killed processes, which hold no lock."""

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
"""Name of the lock file in a folder used by one process at a time."""
PENDING = ".samecast-"
"""Prefix of the name of a folder for work in progress; the machine's name follows."""
_HERE = f"{PENDING}{sha256(socket.gethostname().encode()).hexdigest()[:8]}-"
OLD = "old"
"""Name of the subfolder that holds what is being replaced."""
_HELD = "lock"


@contextlib.contextmanager
def locked(path: str | Path) -> Generator[Path]:
    """Holds an exclusive lock on a folder, which is created if needed.

    Raises:
        SamecastError: another process holds the lock, or the folder cannot be written.
    """
    folder = check_writable(path, "folder")
    try:
        made = _make(folder)
        held = _hold(folder / LOCK)
    except OSError as error:
        raise SamecastError(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    if held is None:
        raise SamecastError(f"{str(path)!r} is in use by another process: wait for it, or give another folder")
    try:
        yield folder
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        if made:
            with contextlib.suppress(OSError):  # raised unless the folder is empty
                folder.rmdir()
        os.close(held)


def _make(folder: Path) -> bool:
    """Creates a folder; returns whether it is new."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


@contextlib.contextmanager
def pending(parent: Path) -> Generator[Path]:
    """A new hidden folder for a `with` block, locked; removes the leftovers of killed processes next to it.

    Only this machine's leftovers are removed: on shared storage, locks may be visible to one machine alone.
    """
    _sweep(parent.glob(f"{_HERE}*"))
    place, held = parent, None
    while held is None:  # a sweep may remove it between these two lines
        place = Path(tempfile.mkdtemp(prefix=_HERE, dir=parent))
        held = _hold(place / _HELD)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(held)


def all_below(folder: Path) -> Iterator[Path]:
    """A folder and everything below it, except folders of work in progress."""
    for place, names, _ in os.walk(folder):
        names[:] = [name for name in names if not name.startswith(PENDING)]
        yield Path(place)


def sweep(folders: Iterable[Path]) -> None:
    """Removes the leftovers of killed processes in folders; work in progress of live processes is kept.

    For folders locked by the caller; unlike `pending` it also removes other machines' leftovers.
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
        for old in (left / OLD).glob("*"):  # killed between removing the old one and placing the new one
            if not os.path.lexists(left.parent / old.name):
                old.rename(left.parent / old.name)
        shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(held)


def _hold(file: Path, *, certain: bool = False) -> int | None:
    """Locks a file, created if needed, until the returned descriptor is closed.

    Args:
        file: the file to lock.
        certain: whether a file system without locks counts as locked by another process.

    Returns:
        None where another process holds the lock, or the folder no longer exists.
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
        os.close(descriptor)  # removed by its previous holder


if sys.platform == "win32":  # has no such locks: nothing is removed or refused

    def _lock(descriptor: int, *, otherwise: bool) -> bool:
        return otherwise

else:
    import fcntl

    def _lock(descriptor: int, *, otherwise: bool) -> bool:
        """Whether the lock was acquired; `otherwise` where the file system has no locks."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return otherwise
        return True
