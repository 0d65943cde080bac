"""Loads any common photo as the RGB image that a model reads.

Opening a photo applies its EXIF rotation, composites alpha over white, scales 16-bit grey to 8 bits, converts palettes
and CMYK to RGB, and converts an embedded colour profile to sRGB. Fitting is an antialiased resize with centre crop, or
white padding, to the size of the images of a run. Other files are refused with one line, and huge images before a pixel
is decoded.
"""

import io
import logging
import math
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from samecast.checked import one_line, shown
from samecast.disk import expanded, is_folder, read_bytes
from samecast.errors import SamecastError

Fit = Literal["keep", "crop", "pad"]

MINIMUM_SIDE = 16
"""Smallest side of a photo, in pixels, in which a subject is recognisable."""

MAXIMUM_PIXELS = 150_000_000
"""Largest number of pixels of a photo: above that of common cameras, and within the memory of a small machine."""

MAXIMUM_BYTES = 2**30
"""Largest size of a photo's file in bytes: above 150 million uncompressed pixels of 16 bits and three colours."""

PHOTO_SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".avif", ".avifs", ".gif"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst"),
        *(".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".ico"),
        *(".heic", ".heif", ".hif"),
    )
)
"""File suffixes of photos, in lower case. HEIC is included so that it is refused with a message rather than ignored."""

# A list of allowed formats, as some of Pillow's readers start a program (EPS) or render a document (PDF, WMF).
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "DIB", "PPM", "TGA", "JPEG2000", "ICO")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_WHITE = (255, 255, 255)
_AREA_COUNTS = 0.25

_log = logging.getLogger(__name__)


def load_photo(path: str | Path, *, height: int, width: int, fit: Fit = "crop") -> Image.Image:
    """Read a photo from disk and fit it to a size.

    Args:
        path: PNG, JPEG, WebP, AVIF, TIFF, GIF (first frame), BMP; the content decides, not the extension.
        height: height of the result in pixels.
        width: width of the result in pixels.
        fit: "pad" keeps everything and pads with white; "crop" keeps the centre; "keep" is "crop" for a size chosen by
            `nearest_shape`, where almost nothing is cut off.

    Returns:
        An RGB image of this size.

    Raises:
        SamecastError: the file is missing, not a photo, damaged, too small or too large.
    """
    return fit_photo(open_photo(path), height=height, width=width, fit=fit)


def open_photo(path: str | Path) -> Image.Image:
    """Read a photo from disk, upright, in RGB and at its original size; errors as in `load_photo`."""
    shown = repr(str(path))
    data = read_bytes(path, most=MAXIMUM_BYTES)
    # Pillow warns about large headers and invalid EXIF; our own checks cover both, in one line.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_available_formats())
        except UnidentifiedImageError:
            raise SamecastError(f"{shown} is not a photo: {_guess(data)}") from None
        except Image.DecompressionBombError:
            raise SamecastError(f"{shown} claims more than {MAXIMUM_PIXELS:,} pixels: scale it down first") from None
        except Exception as error:  # damaged headers make Pillow raise many types of exception
            raise SamecastError(f"{shown} is damaged: {one_line(error)}") from None
        with image:
            return _to_rgb(image, shown)


def looks_like_photo(path: str | Path) -> bool:
    """Whether a name is a photo's, by its suffix; hidden files, such as those of macOS, are ignored."""
    name = Path(path).name
    return not name.startswith(".") and Path(name).suffix.lower() in PHOTO_SUFFIXES


