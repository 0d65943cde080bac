"""Results on disk under content keys: each file is complete or absent.

    STORE/runs/3f/3f0c...e1.png      a kind, two digits of the key, the key
    STORE/.writing/                  files being written, renamed to their final path when complete
    STORE/.lock                      held while a process uses the store

A key is a hash of all that determines the content, so that an existing file need not be computed again and settings
never mix. Looking up a key needs no listing and no memory, whatever the number of units.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from samecast.disk import locked
from samecast.errors import SamecastError

WRITING = ".writing"


class Store:
    """Files of several kinds under content keys.

    Args:
        path: path of the folder; created at the first write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)

    def file(self, kind: str, key: str, suffix: str = ".json") -> Path:
        """The path of a key's file, whether it exists or not."""
        return Path(self._place(kind, key, suffix))

    def has(self, kind: str, key: str, suffix: str = ".json") -> bool:
        """Whether a key's file exists."""
        return os.path.exists(self._place(kind, key, suffix))  # noqa: PTH110, called millions of times

    def _place(self, kind: str, key: str, suffix: str) -> str:
        return f"{self._root}/{kind}/{key[:2]}/{key}{suffix}"

    def put(self, kind: str, key: str, write: Callable[[Path], object], suffix: str = ".json") -> None:
        """Has `write` create a file at a temporary path, then moves it to the key's path, replacing an existing file.

        Raises:
            SamecastError: the file cannot be written.
        """
        final = self.file(kind, key, suffix)
        part = self.path / WRITING / f"{uuid.uuid4().hex}{suffix}"
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(part)
                final.parent.mkdir(parents=True, exist_ok=True)
                part.replace(final)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise SamecastError(f"cannot write {str(final)!r}: {error.strerror or error}") from None

    def write(self, kind: str, key: str, data: Mapping[str, Any]) -> None:
        """Writes data as JSON; errors as for `put`."""
        text = json.dumps(dict(data), ensure_ascii=False) + "\n"
        self.put(kind, key, lambda part: part.write_text(text, encoding="utf-8"))

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """The data of a key; None if its file is missing or unreadable."""
        return _read(self.file(kind, key))

    def every(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All keys of a kind with their data, in the order of the keys; unreadable files are left out."""
        for shard in sorted(self._shards(kind)):
            for file in sorted(shard.glob("*.json")):
                data = _read(file)
                if data is not None:
                    yield file.stem, data

    def _shards(self, kind: str) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from (self.path / kind).iterdir()

    def remove(self, kind: str, key: str, suffix: str = ".json") -> None:
        """Removes a key's file, if it exists."""
        with contextlib.suppress(OSError):
            self.file(kind, key, suffix).unlink(missing_ok=True)

    def tidy(self, kind: str) -> None:
        """Removes the empty folders of a kind."""
        with contextlib.suppress(OSError):
            for shard in [*self._shards(kind), self.path / kind]:
                with contextlib.suppress(OSError):
                    shard.rmdir()

    def folder(self, kind: str, key: str) -> Path:
        """The path of a folder for work in progress, not created here; `clear` removes it."""
        return self.file(kind, key, "")

    def clear(self, kind: str, key: str) -> None:
        """Removes a folder of work in progress, and parent folders that become empty."""
        place = self.folder(kind, key)
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
            place.parent.parent.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Locks the store for this process, which releases the lock however it ends, and removes leftovers of killed
        processes.

        Raises:
            SamecastError: another process uses the store.
        """
        with locked(self.path):
            shutil.rmtree(self.path / WRITING, ignore_errors=True)
            try:
                yield
            finally:
                shutil.rmtree(self.path / WRITING, ignore_errors=True)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        data: Any = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def content_key(facts: Mapping[str, Any]) -> str:
    """A content key: 32 hexadecimal digits, the first 128 bits of the facts' SHA-256.

    Raises:
        SamecastError: the facts hold a value that JSON does not support.
    """
    data = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_odd)
    return sha256(data.encode()).hexdigest()[:32]


def joined_key(*keys: str) -> str:
    """The key of a sequence of keys."""
    return sha256(" ".join(keys).encode()).hexdigest()[:32]


def _odd(value: object) -> str:
    raise SamecastError(f"{value!r} cannot be part of a key")
