"""Photos as the browser holds them, read into files: cropped, and with the masks that were found or painted."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from PIL import Image

from samecast.checked import Within, build, check_fields
from samecast.errors import SamecastError
from samecast.photos import MINIMUM_SIDE, open_photo
from samecast.ui.place import Root, read_mask

MOST_PHOTOS = 24
_Share = Annotated[float, Within(0, 1)]
_PNG = "data:image/png;base64,"
_MOST_PAINTED = 4_000_000


@dataclass(frozen=True)
class BoardPhoto:
    """One photo on the board.

    Args:
        name: of its file in the root.
        width: in pixels.
        height: likewise.
        crop: left, top, width and height as shares of the photo; None is all of it.
        mask: name of the file where the subject was found.
        painted: the mask as it was painted over, as a PNG's data URL.
    """

    name: str
    width: Annotated[int, Within(1)]
    height: Annotated[int, Within(1)]
    crop: tuple[_Share, _Share, _Share, _Share] | None = None
    mask: str | None = None
    painted: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Taken:
    """A photo as a command reads it.

    Args:
        photo: name of its file, cropped.
        mask: name of the file of its mask, cropped alike; empty where there is none.
    """

    photo: str
    mask: str


def read_board(value: Any) -> tuple[BoardPhoto, ...]:
    """The photos of a board's value, as it came from the browser.

    Raises:
        SamecastError: it holds something else.
    """
    listed: Any = value.get("photos", []) if isinstance(value, Mapping) else []
    if not isinstance(listed, list) or len(listed) > MOST_PHOTOS:
        raise SamecastError(f"at most {MOST_PHOTOS} photos")
    return tuple(build(BoardPhoto, each, "a photo", spare=True) for each in listed)


def put_photos(root: Root, value: Any, names: Sequence[str], masks: Sequence[str] = ()) -> dict[str, Any]:
    """A board's value with more photos on it."""
    photos: list[dict[str, Any]] = list(value.get("photos", [])) if isinstance(value, Mapping) else []
    if len(photos) + len(names) > MOST_PHOTOS:
        raise SamecastError(f"at most {MOST_PHOTOS} photos: remove some first")
    for number, name in enumerate(names):
        width, height = open_photo(root.find(name)).size
        mask = masks[number] if number < len(masks) else None
        photos.append({"name": name, "width": width, "height": height, "crop": None, "mask": mask, "painted": None})
    return {"photos": photos}


def take(root: Root, photo: BoardPhoto) -> Taken:
    """Writes a photo's crop, and its mask's, unless there is nothing to write.

    Raises:
        SamecastError: a file is not there, the mask cannot be read, or the crop is too small.
    """
    file = root.find(photo.name)
    name, stem, box = root.name(file), file.stem[:48], None
    picture = open_photo(file)
    if photo.crop is not None and photo.crop != (0, 0, 1, 1):
        box = _box(photo.crop, picture.size)
        name = root.keep(picture.crop(box), f"{stem}-crop")
    mask = _mask(root, photo)
    if mask is None:
        return Taken(name, "")
    mask = fitted_mask(mask, picture.size)
    return Taken(name, root.keep(mask if box is None else mask.crop(box), f"{stem}-mask"))


def _mask(root: Root, photo: BoardPhoto) -> Image.Image | None:
    if photo.painted is not None:
        if not photo.painted.startswith(_PNG) or len(photo.painted) > _MOST_PAINTED:
            raise SamecastError("the painted mask cannot be read: paint it again")
        try:
            return read_mask(base64.b64decode(photo.painted.removeprefix(_PNG), validate=True))
        except binascii.Error:
            raise SamecastError("the painted mask cannot be read: paint it again") from None
    return None if photo.mask is None else open_photo(root.find(photo.mask)).convert("L")


def _box(crop: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    (x, y, w, h), (width, height) = crop, size
    box = (
        round(x * width),
        round(y * height),
        min(width, round((x + w) * width)),
        min(height, round((y + h) * height)),
    )
    if box[2] - box[0] < MINIMUM_SIDE or box[3] - box[1] < MINIMUM_SIDE:
        raise SamecastError(f"the crop is smaller than {MINIMUM_SIDE} pixels: draw it larger")
    return box


def stem_of(names: Sequence[str], otherwise: str) -> str:
    """What a run of these photos is called: the first one's name, without its hash."""
    return Path(names[0]).stem.rsplit("-", 1)[0].removesuffix("-crop").rsplit("-", 0)[0] if names else otherwise


def fitted_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A mask as large as its photo, black and white."""
    return mask.convert("L").resize(size, Image.Resampling.BILINEAR).point([0] * 128 + [255] * 128)
