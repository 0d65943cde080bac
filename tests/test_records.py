"""Records: whole or absent, never over another folder, and they say when something has changed."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from samecast.disk import check_writable, free_path, write_picture, writing_folder
from samecast.errors import SamecastError
from samecast.records import differing, drift, pixel_hash, read_record, result_grid, save_run, slug
from samecast.render import Render, RenderResult

PROVENANCE: dict[str, Any] = {
    "class_noun": "dog",
    "prompts": ["a {noun} on the beach", "a {noun} at night"],
    "threads": 2,
    "device": "cpu",
    "dtype": "float32",
    "model": {"id": "tiny", "revision": "sha256:0", "lora": []},
    "versions": {"torch": "2.13.0"},
    "batch_shapes": {"1": 50},
}


def noise(seed: int) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=numpy.uint8))


def result(*, reference: bool = True, first: int = 0) -> RenderResult:
    prompts = PROVENANCE["prompts"]
    return RenderResult(
        renders=tuple(Render(noise(first + n), prompt.replace("{noun}", "dog"), 7) for n, prompt in enumerate(prompts)),
        sources=(noise(100),),
        references=(noise(101),) if reference else (),
        source_psnr=30.0,
        evaluations=150,
        provenance=PROVENANCE,
        warnings=(),
    )


def test_a_run_is_written_in_full(tmp_path: Path) -> None:
    folder = save_run(result(), tmp_path / "rex")
    assert sorted(path.name for path in folder.iterdir()) == [
        "01-a-dog-on-the-beach-seed7.png",
        "02-a-dog-at-night-seed7.png",
        "grid.png",
        "reference.png",
        "render.json",
        "source.png",
    ]
    assert Image.open(folder / "02-a-dog-at-night-seed7.png").tobytes() == noise(1).tobytes()
    assert json.loads((folder / "render.json").read_text())["provenance"] == PROVENANCE


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    record = read_record(save_run(result(), tmp_path / "rex"))
    assert record.provenance == PROVENANCE
    assert [reference.tobytes() for reference in record.references] == [noise(101).tobytes()]
    assert differing(record, result()) == ()
    assert drift(record, PROVENANCE) == ()


def test_a_generated_source_leaves_no_reference(tmp_path: Path) -> None:
    folder = save_run(result(reference=False), tmp_path / "rex")
    assert not (folder / "reference.png").exists()
    assert read_record(folder / "render.json").references == ()


def test_several_references_and_masks_come_back(tmp_path: Path) -> None:
    mask = noise(7).convert("L")
    full = replace(result(), references=(noise(1), noise(2)), reference_masks=(mask, mask), target_masks=(mask, mask))
    folder = save_run(full, tmp_path / "rex")
    assert {"reference.png", "reference-2.png", "reference-mask-2.png", "picture-mask.png"} <= {
        path.name for path in folder.iterdir()
    }
    record = read_record(folder)
    assert [image.tobytes() for image in record.references] == [noise(1).tobytes(), noise(2).tobytes()]
    for masks in (record.reference_masks, record.target_masks):
        assert [image.convert("L").tobytes() for image in masks] == [mask.tobytes()] * 2


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    first = save_run(result(), tmp_path / "rex")
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    second = save_run(result(first=5), tmp_path / "rex")
    third = save_run(result(), tmp_path / "rex")
    assert (second.name, third.name) == ("rex-2", "rex-3")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), writing_folder(tmp_path / "rex") as place:  # noqa: PT012 - the block is what fails
        (place.path / "half.png").write_bytes(b"half")
        raise stop
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_only_when_complete(tmp_path: Path) -> None:
    with writing_folder(tmp_path / "rex") as place:
        (place.path / "picture.png").write_bytes(b"data")
        assert not (tmp_path / "rex").exists()
    assert (place.final / "picture.png").read_bytes() == b"data"
    assert [path.name for path in tmp_path.iterdir()] == ["rex"]


def test_a_folder_is_replaced_only_where_that_is_allowed(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with writing_folder(tmp_path / "demo", replaces=lambda folder: (folder / "mine").exists()) as place:
            (place.path / "mine").write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert (tmp_path / "demo" / "mine").read_text() == "new"
    (tmp_path / "demo" / "mine").unlink()
    with writing_folder(tmp_path / "demo", replaces=lambda folder: (folder / "mine").exists()) as place:
        pass
    assert place.final.name == "demo-2"


def test_a_written_folder_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with writing_folder(tmp_path / "rex") as place:
        pass
    assert place.final.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SamecastError, match="not a folder"):
        check_writable(tmp_path / "file" / "rex")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(SamecastError, match="no permission"):
        check_writable(tmp_path / "closed" / "rex")


def test_free_names_count_up_before_the_suffix(tmp_path: Path) -> None:
    assert free_path(tmp_path / "a.png").name == "a.png"
    (tmp_path / "a.png").write_text("")
    (tmp_path / "a-2.png").write_text("")
    assert free_path(tmp_path / "a.png").name == "a-3.png"


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "elsewhere.png")
    assert write_picture(noise(0), tmp_path / "a.png").name == "a-2.png"
    assert not (tmp_path / "elsewhere.png").exists()


def test_a_picture_needs_a_picture_name(tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match=r"\.png"):
        write_picture(noise(0), tmp_path / "a.docx")


def change(folder: Path, **entries: object) -> Path:
    file = folder / "render.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return file


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "..", "sub/reference.png", "a\\b.png", "C:x.png", "link.png", ""]
)
def test_paths_of_a_record_stay_in_its_folder(tmp_path: Path, name: str) -> None:
    folder = save_run(result(), tmp_path / "rex")
    noise(101).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    record = change(folder, references=[{"file": name, "pixels": pixel_hash(noise(101))}])
    with pytest.raises(SamecastError, match="not a file name in the folder"):
        read_record(record)


def test_a_changed_reference_is_reported(tmp_path: Path) -> None:
    folder = save_run(result(), tmp_path / "rex")
    noise(102).save(folder / "reference.png")
    with pytest.raises(SamecastError, match="pixels have changed"):
        read_record(folder)


def test_a_reference_packed_otherwise_is_the_same(tmp_path: Path) -> None:
    folder = save_run(result(), tmp_path / "rex")
    noise(101).save(folder / "reference.png", compress_level=0)
    assert len(read_record(folder).references) == 1


def test_a_missing_reference_is_one_line(tmp_path: Path) -> None:
    folder = save_run(result(), tmp_path / "rex")
    (folder / "reference.png").unlink()
    with pytest.raises(SamecastError, match="does not exist"):
        read_record(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"format": 2}',
        '{"format": 99}',
        '{"format": 3}',
        '{"format": 3, "provenance": 3}',
        "[" * 100_000,
        "\0\xff",
    ],
)
def test_a_damaged_record_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "render.json").write_text(text, encoding="latin-1")
    with pytest.raises(SamecastError) as caught:
        read_record(tmp_path / "render.json")
    assert "\n" not in str(caught.value)


def test_no_record_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match="does not exist"):
        read_record(tmp_path)


def test_drift_names_what_changed(tmp_path: Path) -> None:
    record = read_record(save_run(result(), tmp_path / "rex"))
    now = PROVENANCE | {"versions": {"torch": "3.0", "numpy": "2"}, "threads": 1}
    assert drift(record, now) == (
        "threads was 2, is 1",
        "versions torch was 2.13.0, is 3.0",
        "versions numpy was None, is 2",
    )


def test_pictures_that_differ_are_numbered(tmp_path: Path) -> None:
    record = read_record(save_run(result(), tmp_path / "rex"))
    assert differing(record, result(first=1)) == (1, 2)
    shorter = result()
    fewer = RenderResult(shorter.renders[:1], (), (), None, 0, PROVENANCE, ())
    assert differing(record, fewer) == (2,)


def test_one_changed_pixel_changes_the_hash() -> None:
    image = noise(0)
    other = image.copy()
    other.putpixel((0, 0), tuple(255 - value for value in image.getpixel((0, 0))))  # type: ignore[union-attr]
    assert pixel_hash(image) != pixel_hash(other)
    assert pixel_hash(Image.new("RGB", (2, 8))) != pixel_hash(Image.new("RGB", (8, 2)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A dog, running on the BEACH!", "a-dog-running-on-the-beach"),
        ("../../etc/passwd", "etc-passwd"),
        ("해변의 강아지", "해변의-강아지"),
        ("...", "picture"),
        ("con:aux|nul", "con-aux-nul"),
    ],
)
def test_slugs_are_safe_names(text: str, expected: str) -> None:
    assert slug(text) == expected


def test_slugs_of_long_prompts_fit_a_file_name() -> None:
    assert len(slug("강아지 " * 500).encode()) <= 180


def test_the_grid_shows_the_reference_and_every_picture() -> None:
    one = result_grid(result())
    assert one.width > one.height
    many = RenderResult(result().renders * 6, (noise(3),), (), None, 0, PROVENANCE, ())
    assert result_grid(many).height > one.height
