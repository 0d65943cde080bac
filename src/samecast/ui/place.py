"""The root folder: what lies in it, and the one door through which a name from the browser becomes a path.

    uploads/     photos, crops and masks from the page, each named after its content
    rules/       rules that were clicked together, likewise
    renders/     runs
    concepts/    what was learned
    studies/     sweeps

Names from the browser are relative to the root. `find` refuses every one that leads out of it, by dots, by a link or
because it is absolute, and whatever does not lie in a folder of samecast's own.
"""

import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from PIL import Image

from samecast.disk import absolute, check_writable, is_file
from samecast.disk.writing import replace_picture, write_text
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import RECORD_NAME, slug

UPLOADS, RULES, RENDERS, CONCEPTS, STUDIES = "uploads", "rules", "renders", "concepts", "studies"
LEARN_RECORD, LEARN_STATE, STUDY_RECORD = "learn.json", "state.safetensors", "study.json"
MOST_BYTES = 64 * 2**20
"""Of one upload."""
MOST_PIXELS = 50_000_000
"""Of one upload: what cameras give, and few enough for two users at once."""
_KINDS = (RECORD_NAME, LEARN_RECORD, LEARN_STATE, STUDY_RECORD)
_SHOWN = {".png", ".jpg", ".svg", ".json", ".html", ".csv", ".parquet"}
_MOST_MASK = 4096


class Root:
    """The folder that the page reads and writes.

    Args:
        given: its path as it was given; commands that are shown name files by it.

    Raises:
        SamecastError: it is a file, or cannot be written.
    """

    def __init__(self, given: Path) -> None:
        self.given = given
        self.path = absolute(given).resolve()
        check_writable(self.path, "folder")

    def shown(self, *parts: str) -> str:
        """A path below the root as a command names it."""
        return str(self.given.joinpath(*parts))

    def find(self, name: object) -> Path:
        """The file or folder of a name that came from the browser.

        Raises:
            SamecastError: it leads out of the root, is hidden, does not exist, or is not of samecast's own.
        """
        text = name if isinstance(name, str) else ""
        parts = text.split("/")
        if not text or "\0" in text or "\\" in text or any(part in ("", "..") or part[0] == "." for part in parts):
            raise SamecastError(f"{str(name)!r:.100} is not a file of this page")
        try:
            found = self.path.joinpath(*parts).resolve()
            there = found.exists()
        except (OSError, RuntimeError):  # too long, or a cycle of links
            there, found = False, self.path
        if not there or not found.is_relative_to(self.path) or not self._own(found):
            raise SamecastError(f"{text!r:.100} is not a file of this page")
        return found

    def _own(self, path: Path) -> bool:
        """Whether it lies in uploads, rules or concepts, or in the folder of a run, a concept or a study."""
        inside = path.relative_to(self.path)
        if inside.parts[0] in (UPLOADS, RULES, CONCEPTS):
            return True
        above = [path, *path.parents]
        return any((folder / kind).is_file() for folder in above[: len(inside.parts)] for kind in _KINDS)

    def name(self, path: Path) -> str:
        """What the browser calls a path below the root."""
        return path.resolve().relative_to(self.path).as_posix()

    def readable(self, name: object) -> Path:
        """A file that the browser may show; errors as for `find`."""
        found = self.find(name)
        if found.suffix.lower() not in _SHOWN or not is_file(found):
            raise SamecastError(f"{str(name)!r:.100} is not a file of this page")
        return found

    def upload(self, file: str | Path, title: str = "") -> str:
        """Takes a photo in through the photo door: upright, in RGB, as PNG; returns its name.

        Raises:
            SamecastError: it is not a photo, or has too many bytes or pixels.
        """
        path = Path(file)
        if path.stat().st_size > MOST_BYTES:
            raise SamecastError(f"{title or path.name!r} has more than {MOST_BYTES >> 20} MiB: scale it down first")
        try:
            with Image.open(path) as image:
                width, height = image.size
        except Exception:  # the photo door says what is wrong with it
            width = height = 0
        if width * height > MOST_PIXELS:
            raise SamecastError(f"{path.name!r} is {width} x {height}, more than {MOST_PIXELS:,} pixels: scale it down")
        return self.keep(open_photo(path), slug(Path(title or path.name).stem)[:40])

    def keep(self, picture: Image.Image, stem: str) -> str:
        """Writes a picture under a name of its content; returns the name that the browser knows it by."""
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        name = f"{stem}-{sha256(picture.tobytes()).hexdigest()[:8]}.png"
        file = self.path / UPLOADS / name
        if not file.is_file():
            replace_picture(picture, file)
        return f"{UPLOADS}/{name}"

    def keep_rules(self, text: str) -> Path:
        """Writes a file of rules under a name of its content."""
        file = self.path / RULES / f"rules-{sha256(text.encode()).hexdigest()[:8]}.json"
        if not file.is_file():
            write_text(file, text)
        return file

    def folders(self, kinds: tuple[str, ...]) -> Iterator[Path]:
        """Folders at most two below the root that have one of these files; links and hidden folders are passed over."""
        for outer in _children(self.path):
            if any((outer / kind).is_file() for kind in kinds):
                yield outer
                continue
            for inner in _children(outer):
                if any((inner / kind).is_file() for kind in kinds):
                    yield inner

    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts and LoRAs that lie in the root."""
        found = [
            file
            for folder in [*self.folders((LEARN_RECORD,)), self.path / CONCEPTS]
            for file in sorted(folder.glob("*.safetensors"))
            if file.name != LEARN_STATE and not file.is_symlink()
        ]
        return tuple(dict.fromkeys(self.name(file) for file in found))

    def delete(self, name: object) -> None:
        """Removes a run, whole.

        Raises:
            SamecastError: it is no run of the root.
        """
        folder = self.find(name)
        if not (folder / RECORD_NAME).is_file() or folder == self.path:
            raise SamecastError(f"{str(name)!r:.100} is no run: nothing was deleted")
        hidden = folder.with_name(f".deleted-{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)  # gone at once, whatever becomes of the files
        shutil.rmtree(hidden, ignore_errors=True)

    def zipped(self, name: object) -> bytes:
        """A run with its record, as a ZIP file; errors as for `find`."""
        folder = self.find(name)
        if not (folder / RECORD_NAME).is_file():
            raise SamecastError(f"{str(name)!r:.100} is no run")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and not file.is_symlink():
                    archive.write(file, f"{folder.name}/{file.relative_to(folder)}")
        return buffer.getvalue()


def read_mask(data: bytes) -> Image.Image:
    """A painted mask from the browser: a PNG of bounded size, grey.

    Raises:
        SamecastError: it is none.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if max(image.size) > _MOST_MASK:
                raise SamecastError(f"the mask is {image.width} x {image.height}: at most {_MOST_MASK} pixels a side")
            return image.convert("L")
    except SamecastError:
        raise
    except Exception:
        raise SamecastError("the painted mask cannot be read: paint it again") from None


def _children(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    visible: Callable[[Path], bool] = lambda each: not each.name.startswith(".") and not each.is_symlink()  # noqa: E731
    yield from (entry for entry in entries if visible(entry) and entry.is_dir())
