"""Annotations in, subjects out; in one order, however they were listed."""

import json
from pathlib import Path

import pytest
from PIL import Image

from samecast.errors import SamecastError
from samecast.records import pixel_hash
from samecast.study.subjects import StudySubject, bundled, read_subjects

ENTRIES = [
    {"name": "corgi", "description": "a running corgi", "image_path": "photos/corgi.png"},
    {
        "name": "my ring",
        "description": ["a {noun} on a table", "a {noun} in the snow"],
        "image_path": ["ring.png", "photos/corgi.png"],
        "class_noun": "ring",
        "source_prompt": "a photo of a {noun}",
    },
]


@pytest.fixture
def annotation(tmp_path: Path, photo: Image.Image) -> Path:
    (tmp_path / "photos").mkdir()
    photo.save(tmp_path / "photos" / "corgi.png")
    photo.rotate(90).save(tmp_path / "ring.png")
    (tmp_path / "annotation.json").write_text(json.dumps(ENTRIES))
    return tmp_path / "annotation.json"


def data(subjects: tuple[StudySubject, ...]) -> list[tuple[object, ...]]:
    return [
        (s.name, s.prompts, s.class_noun, s.source_prompt, [pixel_hash(photo) for photo in s.references])
        for s in subjects
    ]


def test_the_seeds_annotation_and_its_extensions_are_read(annotation: Path) -> None:
    corgi, ring = read_subjects(annotation)
    assert (corgi.name, corgi.prompts, len(corgi.references)) == ("corgi", ("a running corgi",), 1)
    assert ring.prompts == ("a ring on a table", "a ring in the snow")
    assert (ring.name, ring.source_prompt, len(ring.references)) == ("my ring", "a photo of a ring", 2)


def test_shuffled_listings_are_the_same_subjects(annotation: Path) -> None:
    before = data(read_subjects(annotation))
    annotation.write_text(json.dumps(ENTRIES[::-1]))
    assert data(read_subjects(annotation)) == before


def test_a_folder_of_subjects_is_read(tmp_path: Path, photo: Image.Image) -> None:
    for name in ("red_dog", "cat6"):
        (tmp_path / name).mkdir()
        photo.save(tmp_path / name / "00.jpg")
    (tmp_path / "prompts.txt").write_text("a {noun} on the beach\n\na {noun} at night\n")
    (tmp_path / "cat6" / "class_noun.txt").write_text("cat\n")
    cat, dog = read_subjects(tmp_path)
    assert cat.prompts == ("a cat on the beach", "a cat at night")
    assert (dog.name, dog.class_noun) == ("red_dog", "red dog")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"name": "x"}, "a list of objects"),
        ([], "no subject"),
        ([{"name": "x", "description": "d"}], r"entry 1 of .*annotation\.json' must have image_path"),
        ([{"name": "x", "description": "", "image_path": "ring.png"}], "description must not be empty"),
        ([{"name": "x", "description": "a {noun}", "image_path": "ring.png"}], "no class_noun"),
        (
            [{"name": "x", "description": "d", "image_path": "gone.png"}],
            "entry 1 of .*gone.png', which does not exist; looked in",
        ),
        (
            [ENTRIES[0], {"name": "x", "description": "d", "image_path": ["/gone/a.png"]}],
            "entry 2 of .*json' names the image_path '/gone/a.png', which does not exist; looked there alone",
        ),
        ([ENTRIES[0], ENTRIES[0]], "entries 1 and 2 of .* are both called 'corgi'"),
    ],
)
def test_mistakes_are_one_line(annotation: Path, entries: object, message: str) -> None:
    annotation.write_text(json.dumps(entries))
    with pytest.raises(SamecastError, match=message) as caught:
        read_subjects(annotation)
    assert "\n" not in str(caught.value)


def test_the_bundled_subjects_are_held_out_and_have_a_truth() -> None:
    whole, partly = bundled(32, subjects=1, prompts=2, photos=2, hidden=True)
    assert (whole.case, whole.hidden, len(whole.prompts), len(whole.references)) == (0, False, 2, 2)
    assert (partly.subject, partly.hidden) == (whole.name, True)
    assert [pixel_hash(p) for p in partly.judged] == [pixel_hash(p) for p in whole.references]
    assert [pixel_hash(p) for p in partly.references] != [pixel_hash(p) for p in whole.references]
    with pytest.raises(SamecastError, match="photos must be from 1 to 4"):
        bundled(32, photos=5)
