"""Photos: what people have on disk becomes the square RGB picture a model reads, or one clear line."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy
import pytest
from PIL import Image

from samecast.errors import SamecastError
from samecast.photos import MINIMUM_SIDE, PHOTO_SUFFIXES, fit_photo, load_photo, looks_like_photo, open_photo, photos_in

RED = (220, 30, 40)


def half_and_half(mode: str = "RGB") -> Image.Image:
    """Left half red, right half white, 60 x 40."""
    image = Image.new("RGB", (60, 40), "white")
    image.paste(RED, (0, 0, 30, 40))
    return image.quantize(16) if mode == "P" else image.convert(mode)


def close(pixel: object, expected: tuple[int, int, int], tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"),
        ("a.png", "RGBA"),
        ("a.png", "P"),
        ("a.jpg", "RGB"),
        ("a.webp", "RGB"),
        ("a.webp", "RGBA"),
        ("a.tiff", "RGB"),
        ("a.gif", "P"),
        ("a.bmp", "RGB"),
    ],
)
def test_every_common_format_and_mode_keeps_its_colours(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / name
    half_and_half(mode).save(path, quality=95)
    photo = load_photo(path, height=40, width=40)
    assert photo.mode == "RGB"
    assert photo.size == (40, 40)
    assert close(photo.getpixel((5, 20)), RED, tolerance=25)  # palettes and chroma subsampling round colours
    assert close(photo.getpixel((35, 20)), (255, 255, 255), tolerance=25)


def test_content_decides_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "photo.txt"
    half_and_half().save(path, format="PNG")
    assert load_photo(path, height=32, width=32).size == (32, 32)


def test_cmyk_without_profile_keeps_its_hue(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    half_and_half("CMYK").save(path, quality=95)
    assert close(load_photo(path, height=40, width=40).getpixel((5, 20)), RED, tolerance=12)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The same upright picture stored in each of the eight ways a camera may hold it."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = half_and_half()
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    assert open_photo(path).tobytes() == upright.tobytes()


def test_transparency_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "cutout.png"
    cutout = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    cutout.paste((*RED, 255), (0, 0, 20, 40))
    cutout.save(path)
    photo = load_photo(path, height=40, width=40)
    assert photo.getpixel((2, 20)) == RED
    assert photo.getpixel((38, 20)) == (255, 255, 255)


def test_palette_transparency_becomes_white(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, *RED])
    image.paste(0, (20, 0, 40, 40))
    image.save(path, transparency=0)
    photo = load_photo(path, height=40, width=40)
    assert photo.getpixel((2, 20)) == RED
    assert photo.getpixel((38, 20)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    ramp = numpy.linspace(0, 65535, 64, dtype=numpy.uint16)
    Image.fromarray(numpy.tile(ramp, (64, 1))).save(path)
    row = numpy.asarray(open_photo(path))[32, :, 0].astype(int)
    assert row[0] == 0
    assert row[-1] == 255
    assert abs(row[32] - 129) <= 1


def profile_with_red_and_green_swapped() -> bytes:
    """A minimal ICC matrix profile: sRGB's primaries in another order and a gamma of 2.2."""

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))

    red, green, blue = xyz(0.4361, 0.2225, 0.0139), xyz(0.3851, 0.7169, 0.0971), xyz(0.1431, 0.0606, 0.7141)
    gamma = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(2.2 * 256))
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"swap\0" + b"\0" * 79
    tags = {b"desc": name, b"wtpt": xyz(0.9642, 1.0, 0.8249), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    tags |= {b"rXYZ": green, b"gXYZ": red, b"bXYZ": blue, b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma}
    offset = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for tag, content in tags.items():
        table += tag + struct.pack(">II", offset + len(body), len(content))
        body += content
    white = struct.pack(">3i", 63190, 65536, 54061)
    header = b"\0" * 4 + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28 + white
    return struct.pack(">I", offset + len(body)) + header.ljust(124, b"\0") + table + body


def test_an_embedded_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    path = tmp_path / "profiled.png"
    Image.new("RGB", (32, 32), (255, 0, 0)).save(path, icc_profile=profile_with_red_and_green_swapped())
    assert close(open_photo(path).getpixel((5, 5)), (0, 255, 0), tolerance=10)


def test_a_broken_profile_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", (32, 32), RED).save(path, icc_profile=b"not a profile")
    assert open_photo(path).getpixel((5, 5)) == RED


def test_crop_keeps_the_centre_and_pad_keeps_everything() -> None:
    wide = Image.new("RGB", (90, 30), "blue")
    wide.paste((0, 255, 0), (30, 0, 60, 30))
    cropped = fit_photo(wide, height=30, width=30, fit="crop")
    assert {cropped.getpixel((x, 15)) for x in (1, 15, 28)} == {(0, 255, 0)}
    padded = fit_photo(wide, height=30, width=30, fit="pad")
    assert [padded.getpixel((15, y)) for y in (2, 27)] == [(255, 255, 255)] * 2
    assert padded.getpixel((2, 15)) == (0, 0, 255)
    assert padded.getpixel((27, 15)) == (0, 0, 255)


def test_resizing_is_antialiased() -> None:
    """One-pixel stripes become even grey; nearest neighbour would keep black or white."""
    stripes = numpy.zeros((256, 256, 3), dtype=numpy.uint8)
    stripes[:, ::2] = 255
    small = numpy.asarray(fit_photo(Image.fromarray(stripes), height=32, width=32))
    assert 110 <= small.min() <= small.max() <= 145


def test_fitting_leaves_the_given_image_alone() -> None:
    image = half_and_half()
    before = image.tobytes()
    fit_photo(image, height=24, width=24)
    assert image.tobytes() == before
    assert image.size == (60, 40)


def test_a_very_long_photo_fits() -> None:
    assert fit_photo(Image.new("RGB", (4000, 16), "red"), height=32, width=32, fit="pad").size == (32, 32)


def write_png_header(path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b""))


