"""Any photo a person has, as the RGB picture a model reads.

Opening a photo means: the rotation its EXIF asks for, alpha laid over white, 16-bit grey scaled to 8 bits, palettes and
CMYK turned into RGB, an embedded colour profile converted to sRGB. Fitting means an antialiased resize and centre crop,
or white padding, to the size of the pictures that a run makes. What cannot be a photo is refused in one line, and a
huge one before a single pixel is decoded.
"""

import io
import logging
import math
import warnings
from pathlib import Path
from typing import Literal

import numpy
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from samecast.checked import one_line
from samecast.disk import expanded, is_folder, read_bytes
from samecast.errors import SamecastError

Fit = Literal["keep", "crop", "pad"]

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
_AREA_COUNTS = 0.25

_log = logging.getLogger(__name__)


def load_photo(path: str | Path, *, height: int, width: int, fit: Fit = "crop") -> Image.Image:
    """Read a photo from disk and fit it to a size.

    Args:
        path: PNG, JPEG, WebP, AVIF, TIFF, GIF (first frame), BMP; the content decides, not the extension.
        height: of the result in pixels.
        width: likewise.
        fit: "pad" keeps everything and fills up with white; "crop" keeps the centre, and so does "keep", where the size
            was chosen for the photo's shape (`nearest_shape`) and next to nothing is left over.

    Returns:
        An RGB image of this size.

    Raises:
        SamecastError: the file is missing, no photo, damaged, too small or too large.
    """
    return fit_photo(open_photo(path), height=height, width=width, fit=fit)


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


def nearest_shape(width: int, height: int, *, side: int, multiple: int) -> tuple[int, int]:
    """The height and width, in multiples, that come nearest to a photo's shape and to the area of a square.

    Both cannot be met at once. A change of the area is let count a quarter of an equal change of the shape, for the
    shape shows; a square photo comes to the square where that is a multiple.

    Args:
        width: of the photo.
        height: of the photo.
        side: of the square in pixels.
        multiple: in pixels.
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
