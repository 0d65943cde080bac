"""What the documentation shows, works: its Python runs, its commands parse, its links lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.modes import MODES
from samecast.attention.rule_files import read_rules
from samecast.cli.parsing import parse
from samecast.concepts.concept import Concept, ModifierToken
from samecast.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    """What a page adds to the tables of modes and metrics goes with its test."""
    before = [(table, dict(table)) for table in (METRICS, MODES)]
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code: str, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo.save(tmp_path / "rex.png")
    (tmp_path / "photos").mkdir()
    photo.save(tmp_path / "photos" / "0.png")
    if "rex.safetensors" in code:
        model = sc.load()
        width = model.backbone.pipeline.text_encoder.config.hidden_size
        token = ModifierToken({"text_encoder": torch.ones(1, width)}, "dog")
        Concept({"<new1>": token}).save(tmp_path / "rex.safetensors")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "documentation", "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("text", blocks("json"))
def test_files_of_rules_do_what_they_say(text: str, photo: Image.Image, tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(text)
    rules, subject = read_rules(tmp_path / "rules.json"), sc.Subject(references=(photo,), class_noun="dog")
    prompts, settings = ["a dog at night", "a dog in the snow"], sc.RenderSettings(steps=26)
    ruled, free = (sc.load().render(subject, prompts, rules=each, settings=settings) for each in (rules, ()))
    for one, other in zip(ruled.renders, free.renders, strict=True):
        assert one.image.tobytes() != other.image.tobytes()


@pytest.mark.parametrize("text", blocks("console"))
def test_commands_parse(text: str) -> None:
    for line in text.splitlines():
        program, *words = shlex.split(line)
        if program == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words) <= set(targets)
        else:
            assert program == "samecast"
            parse(words)


def test_the_readme_example_is_short() -> None:
    first = next(text for kind, text in BLOCK.findall((ROOT / "README.md").read_text()) if kind == "python")
    assert len([line for line in first.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_options_that_the_readme_explains_exist() -> None:
    for option in re.findall(r"^\| `(--[^`]+)`", (ROOT / "README.md").read_text(), re.MULTILINE):
        words = shlex.split(option)
        parse(["render", *words] if words[0] == "--again" else ["render", "photo.png", "a dog", *words])
