"""What the documentation shows, works: its Python runs, its commands parse, its links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import samecast as sc
from samecast.attention.modes import MODES
from samecast.attention.rule_files import read_rules
from samecast.cli import main
from samecast.cli.parsing import parse
from samecast.metrics import METRICS
from samecast.models.families import FAMILIES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:[\w-]+/)*[\w-]+\.(?:png|jpg|json|safetensors|bin)\b")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def blocks(language: str) -> list[object]:
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}:{number}")
        for page in PAGES
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


@pytest.fixture
def own_tables() -> Iterator[None]:
    """What a page adds to the tables of modes, metrics and families goes with its test."""
    tables: tuple[dict[str, Any], ...] = (METRICS, MODES, FAMILIES)
    before = [(table, dict(table)) for table in tables]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


QUICK = {"masks": ("--steps", "4"), "learn": ("--steps", "1", "--class-images", "1")}
"""What makes a command a matter of seconds, where the page does not say it itself."""
SPANS = {"--start", "--final"}
LONG = {"study", "tune", "compare", "benchmark", "ui"}
"""Commands that take minutes, or run until they are stopped: these are parsed, and what they would write counts as
written."""
WRITES = {"--out", "-o", "--docs", "--write"}


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_followed_from_its_top_to_its_end(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    later, names = set[str](), {"__name__": "documentation"}
    for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(text, page.name, "exec"), names)
        elif kind == "json":
            (tmp_path / "rules.json").write_text(text)
        elif kind == "console":
            for line in text.splitlines():
                follow(shlex.split(line), later)
    capsys.readouterr()


def follow(words: list[str], later: set[str]) -> None:
    """Runs a command of a page, or parses it; every file that it reads is there, or an earlier command writes it."""
    program, *words = words
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words) <= set(targets)
        return
    assert program == "samecast"
    parse(words)
    if any("path/to/" in word for word in words):  # the reader's own files
        return
    written = {word for flag, word in pairwise(words) if flag in WRITES}
    read = {file for word in words if word not in written for file in FILE.findall(word)}
    lacking = {file for file in read if not Path(file).exists()}
    assert all(any(file.startswith(there) for there in later) for file in lacking), lacking
    if LONG & set(words[:2]) or lacking:
        later |= {*written, *({"tuned"} if words[0] == "tune" else ())}
        return
    quick = () if {"--steps", "--again"} & set(words) else QUICK.get(words[0], ())
    if words[0] == "render" and not {"--steps", "--again"} & set(words):
        named = [int(value) for flag, value in pairwise(words) if flag in SPANS and value.isdigit()]
        quick = ("--steps", "26" if "--rules" in words else str(max([7, *named]) + 1))
    assert main([*words, *quick]) == 0


@pytest.mark.parametrize("text", blocks("json"))
def test_files_of_rules_do_what_they_say(text: str, photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(text)
    rules, subject = read_rules(tmp_path / "rules.json"), sc.Subject(references=(photo,), class_noun="dog")
    prompts, settings = (
        ["a dog at night", "a dog in the snow"],
        sc.RenderSettings(num_inference_steps=26, guidance_scale=1.0),
    )
    ruled, free = (sc.load().render(subject, prompts, rules=each, settings=settings) for each in (rules, ()))
    for one, other in zip(ruled.renders, free.renders, strict=True):
        assert one.image.tobytes() != other.image.tobytes()


def test_the_readme_example_is_short() -> None:
    first = next(text for kind, text in BLOCK.findall((ROOT / "README.md").read_text()) if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_options_that_the_page_explains_exist() -> None:
    for option in re.findall(r"^\| `(--[^`]+)`", (ROOT / "docs" / "render.md").read_text(), re.MULTILINE):
        words = shlex.split(option)
        parse(["render", *words] if words[0] == "--again" else ["render", "photo.png", "a dog", *words])
