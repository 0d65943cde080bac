"""Files and folders under many hands: none is lost, none is half, and what was killed leaves nothing for long."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image

from samecast.disk import (
    PENDING,
    absolute,
    check_writable,
    expanded,
    inside,
    locked,
    pending,
    replace_file,
    sweep,
    write_new_bytes,
    write_picture,
    write_text,
    writing_folder,
)
from samecast.disk.locks import LOCK
from samecast.errors import SamecastError

WORKERS, EACH = 4, 30


def in_child(work: Callable[[], object]) -> int:
    """Run in a process of its own; returns its id. It ends with 0 where nothing is raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(work: Callable[[Callable[[], None]], object]) -> None:
    """Run in a process of its own until it says that it is there, then kill it."""
    reader, writer = os.pipe()

    def there() -> None:
        os.write(writer, b"x")
        time.sleep(60)

    child = in_child(lambda: work(there))
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def write_a_picture(folder: Path, number: int) -> None:
    write_picture(Image.fromarray(numpy.full((4, 4, 3), number, dtype=numpy.uint8)), folder / "a.png")


def write_bytes(folder: Path, number: int) -> None:
    write_new_bytes(folder / "a.bin", bytes([number]))


def write_folder(folder: Path, number: int) -> None:
    with writing_folder(folder / "a") as place:
        (place.path / "one").write_bytes(bytes([number]))
        (place.path / "two").write_bytes(bytes([number]))


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (write_a_picture, lambda path: numpy.asarray(Image.open(path))[0, 0, 0]),
        (write_bytes, lambda path: path.read_bytes()[0]),
        (write_folder, lambda path: {*(path / "one").read_bytes(), *(path / "two").read_bytes()}.pop()),
    ],
)
@pytest.mark.parametrize("links", [True, False])
def test_processes_that_write_one_name_lose_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path, int], None],
    read: Callable[[Path], int],
    links: bool,
) -> None:
    if not links:  # as file systems that have none answer

        def no_link(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)

    def work(worker: int) -> None:
        for number in range(EACH):
            write(tmp_path, worker * EACH + number)

    children = [in_child(lambda worker=worker: work(worker)) for worker in range(WORKERS)]  # type: ignore[misc]
    assert [ended(child) for child in children] == [0] * WORKERS
    assert sorted(int(read(path)) for path in tmp_path.iterdir()) == list(range(WORKERS * EACH))


def test_processes_that_replace_one_folder_leave_one_whole(tmp_path: Path) -> None:
    def work(worker: int) -> None:
        for _ in range(EACH):
            with writing_folder(tmp_path / "demo", replaces=lambda old: True) as place:
                for name in ("one", "two"):
                    (place.path / name).write_text(str(worker))

    children = [in_child(lambda worker=worker: work(worker)) for worker in range(WORKERS)]  # type: ignore[misc]
    assert [ended(child) for child in children] == [0] * WORKERS
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert (tmp_path / "demo" / "one").read_text() == (tmp_path / "demo" / "two").read_text()


