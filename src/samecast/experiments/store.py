"""Results on disk under content keys: each file whole or not there, never in doubt about what is finished.

    STORE/runs/3f/3f0c...e1.png      a kind, two digits of the key, the key
    STORE/.writing/                  what is being written, renamed into its place when it is whole
    STORE/.lock                      held while somebody works

A key is made of all that determines the content, so that what is there need not be made, and two settings never mix.
Nothing is listed or held in memory to know whether a key is there: a hundred thousand units are as good as ten.
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
        path: of the folder; it is made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._root = str(path)

    def file(self, kind: str, key: str, suffix: str = ".json") -> Path:
        """Where a key's file lies, or would lie."""
        return Path(self._place(kind, key, suffix))

    def has(self, kind: str, key: str, suffix: str = ".json") -> bool:
        """Whether a key is there."""
        return os.path.exists(self._place(kind, key, suffix))  # noqa: PTH110, for it is asked millions of times

    def _place(self, kind: str, key: str, suffix: str) -> str:
        return f"{self._root}/{kind}/{key[:2]}/{key}{suffix}"

    def put(self, kind: str, key: str, write: Callable[[Path], object], suffix: str = ".json") -> None:
        """Lets `write` make a file at the path it is given, and puts it in place of what is there.

        Raises:
            SamecastError: it cannot be written.
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
        """Writes data; errors as for `put`."""
        text = json.dumps(dict(data), ensure_ascii=False) + "\n"
        self.put(kind, key, lambda part: part.write_text(text, encoding="utf-8"))

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """What `write` wrote; None where there is nothing, or nothing that can be read: it is as good as not made."""
        return _read(self.file(kind, key))

    def every(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """All keys of a kind with their data, in order of the keys; what cannot be read is left out."""
        for shard in sorted(self._shards(kind)):
            for file in sorted(shard.glob("*.json")):
                data = _read(file)
                if data is not None:
                    yield file.stem, data

    def _shards(self, kind: str) -> Iterator[Path]:
        with contextlib.suppress(OSError):
            yield from (self.path / kind).iterdir()

    def remove(self, kind: str, key: str, suffix: str = ".json") -> None:
        """Forgets a key, whether it is there or not."""
        with contextlib.suppress(OSError):
            self.file(kind, key, suffix).unlink(missing_ok=True)

    def tidy(self, kind: str) -> None:
        """Removes the folders of a kind that are empty."""
        with contextlib.suppress(OSError):
            for shard in [*self._shards(kind), self.path / kind]:
                with contextlib.suppress(OSError):
                    shard.rmdir()

    def folder(self, kind: str, key: str) -> Path:
        """A folder of work in progress, not made yet; `clear` removes it."""
        return self.file(kind, key, "")

    def clear(self, kind: str, key: str) -> None:
        """Removes a folder of work in progress, and those above it that it leaves empty."""
        place = self.folder(kind, key)
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.parent.rmdir()
            place.parent.parent.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Generator[None]:
        """Nobody else works in the store meanwhile, and what killed processes left half-written is gone; the lock goes
        with the process, however that ends.

        Raises:
            SamecastError: somebody does.
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
    """32 hexadecimal digits that say which facts these are: 128 bits of their SHA-256.

    Raises:
        SamecastError: they hold something that JSON does not.
    """
    data = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_odd)
    return sha256(data.encode()).hexdigest()[:32]


def joined_key(*keys: str) -> str:
    """The key of several keys in their order."""
    return sha256(" ".join(keys).encode()).hexdigest()[:32]


def _odd(value: object) -> str:
    raise SamecastError(f"{value!r} cannot be part of a key")
