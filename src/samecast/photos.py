"""Any photo a person has, as the square RGB picture a model reads.

Opening a photo means: the rotation its EXIF asks for, alpha laid over white, 16-bit grey scaled to 8 bits, palettes and
CMYK turned into RGB, an embedded colour profile converted to sRGB. Fitting means an antialiased resize and centre crop,
or white padding. What cannot be a photo is refused in one line, and a huge one before a single pixel is decoded.
"""

import io
import logging
import os
import warnings
from pathlib import Path
from typing import Literal

import numpy
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from samecast.checked import one_line, shown
from samecast.disk import expanded, is_folder, read_bytes
from samecast.errors import SamecastError

Fit = Literal["crop", "pad"]

MINIMUM_SIDE = 16
"""Shortest side, in pixels, in which a subject can still be told from a smudge."""

MAXIMUM_PIXELS = 150_000_000
"""Most pixels a photo may have: above every common camera, below what would exhaust the memory of a small machine."""

MAXIMUM_BYTES = 2**30
"""Most bytes a photo's file may have: above 150 million pixels of 16 bits and three colours, uncompressed."""

PHOTO_SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".avif", ".avifs", ".gif"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ico"),
        *(".heic", ".heif", ".hif"),
    )
)
"""How the names of photos end, in lower case. HEIC is among them, so that it is refused by name and not passed over."""

# Named, because Pillow's other readers include ones that start a program (EPS) or render a document (PDF, WMF).
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "TGA", "JPEG2000", "ICO")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_WHITE = (255, 255, 255)

_log = logging.getLogger(__name__)


def load_photo(path: str | Path, *, size: int, fit: Fit = "crop") -> Image.Image:
    """Read a photo from disk and fit it to a square.

    Args:
        path: PNG, JPEG, WebP, AVIF, TIFF, GIF (first frame), BMP; the content decides, not the extension.
        size: side of the result in pixels.
        fit: "crop" keeps the centre square, "pad" keeps everything and fills up with white.

    Returns:
        An RGB image of `size` x `size` pixels.

    Raises:
        SamecastError: the file is missing, no photo, damaged, too small or too large.
    """
    return fit_photo(open_photo(path), size=size, fit=fit)


def open_photo(path: str | Path) -> Image.Image:
    """Read a photo from disk, upright, in RGB and at its own size; errors as in `load_photo`."""
    shown = repr(str(path))
    data = read_bytes(path, most=MAXIMUM_BYTES)
    # Pillow warns of large headers and odd EXIF; our own checks speak for both, in one line.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_available_formats())
        except UnidentifiedImageError:
            raise SamecastError(f"{shown} is not a photo: {_guess(data)}") from None
        except Image.DecompressionBombError:
            raise SamecastError(f"{shown} claims more than {MAXIMUM_PIXELS:,} pixels: scale it down first") from None
        except Exception as error:  # damaged headers make Pillow raise whatever it stumbles over
            raise SamecastError(f"{shown} is damaged: {one_line(error)}") from None
        with image:
            return _to_rgb(image, shown)


def looks_like_photo(path: str | Path) -> bool:
    """Whether a name is a photo's, by its suffix; hidden files, such as macOS leaves beside each photo, are none."""
    name = Path(path).name
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES


def photos_in(folder: str | Path, *, needed: bool = True) -> tuple[Path, ...]:
    """The photos in a folder, by name; those that cannot be read are told when they are opened.

    Args:
        folder: where they lie; folders in it are not looked into.
        needed: whether there must be one.

    Raises:
        SamecastError: there is no such folder, or no photo in it where one is needed.
    """
    if not is_folder(folder):
        raise SamecastError(f"{str(folder)!r} is not a folder; expected one with photos of the subject")
    try:
        found = sorted(path for path in expanded(folder).iterdir() if looks_like_photo(path) and not path.is_dir())
    except OSError as error:
        raise SamecastError(f"cannot read {str(folder)!r}: {error.strerror or error}") from None
    if needed and not found:
        raise SamecastError(f"{str(folder)!r} has no photos in it (PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP)")
    return tuple(found)


