"""Photos that are read when needed, and identified by a hash of their pixels that is computed once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import overload

from PIL import Image

from samecast.errors import SamecastError
from samecast.experiments.store import Store
from samecast.photos import open_photo
from samecast.records import pixel_hash

PHOTOS = "photos"
Photos = Sequence[Image.Image]


class LazyPhotos(Photos):
    """A sequence of photos that opens a photo at each access.

    Args:
        readers: a function for each photo.
    """

    def __init__(self, readers: Sequence[Callable[[], Image.Image]]) -> None:
        self._readers = tuple(readers)

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Photos: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Photos:
        return LazyPhotos(self._readers[index]) if isinstance(index, slice) else self._readers[index]()


class KeptPhotos(Photos):
    """Photos of a study's store.

    Args:
        path: path of the store.
        hashes: hashes of their pixels, from `pixel_hash`.
    """

    def __init__(self, path: Path, hashes: Sequence[str]) -> None:
        self._path, self.hashes = path, tuple(hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> Photos: ...
    def __getitem__(self, index: int | slice) -> Image.Image | Photos:
        """One of the photos.

        Raises:
            SamecastError: the photo cannot be read, or has changed.
        """
        if isinstance(index, slice):
            return KeptPhotos(self._path, self.hashes[index])
        file = Store(self._path).file(PHOTOS, _key(self.hashes[index]), ".png")
        photo = open_photo(file)
        if pixel_hash(photo) != self.hashes[index]:
            raise SamecastError(f"{str(file)!r} does not match the hash in its name: the file has changed")
        return photo


def hashes_of(photos: Photos) -> tuple[str, ...]:
    """The hashes of some photos, which are read only if their hashes are unknown."""
    return photos.hashes if isinstance(photos, KeptPhotos) else tuple(pixel_hash(photo) for photo in photos)


def keep(photos: Photos, store: Store) -> tuple[str, ...]:
    """Writes photos into a store, one after another; returns their hashes.

    Raises:
        SamecastError: one cannot be read or written.
    """
    hashes: list[str] = []
    for photo in photos:
        hashes.append(pixel_hash(photo))
        if not store.has(PHOTOS, _key(hashes[-1]), ".png"):
            store.put(PHOTOS, _key(hashes[-1]), photo.save, ".png")
    return tuple(hashes)


def _key(hash_of: str) -> str:
    return hash_of.removeprefix("sha256:")
