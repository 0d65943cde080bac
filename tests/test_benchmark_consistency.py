"""The page of the Diorama benchmark, with tiny counts."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import consistency
from samecast.compare.benchmark import Judgement
from samecast.compare.figures import gain
from samecast.compare.methods import placements
from tests.compare.makers import RIGHT, judged


def picture(subject: str, method: str, identity: bool, alignment: float) -> Judgement:
    return judged(method, subject, replace(RIGHT, pattern=identity), image_alignment=alignment)


def test_gains_are_of_subjects_not_of_pictures() -> None:
    many = [picture("a", "prompt", False, 0.1)] * 9 + [picture("b", "prompt", False, 0.1)]
    better = [picture("a", "decoder", True, 0.1)] * 9 + [picture("b", "decoder", False, 0.1)]
    found = gain([*many, *better], "decoder", "prompt", "identity")
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high, found.subjects) == (-1, 1, 2)  # two subjects tell next to nothing


def test_a_score_that_tells_right_from_wrong_is_found_out() -> None:
    right, wrong = picture("a", "prompt", True, 0.9), picture("a", "decoder", False, 0.2)
    elsewhere = picture("b", "prompt", True, 0.0)  # of another subject: not compared
    assert consistency.told_apart([right, wrong, elsewhere], "image_alignment") == 1.0
    assert consistency.told_apart([right, wrong], "dino_alignment") == 0.5
    assert consistency.told_apart([picture("a", "prompt", True, 0.1), wrong], "image_alignment") == 0.0


def test_the_page_has_both_tables_and_says_how_it_was_made(
    tiny_pipeline_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = consistency.Consistency(
        str(tiny_pipeline_dir), subjects=2, prompts=1, steps=2, work=tmp_path / "work", out=tmp_path / "docs"
    )
    consistency.main(asked)
    capsys.readouterr()
    page = (tmp_path / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for method in placements(2):
        assert page.count(f"\n| {method.title} | ") == 3
    assert "{{" not in page
    assert "--subjects 2 --prompts 1 --steps 2" in page
    assert max(len(line) for line in page.splitlines() if not line.startswith(("|", "Model"))) <= 120
    assert re.search(r"decoder layers bring [+-]\d+ points", page)
    with Image.open(tmp_path / "docs" / "pictures" / "benchmark.png") as picture:
        assert picture.width > 500
    assert {place.name for place in (tmp_path / "work").iterdir()} == {"shown", "hidden"}
