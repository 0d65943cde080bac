"""Photos that are read when they are needed, not before, and known by a hash of their pixels that is made once."""

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
    """Photos that are opened each time that one is asked for.

    Args:
        readers: one for each.
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
        path: of the store.
        hashes: of their pixels, as `pixel_hash` gives them.
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
        """One of them.

        Raises:
            SamecastError: it cannot be read, or is not the photo that was kept.
        """
        if isinstance(index, slice):
            return KeptPhotos(self._path, self.hashes[index])
        file = Store(self._path).file(PHOTOS, _key(self.hashes[index]), ".png")
        photo = open_photo(file)
        if pixel_hash(photo) != self.hashes[index]:
            raise SamecastError(f"{str(file)!r} does not match its name any more: its pixels have changed")
        return photo


def hashes_of(photos: Photos) -> tuple[str, ...]:
    """The hashes of some photos, which are read only if nobody has kept their hashes."""
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