def listed_path(file: Path, where: str, what: str, name: str) -> Path:
    """A file or folder that a list names: from where the list lies, else from the working folder.

    Args:
        file: the list.
        where: of it the path stands, for the message.
        what: the path is of, for the message.
        name: the path.

    Raises:
        SamecastError: it is in neither place.
    """
    found, sought = beside_list(file, where, what, name)
    if not os.path.lexists(found):
        raise SamecastError(f"{where} names the {what} {shown(name)}, which is not there; sought {sought}")
    return found


def beside_list(file: Path, where: str, what: str, name: str) -> tuple[Path, str]:
    """Where a list means by a path, and all places where that was sought; arguments and errors as for `listed_path`."""
    try:
        given = expanded(name)
        beside = file.parent / given
        is_folder(beside)
    except SamecastError as error:
        raise SamecastError(f"{where}: the {what} is no path: {error}") from None
    if os.path.lexists(beside) or given.is_absolute():
        return beside, "there alone, for the path is whole"
    return given, f"in {str(file.parent)!r}, where the list lies, and in the working folder"


def fit_photo(image: Image.Image, *, size: int, fit: Fit = "crop") -> Image.Image:
    """Fit an image of any mode to a square of `size` pixels in RGB; arguments and errors as in `load_photo`."""
    if size < 1:
        raise SamecastError(f"size must be at least 1 pixel, got {size}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        photo = _to_rgb(image, "the image")
    if fit == "crop":
        return ImageOps.fit(photo, (size, size), Image.Resampling.LANCZOS)
    if fit != "pad":
        raise SamecastError(f"fit must be 'crop' or 'pad', got {fit!r}")
    scale = size / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    square = Image.new("RGB", (size, size), _WHITE)
    resized = photo.resize((width, height), Image.Resampling.LANCZOS)
    square.paste(resized, ((size - width) // 2, (size - height) // 2))
    return square


def _to_rgb(image: Image.Image, shown: str) -> Image.Image:
    """Check the size by the header, decode, turn upright, and bring every mode to RGB."""
    width, height = image.size
    if width * height > MAXIMUM_PIXELS:
        raise SamecastError(f"{shown} is {width} x {height}, more than {MAXIMUM_PIXELS:,} pixels: scale it down first")
    if min(width, height) < MINIMUM_SIDE:
        raise SamecastError(f"{shown} is {width} x {height}: a photo needs at least {MINIMUM_SIDE} pixels on each side")
    try:
        image.load()
        profile: object = image.info.get("icc_profile")
        upright = _to_eight_bits(ImageOps.exif_transpose(image))
        if upright.has_transparency_data:
            upright = _over_white(upright)
        return _to_srgb(upright, profile)
    except SamecastError as error:
        raise SamecastError(f"{shown} {error}") from None
    except Exception as error:  # damaged data makes Pillow raise whatever it stumbles over
        raise SamecastError(f"{shown} is damaged: {one_line(error)}") from None


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (which Pillow's own conversion would clip to white) to 8 bits; other modes pass through."""
    if image.mode.startswith("I"):
        values = numpy.asarray(image).astype(numpy.int64)
        return Image.fromarray((values.clip(0, 65535) // 257).astype(numpy.uint8))
    if image.mode == "F":
        raise SamecastError("has floating-point pixels, whose range is anyone's guess: save it with 8 or 16 bits")
    return image


def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image with any kind of transparency over white."""
    layered = image.convert("RGBA")
    paper = Image.new("RGBA", layered.size, (*_WHITE, 255))
    return Image.alpha_composite(paper, layered).convert("RGB")


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """RGB through the embedded colour profile when it is sound and fits the image's mode, plainly otherwise."""
    if isinstance(profile, bytes) and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError) as error:
            _log.info("colour profile ignored: %s", one_line(error))
        else:
            if converted is not None:
                return converted
    return image.convert("RGB")


def _available_formats() -> list[str]:
    """The formats we read among those this build of Pillow has."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _guess(data: bytes) -> str:
    """What the bytes are instead of a photo, and what to do about it."""
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "HEIC is not supported, export it as JPEG or PNG"
    sample = data[:512]
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in sample):
        return "its content is text"
    return "its content is no picture that can be read (PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP)"