def photos_in(folder: str | Path, *, needed: bool = True) -> tuple[Path, ...]:
    """The photos in a folder, sorted by name; unreadable ones raise an error when they are opened.

    Args:
        folder: the folder; subfolders are ignored.
        needed: whether an empty folder is an error.

    Raises:
        SamecastError: the folder does not exist, or has no photo although one is needed.
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
    """A file or folder named in a list: relative to the list's folder, else to the working folder.

    Args:
        file: the list.
        where: the place of the path in the list, for the message.
        what: what the path is for, for the message.
        name: the path.

    Raises:
        SamecastError: it is in neither folder.
    """
    found, sought = beside_list(file, where, what, name)
    if not os.path.lexists(found):
        raise SamecastError(f"{where} names the {what} {shown(name)}, which does not exist; looked {sought}")
    return found


def beside_list(file: Path, where: str, what: str, name: str) -> tuple[Path, str]:
    """The path named in a list, and the places searched, in words; arguments and errors as for `listed_path`."""
    try:
        given = expanded(name)
        beside = file.parent / given
        is_folder(beside)
    except SamecastError as error:
        raise SamecastError(f"{where}: the {what} is not a path: {error}") from None
    if os.path.lexists(beside) or given.is_absolute():
        return beside, "there alone, as the path is absolute"
    return given, f"in the list's folder {str(file.parent)!r} and in the working folder"


def fit_photo(image: Image.Image, *, height: int, width: int, fit: Fit = "crop") -> Image.Image:
    """Fit an image of any mode to a size, in RGB; arguments and errors as in `load_photo`."""
    if min(height, width) < 1:
        raise SamecastError(f"height and width must be at least 1 pixel, got {height} and {width}")
    photo = upright(image)
    if fit in ("keep", "crop"):
        return ImageOps.fit(photo, (width, height), Image.Resampling.LANCZOS)
    if fit != "pad":
        raise SamecastError(f"fit must be 'keep', 'crop' or 'pad', got {fit!r}")
    scale = min(width / photo.width, height / photo.height)
    inner = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    canvas = Image.new("RGB", (width, height), _WHITE)
    canvas.paste(photo.resize(inner, Image.Resampling.LANCZOS), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def mask_from_array(values: Any, whose: str) -> Image.Image:
    """A grey picture of a mask that is an array (height, width), of 0 to 1 or of truth values.

    Raises:
        SamecastError: it is of another shape, or has values beyond 0 to 1.
    """
    mask = numpy.asarray(values)
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "fbiu":
        raise SamecastError(f"the mask of {whose} must be an array (height, width) of 0 to 1; got shape {mask.shape}")
    if not numpy.isfinite(mask).all() or mask.min() < 0 or mask.max() > 1:
        raise SamecastError(f"the mask of {whose} must hold values from 0 to 1; got {mask.min():g} to {mask.max():g}")
    return Image.fromarray((mask.astype(numpy.float64) * 255).round().astype(numpy.uint8))


def nearest_shape(width: int, height: int, *, side: int, multiple: int) -> tuple[int, int]:
    """The height and width, in multiples, nearest to a photo's shape and to the area of a square.

    A change of the area counts a quarter of an equal change of the shape, because a change of shape is visible. A
    square photo gives the square if that is a multiple.

    Args:
        width: width of the photo.
        height: height of the photo.
        side: side of the square in pixels.
        multiple: multiple of height and width in pixels.
    """
    shape, area = math.log(width / height), 2 * math.log(side)

    def distance(sides: tuple[int, int]) -> float:
        high, wide = map(math.log, sides)
        return abs(wide - high - shape) + _AREA_COUNTS * abs(wide + high - area)

    ideal = side * math.sqrt(width / height)
    high, wide = round(side * side / ideal / multiple), round(ideal / multiple)
    around = [
        (max(1, high + down) * multiple, max(1, wide + across) * multiple)
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
    ]
    return min(around, key=distance)


def upright(image: Image.Image) -> Image.Image:
    """An image of any mode as a photo: upright, in RGB, at its own size; errors as in `load_photo`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _to_rgb(image, "the image")


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
    except Exception as error:  # damaged data makes Pillow raise many types of exception
        raise SamecastError(f"{shown} is damaged: {one_line(error)}") from None


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey (which Pillow's own conversion would clip to white) to 8 bits; other modes pass through."""
    if image.mode.startswith("I"):
        values = numpy.asarray(image).astype(numpy.int64)
        return Image.fromarray((values.clip(0, 65535) // 257).astype(numpy.uint8))
    if image.mode == "F":
        raise SamecastError("has floating-point pixels, whose range is unknown: save it with 8 or 16 bits")
    return image


def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image with any kind of transparency over white."""
    layered = image.convert("RGBA")
    paper = Image.new("RGBA", layered.size, (*_WHITE, 255))
    return Image.alpha_composite(paper, layered).convert("RGB")


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Converts to sRGB by the embedded colour profile if it is valid for the image's mode, else directly."""
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
    """The allowed formats that this build of Pillow supports."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _guess(data: bytes) -> str:
    """A description of the bytes that are not a photo, with advice."""
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "HEIC is not supported, export it as JPEG or PNG"
    sample = data[:512]
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in sample):
        return "its content is text"
    return "its content is not a readable image (PNG, JPEG, WebP, AVIF, TIFF, GIF, BMP)"