def test_a_file_is_replaced_whole_while_others_read_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "0" * 10_000)

    def work() -> None:
        for number in range(200):
            write_text(file, str(number % 10) * 10_000)

    child = in_child(work)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        text = file.read_text()
        assert len(text) == 10_000
        assert len(set(text)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("again", [write_bytes, write_folder, write_a_picture])
def test_what_a_killed_process_left_goes_with_the_next_write(
    tmp_path: Path, again: Callable[[Path, int], None]
) -> None:
    def half(there: Callable[[], None]) -> None:
        with writing_folder(tmp_path / "rex") as place:
            (place.path / "half.png").write_bytes(b"half")
            there()

    killed(half)
    assert len(list(tmp_path.iterdir())) == 1
    again(tmp_path, 1)
    assert [path.name.split(".")[0] for path in tmp_path.iterdir()] == ["a"]


def test_what_a_living_process_makes_is_left_alone(tmp_path: Path) -> None:
    with pending(tmp_path) as place:
        (place / "half").write_bytes(b"half")
        child = in_child(lambda: (sweep([tmp_path]), write_bytes(tmp_path, 1)))
        assert ended(child) == 0
        sweep([tmp_path])
        assert (place / "half").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_what_another_machine_makes_is_left_alone_by_whoever_only_writes(tmp_path: Path) -> None:
    """Its locks may not be known here. Who has the folder to himself knows that nobody is left."""
    (tmp_path / f"{PENDING}0123abcd-xyz").mkdir()
    write_bytes(tmp_path, 1)
    assert len(list(tmp_path.iterdir())) == 2
    sweep([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_what_was_killed_before_it_had_its_lock_goes_too(tmp_path: Path) -> None:
    (tmp_path / f"{PENDING}abc").mkdir()
    (tmp_path / f"{PENDING}file").write_text("not ours")
    (tmp_path / ".git").mkdir()
    sweep([tmp_path])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", f"{PENDING}file"]


def test_a_folder_that_was_being_replaced_comes_back(tmp_path: Path) -> None:
    """Killed between the two renames."""
    old = tmp_path / f"{PENDING}abc" / "old" / "demo"
    old.mkdir(parents=True)
    (old / "mine").write_text("mine")
    sweep([tmp_path])
    assert (tmp_path / "demo" / "mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_folder_is_worked_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "study"

    def work(there: Callable[[], None]) -> None:
        with locked(folder):
            there()

    killed(work)
    assert [path.name for path in folder.iterdir()] == [LOCK]
    with locked(folder):
        with pytest.raises(SamecastError, match="in use by another process"), locked(folder):
            pass
        assert ended(in_child(lambda: locked(folder).__enter__())) == 1
        (folder / "made").write_text("")
    assert [path.name for path in folder.iterdir()] == ["made"]


def test_one_of_many_gets_the_lock_whenever_it_is_given_back(tmp_path: Path) -> None:
    def work() -> None:
        done = 0
        while done < 20:
            try:
                with locked(tmp_path / "a"):
                    assert not (tmp_path / "inside").exists()
                    (tmp_path / "inside").write_text("")
                    (tmp_path / "inside").unlink()
                done += 1
            except SamecastError:
                time.sleep(0.001)

    children = [in_child(work) for _ in range(WORKERS)]
    assert [ended(child) for child in children] == [0] * WORKERS
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_lock_leaves_no_empty_folder(tmp_path: Path) -> None:
    with locked(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


LONG = "x" * 256


@pytest.mark.parametrize(
    ("name", "output", "data"),
    [
        ("file", "folder", "it is a file; expected a folder"),
        ("file", "new folder", "it is a file; expected a folder"),
        ("folder", "file", "it is a folder; expected a file"),
        ("folder", "new file", "it is a folder; expected a file"),
        ("dangling", "folder", "a dangling link"),
        ("dangling", "new folder", "a dangling link"),
        ("dangling", "file", "a dangling link"),
        ("circle", "folder", "a dangling link"),
        ("file/below", "new folder", "is not a folder"),
        ("dangling/below", "new folder", "is not a folder"),
        (LONG, "new folder", "256 bytes; at most 255 are allowed"),
        (LONG, "file", "256 bytes; at most 255 are allowed"),
        (f"{LONG}/below", "new folder", "256 bytes; at most 255 are allowed"),
        ("é" * 128, "new file", "256 bytes; at most 255 are allowed"),
        ("/".join(["x" * 200] * 25), "new folder", "the path is too long"),
        ("a\0b", "new folder", "null"),
    ],
)
def test_what_cannot_be_written_is_known_before_any_work(tmp_path: Path, name: str, output: str, data: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(SamecastError, match=data) as caught:
        check_writable(tmp_path / name, output)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_name_that_would_be_too_long_with_its_number_is_known_too(tmp_path: Path) -> None:
    check_writable(tmp_path / ("x" * 255))
    (tmp_path / ("x" * 254)).mkdir()
    with pytest.raises(SamecastError, match="256 bytes"):
        check_writable(tmp_path / ("x" * 254))


@pytest.mark.parametrize("name", ["x" * 246, "x" * 255, "é" * 127])
def test_names_as_long_as_can_be_are_written(tmp_path: Path, name: str) -> None:
    with writing_folder(tmp_path / name) as place:
        (place.path / "a").write_text("a")
    assert (tmp_path / name / "a").is_file()
    replace_file(tmp_path / name / name, lambda part: part.write_text("b"))
    assert (tmp_path / name / name).read_text() == "b"


@pytest.mark.parametrize("path", ["~nosuchuser", "~nosuchuser/x", "~nosuchuser/../x"])
def test_nobodys_home_is_one_line(path: str) -> None:
    for read in (expanded, absolute, check_writable):
        with pytest.raises(SamecastError, match="the home of a user that does not exist on this machine"):
            read(path)


@pytest.mark.parametrize("name", ["..", ".", "", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "link", 3, None])
def test_a_name_stays_in_its_folder(tmp_path: Path, name: object) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(SamecastError, match="not a file name in the folder"):
        inside(tmp_path, name)
    assert inside(tmp_path, "a.png") == tmp_path / "a.png"


@pytest.mark.parametrize("side", [17_000, 70_000])
def test_a_picture_that_a_format_cannot_hold_is_one_line(tmp_path: Path, side: int) -> None:
    wide = Image.new("RGB", (side, 1))
    suffix = "webp" if side < 65_536 else "jpg"
    with pytest.raises(SamecastError, match="cannot write") as caught:
        write_picture(wide, tmp_path / f"wide.{suffix}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