def refusal(path: Path) -> str:
    """The one line a bad file is refused with, having leaked no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SamecastError) as caught:
            load_photo(path, height=64, width=64)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.png")


def test_folder_is_one_line(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_empty_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    assert "empty" in refusal(tmp_path / "a.png")


def test_text_named_png_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a dog, believe me\n")
    assert "text" in refusal(tmp_path / "a.png")


def test_heic_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 64)
    assert "JPEG" in refusal(tmp_path / "a.heic")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_truncated_photo_is_one_line(tmp_path: Path, name: str) -> None:
    noise = numpy.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=numpy.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "damaged" in refusal(path)


def test_one_pixel_says_the_minimum(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    assert str(MINIMUM_SIDE) in refusal(tmp_path / "dot.png")


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (12_000, 13_000)])
def test_a_huge_header_is_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    """The file holds no pixels to speak of: decoding it would say damaged, not too large."""
    write_png_header(tmp_path / "bomb.png", width, height)
    assert "scale it down" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_a_path_that_cannot_be_is_one_line(name: str) -> None:
    refusal(Path(name))


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(numpy.ones((32, 32), dtype=numpy.float32)).save(tmp_path / "depth.tiff")
    assert "floating-point" in refusal(tmp_path / "depth.tiff")


def test_every_suffix_that_pillow_gives_our_formats_is_a_photos() -> None:
    from samecast import photos

    Image.init()
    ours = {suffix for suffix, kind in Image.registered_extensions().items() if kind in photos._FORMATS}
    assert {".jfif", ".jpe", ".heic", ".gif", ".heif"} | ours <= PHOTO_SUFFIXES


@pytest.mark.parametrize("suffix", [".jfif", ".JPE", ".gif", ".jp2", ".Tif", ".ppm", ".tga", ".mpo", ".apng"])
def test_each_command_takes_the_same_photos(tmp_path: Path, suffix: str) -> None:
    from samecast.cli.render import split_inputs
    from samecast.learn.lists import from_folder
    from samecast.study.subjects import read_subjects

    kind = {".jfif": "JPEG", ".jpe": "JPEG", ".jp2": "JPEG2000", ".mpo": "JPEG", ".apng": "PNG", ".tif": "TIFF"}
    folder = tmp_path / "subjects" / "dog"
    folder.mkdir(parents=True)
    photo = folder / f"a{suffix}"
    lower = suffix.lower()
    half_and_half().save(photo, format=kind.get(lower, {".ppm": "PPM", ".tga": "TGA", ".gif": "GIF"}.get(lower)))
    (folder / f"._a{suffix}").write_bytes(b"macOS leaves these beside each photo")
    (folder / "notes.txt").write_text("none")
    (folder / "folder.png").mkdir()
    (folder / "prompts.txt").write_text("a dog")
    assert photos_in(folder) == (photo,)
    assert from_folder(folder, "dog").photos == (photo,)
    assert len(read_subjects(tmp_path / "subjects")[0].references) == 1
    assert split_inputs((str(tmp_path / f"gone{suffix}"), "a dog")) == ((str(tmp_path / f"gone{suffix}"),), ("a dog",))
    assert open_photo(photo).size == (60, 40)


def test_a_photo_that_cannot_be_read_is_refused_by_name_and_not_passed_over(tmp_path: Path) -> None:
    from samecast.cli import main

    half_and_half().save(tmp_path / "a.png")
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert [path.name for path in photos_in(tmp_path)] == ["a.png", "b.heic"]
    assert main(["learn", "lora", "--photos", str(tmp_path), "--noun", "dog"]) == 2
    with pytest.raises(SamecastError, match=r"b\.heic' is not a photo: HEIC is not supported, export it as JPEG"):
        open_photo(photos_in(tmp_path)[1])


@pytest.mark.parametrize("name", ["a.png", "A.JPEG", "b c.HeIf", "x.y.jfif"])
def test_names_of_photos(name: str) -> None:
    assert looks_like_photo(name)
    assert not looks_like_photo(f".{name}")
    assert not looks_like_photo(f"{name}.txt")
    assert not looks_like_photo("a dog on the beach.")
