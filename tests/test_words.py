"""Code, messages and documentation use the field's words: `layer` rather than `site`, `warning` rather than `doubt`."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

OLD_WORDS = {
    r"sites?": "layer",
    r"map books?|mapbooks?": "attention store",
    r"wish(?:es)?": "Job",
    r"lineages?": "Node",
    r"(?-i:Bench)": "ExecutionConfig",
    r"castings?": "AttachSpec",
    r"doubts?": "warning",
    r"remarks?": "warning",
    r"those who": "the name of the thing",
    r"nobody|somebody|anybody|whoever|whom": "the name of the thing",
    r"who works": "where to run",
    r"so many(?:-th)?": "N, or every Nth",
    r"so it is": "the condition",
    r"told|tells": "states, holds, reports or is passed",
    r"as people say": "nothing",
    r"anew": "again",
    r"(?:does|do|did) not suffice": "is not enough",
    r"(?:goes|go|went) on where": "resumes",
    r"what c[ao]mes? of it": "result",
    r"left alone": "unchanged",
    r"json-able": "JSON-serialisable",
    r"(?:this|that) very": "the same",
    r"as good as (?:none|not)": "counts as missing",
    r"whole or not": "atomic, or complete or absent",
}
"""Patterns of whole words, in any case, and what to write instead."""

NOT_COVERED = [
    "src/samecast/attention",
    "src/samecast/cli/parsing.py",
    "src/samecast/core",
    "src/samecast/engine",
    "src/samecast/pipelines",
    "src/samecast/render",
    "src/samecast/study/folder.py",
    "src/samecast/study/lockstep.py",
    "src/samecast/study/making.py",
]
"""Files and folders that still hold old words, such as the former names of options; the aim is an empty list."""

SUFFIXES = (".py", ".md", ".jinja")
SPACE = r"\s+(?:#\s+)?"
COMPILED = {
    re.compile(rf"(?i)\b(?:{pattern.replace(' ', SPACE)})\b"): instead for pattern, instead in OLD_WORDS.items()
}


def leftovers(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and messages of the old words in a text; identifiers are split into their words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text)
    for pattern, instead in COMPILED.items():
        for found in pattern.finditer(words):
            line = words.count("\n", 0, found.start()) + 1
            yield line, f"{' '.join(found[0].split())!r}: write {instead}"


def pages() -> list[Path]:
    folders = (ROOT / "src", ROOT / "docs")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES]
    return sorted([ROOT / "README.md", *files])


def is_covered(path: Path) -> bool:
    return not any(path.is_relative_to(ROOT / place) for place in NOT_COVERED)


def test_no_old_words() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{line}: {message}"
        for path in pages()
        if is_covered(path)
        for line, message in sorted(leftovers(path.read_text(encoding="utf-8")))
    ]
    assert not lines, "\n".join(["old words:", *lines])


@pytest.mark.parametrize("place", NOT_COVERED)
def test_exceptions_exist_and_are_needed(place: str) -> None:
    files = [path for path in pages() if path.is_relative_to(ROOT / place)]
    assert files, f"{place} does not exist: remove it from NOT_COVERED"
    assert any(list(leftovers(path.read_text(encoding="utf-8"))) for path in files), (
        f"{place} has no old words: remove it from NOT_COVERED"
    )


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("all\nsites of the model", 2, "sites"),
        ("def bind(site: str)", 1, "site"),
        ("class _MapBook:", 1, "Map Book"),
        ("the map\nbook", 1, "map book"),
        ("# for those\n# who judge", 1, "those # who"),
        ("x = told_apart", 1, "told"),
        ("progress: told how far", 1, "told"),
        ("every so many-th step", 1, "so many-th"),
        ("Nobody knows", 1, "Nobody"),
        ("Bench(steps=4)", 1, "Bench"),
        ("SamecastError: so it is.", 1, "so it is"),
    ],
)
def test_old_words_are_found(text: str, line: int, word: str) -> None:
    (found,) = leftovers(text)
    assert found[0] == line
    assert found[1].startswith(f"{word!r}: write ")


def test_other_words_are_not_reported() -> None:
    harmless = "websites, `make bench`, benchmark, undoubted, forecasting, so that it is, those whose layers, as many"
    assert not list(leftovers(harmless))
