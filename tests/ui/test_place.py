"""No name from the browser leads out of the root, and what comes in is bounded."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.ui import place
from samecast.ui.board import BoardPhoto, put_photos, read_board, take
from samecast.ui.place import Root, read_mask


@pytest.fixture
def root(tmp_path: Path) -> Root:
    folder = tmp_path / "root"
    (folder / "renders" / "rex").mkdir(parents=True)
    (folder / "renders" / "rex" / "render.json").write_text("{}")
    Image.new("RGB", (32, 32)).save(folder / "renders" / "rex" / "01.png")
    (folder / "notes").mkdir()
    (folder / "notes" / "secret.png").write_bytes(b"x")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (tmp_path / "outside.png").write_bytes(b"x")
    (folder / "renders" / "rex" / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "renders" / "away").symlink_to(tmp_path)
    (folder / "renders" / "rex" / "loop").symlink_to("loop")
    return Root(folder)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "/",
            "/etc/passwd",
            "../outside.png",
            "renders/../../outside.png",
            "renders/rex/../../../outside.png",
        ),
        *(
            "renders//rex",
            "renders/rex/",
            "renders\\rex",
            "renders/rex/01.png\0",
            "renders/rex/link.png",
            "renders/away/outside.png",
        ),
        *(".git/config", "notes/secret.png", "renders", "renders/rex/loop", "nothing.png", "a" * 5000, "~/x", "C:/x"),
        *(None, 3, ["renders/rex"], {"name": "renders/rex"}),
    ],
    ids=repr,
)
def test_names_that_lead_elsewhere_are_refused_in_one_line(root: Root, name: object) -> None:
    for ask in (root.find, root.readable, root.zipped, root.delete):
        with pytest.raises(SamecastError) as refused:
            ask(name)
        assert "\n" not in str(refused.value)
    assert (root.path / "notes" / "secret.png").exists()


def test_names_of_the_root_are_found(root: Root) -> None:
    assert root.readable("renders/rex/01.png").name == "01.png"
    archive = zipfile.ZipFile(io.BytesIO(root.zipped("renders/rex")))
    assert archive.namelist() == ["rex/01.png", "rex/render.json"]  # and no link
    with pytest.raises(SamecastError):
        root.readable("renders/rex")


def test_deleting_takes_the_run_and_nothing_else(root: Root) -> None:
    root.delete("renders/rex")
    assert not (root.path / "renders" / "rex").exists()
    assert sorted(each.name for each in root.path.iterdir()) == [".git", "notes", "renders"]


def test_uploads_go_through_the_photo_door(root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.new("RGBA", (40, 20), (255, 0, 0, 128))
    photo.getexif()[0x0112] = 6  # to be turned upright
    photo.save(tmp_path / "my photo.png", exif=photo.getexif())
    name = root.upload(tmp_path / "my photo.png")
    with Image.open(root.path / name) as kept:
        assert (kept.mode, kept.size) == ("RGB", (20, 40))
    assert name.startswith("uploads/my-photo-")
    assert root.upload(tmp_path / "my photo.png") == name  # once
    for content, reason in (
        (b"", "is not a photo"),
        (b"<svg/>", "is not a photo"),
        (b"\x89PNG\r\n", "damaged|not a photo"),
    ):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(SamecastError, match=reason):
            root.upload(tmp_path / "bad.png")
    monkeypatch.setattr(place, "MOST_PIXELS", 799)
    with pytest.raises(SamecastError, match="more than 799 pixels"):
        root.upload(tmp_path / "my photo.png")
    monkeypatch.setattr(place, "MOST_BYTES", 10)
    with pytest.raises(SamecastError, match="scale it down"):
        root.upload(tmp_path / "my photo.png")


def test_crop_and_mask_are_of_one_shape(root: Root, tmp_path: Path) -> None:
    Image.radial_gradient("L").convert("RGB").resize((200, 100)).save(tmp_path / "a.png")
    name = root.upload(tmp_path / "a.png")
    mask = root.keep(Image.linear_gradient("L").resize((200, 100)), "mask")
    taken = take(root, BoardPhoto(name, 200, 100, (0.25, 0.0, 0.5, 1.0), mask))
    photo, cut = (open_photo(root.path / each) for each in (taken.photo, taken.mask))
    assert photo.size == cut.size == (100, 100)
    assert {value for _, value in cut.convert("L").getcolors()} == {0, 255}
    whole = take(root, BoardPhoto(name, 200, 100, (0, 0, 1, 1)))
    assert (whole.photo, whole.mask) == (name, "")
    with pytest.raises(SamecastError, match="smaller than"):
        take(root, BoardPhoto(name, 200, 100, (0, 0, 0.05, 1)))


@pytest.mark.parametrize(
    "photo",
    [
        *({"name": "../outside.png"}, {"name": "/etc/passwd"}, {"crop": [0, 0, 2, 1]}, {"crop": "all"}, {"width": -1}),
        *(
            {"painted": "data:text/html,x"},
            {"painted": "data:image/png;base64,!!"},
            {"painted": "data:image/png;base64,AAAA"},
        ),
        *({"painted": "data:image/png;base64," + "A" * 5_000_000}, {"mask": "../outside.png"}, {"name": 3}),
    ],
    ids=lambda photo: str(photo)[:60],
)
def test_boards_that_are_none_are_refused_in_one_line(root: Root, tmp_path: Path, photo: dict[str, object]) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    sound = {"name": root.upload(tmp_path / "a.png"), "width": 64, "height": 64, "crop": None}
    with pytest.raises(SamecastError) as refused:
        [take(root, each) for each in read_board({"photos": [{**sound, **photo}]})]
    assert "\n" not in str(refused.value)


def test_a_board_holds_a_bounded_number_of_photos(root: Root, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    name = root.upload(tmp_path / "a.png")
    with pytest.raises(SamecastError, match="at most"):
        put_photos(root, {}, [name] * 25)
    with pytest.raises(SamecastError, match="at most"):
        read_board({"photos": [{}] * 25})


def test_masks_are_bounded() -> None:
    large = io.BytesIO()
    Image.new("L", (5000, 20)).save(large, "PNG")
    with pytest.raises(SamecastError, match="at most 4096"):
        read_mask(large.getvalue())
    with pytest.raises(SamecastError, match="cannot be read"):
        read_mask(b"GIF89a")


def test_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SamecastError):
        Root(tmp_path / "file")
