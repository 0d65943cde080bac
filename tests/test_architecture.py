"""The way of a picture through the code, as docs/architecture.md describes it."""

import re
import sys
from pathlib import Path
from types import FrameType

from samecast.cli import main

ROOT = Path(__file__).parents[1]
MOST_MODULES = 15


def described() -> list[tuple[str, str]]:
    """(file, function) of each entry of the page's list, in order."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## One picture's way")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. `([\w/]+\.py)` \(`([\w.]+)`\)", section, re.MULTILINE)


def test_one_pictures_way_is_as_described(tmp_path: Path) -> None:
    words = ["render", str(ROOT / "examples" / "rex" / "0.png"), "a dog on the beach", "--steps", "4", "--out"]
    main([*words, str(tmp_path / "imports")])
    called = dict[tuple[str, str], None]()

    def note(frame: FrameType, event: str, argument: object) -> None:
        place = frame.f_code.co_filename.rpartition("src/samecast/")[2]
        if event == "call":
            called.setdefault((place, frame.f_code.co_qualname))

    sys.setprofile(note)
    try:
        main([*words, str(tmp_path / "run")])
    finally:
        sys.setprofile(None)
    way = described()
    assert len(way) == MOST_MODULES
    assert [step for step in called if step in way] == way
