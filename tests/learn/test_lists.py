"""What is to be learnt, read from folders and from the lists that others use."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from samecast.errors import SamecastError
from samecast.learn.lists import check_tokens, from_folder, from_list


def write(path: Path, entries: Any) -> Path:
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def entry(photos: Path, token: str = "<new1>", noun: str = "dog", **others: Any) -> dict[str, Any]:
    return {
        "instance_prompt": f"photo of a {token} {noun}",
        "class_prompt": noun,
        "instance_data_dir": str(photos),
        "class_data_dir": "./real_reg/none",
        **others,
    }


def test_a_folder_is_a_subject(photos_dir: Path, class_dir: Path) -> None:
    found = from_folder(photos_dir, "owl", class_folder=class_dir)
    assert [path.name for path in found.photos] == ["0.png", "1.png", "2.png"]
    assert found.caption == "a photo of a <new1> owl"
    assert {words for _, words in found.class_photos} == {"a photo of an owl"}


def test_a_folder_may_say_what_it_shows(photos_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(photos_dir, tmp_path / "rex")
    write(tmp_path / "rex" / "subject.json", {"class_noun": "cat"})
    assert from_folder(tmp_path / "rex").noun == "cat"
    assert from_folder(tmp_path / "rex", "dog").noun == "dog"
    write(tmp_path / "rex" / "subject.json", {"noun": "cat"})
    with pytest.raises(SamecastError, match="class_noun"):
        from_folder(tmp_path / "rex")


def test_a_concepts_list_is_read_as_its_authors_do(photos_dir: Path, class_dir: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path / "concepts_list.json",
        [entry(photos_dir, class_data_dir=str(class_dir)), entry(photos_dir, "<new2>", "wooden pot")],
    )
    first, second = from_list(file)
    assert (first.token, first.noun, first.caption) == ("<new1>", "dog", "photo of a <new1> dog")
    assert [words for _, words in first.class_photos] == ["dog", "dog"]
    assert (second.token, second.class_caption, second.class_photos) == ("<new2>", "wooden pot", ())
    assert from_list(file, 2) == (second,)


def test_paths_are_taken_from_where_the_list_lies(photos_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(photos_dir, tmp_path / "benchmark_dataset" / "pet_dog1")
    data = entry(Path("./benchmark_dataset/pet_dog1"), prompt_filename="prompts/dog.txt")
    found = from_list(write(tmp_path / "dataset.json", [data]))
    assert found[0].photos[0].parent == tmp_path / "benchmark_dataset" / "pet_dog1"


def test_groups_are_learnt_one_at_a_time(photos_dir: Path, tmp_path: Path) -> None:
    compose = {"prompt_filename_compose": "prompts/a_b.txt"}
    groups = [[entry(photos_dir), entry(photos_dir, "<new2>", "sofa"), compose], [entry(photos_dir), compose]]
    file = write(tmp_path / "dataset_multiconcept.json", groups)
    assert [each.token for each in from_list(file, 1)] == ["<new1>", "<new2>"]
    assert len(from_list(file, 2)) == 1
    with pytest.raises(SamecastError, match="2 groups"):
        from_list(file)
    with pytest.raises(SamecastError, match="entries 1 to 2; got 3"):
        from_list(file, 3)


def test_class_pictures_may_be_lines_of_text_files(photos_dir: Path, class_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text(f"{class_dir / '0.png'}\n{class_dir / '1.png'}\n")
    (tmp_path / "caption.txt").write_text("a small dog\na big dog\n")
    data = entry(photos_dir, class_prompt="caption.txt", class_data_dir="images.txt")
    (found,) = from_list(write(tmp_path / "list.json", [data]))
    assert [words for _, words in found.class_photos] == ["a small dog", "a big dog"]
    (tmp_path / "caption.txt").write_text("one\ntwo\nthree\n")
    with pytest.raises(SamecastError, match="2 images for 3 captions"):
        from_list(tmp_path / "list.json")


def test_class_pictures_may_be_as_the_authors_retrieve_them(photos_dir: Path, class_dir: Path, tmp_path: Path) -> None:
    """`retrieve.py` writes paths from where it was run, beside a folder of pictures."""
    shutil.copytree(class_dir, tmp_path / "real" / "images")
    (tmp_path / "real" / "images.txt").write_text(
        "real_reg/samples_dog/images/0.png\nreal_reg/samples_dog/images/1.png\n"
    )
    (tmp_path / "real" / "caption.txt").write_text("a small dog\na big dog\n")
    (found,) = from_list(write(tmp_path / "list.json", [entry(photos_dir, class_data_dir="real")]))
    assert [(path.name, words) for path, words in found.class_photos] == [
        ("0.png", "a small dog"),
        ("1.png", "a big dog"),
    ]
    assert all(path.parent == tmp_path / "real" / "images" for path, _ in found.class_photos)
    (tmp_path / "real" / "images" / "1.png").unlink()
    with pytest.raises(
        SamecastError,
        match=r"line 2 of .*images\.txt' names the image .*1\.png', which does not exist; looked in .*working folder",
    ):
        from_list(tmp_path / "list.json")


def test_what_is_no_path_or_no_subject_is_told_in_one_line(photos_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match=r"is not a path|is not a folder") as caught:
        from_list(write(tmp_path / "list.json", [entry(photos_dir, instance_data_dir="x" * 5000)]))
    assert "\n" not in str(caught.value)
    for groups in ([[], [entry(photos_dir)]], [[{"prompt_filename_compose": "a.txt"}]]):
        with pytest.raises(SamecastError, match="has no subject in group 1"):
            from_list(write(tmp_path / "list.json", groups), 1)
    with pytest.raises(SamecastError, match="is not a group of subjects"):
        from_list(write(tmp_path / "list.json", [[entry(photos_dir)], entry(photos_dir)]), 2)
    (tmp_path / "rex").mkdir()
    shutil.copy(photos_dir / "0.png", tmp_path / "rex")
    (tmp_path / "rex" / "subject.json").write_text("[" * 100_000)
    with pytest.raises(SamecastError, match="nests more than 64 levels"):
        from_folder(tmp_path / "rex")


@pytest.mark.parametrize(
    ("class_prompt", "instance_prompt", "noun"),
    [
        ("dog", "photo of a <new1> dog", "dog"),
        ("a photo of a dog", "a photo of a <new1> dog", "dog"),
        ("A close-up photograph of the hot dog", "a photo of <new1> hot dog", "hot dog"),
        ("photo of an owl", "<new1> owl", "owl"),
        ("a picture of wooden pots", "a picture of <new1> wooden pots", "wooden pots"),
        ("a dog", "photo of a <new1> dog", "dog"),
        ("the backpack", "a <new1> backpack", "backpack"),
        ("a photo of a dog, 4k, sharp", "a photo of a <new1> dog", "dog"),
        ("photo of a cat", "photo of a <new1> cat on a sofa", "cat"),
        ("hot dog", "a <new1> dog", "hot dog"),
        ("an animal", "a <new1>", "animal"),
        ("", "a <new1> dog", ""),
    ],
)
def test_the_noun_is_the_class_and_not_the_caption(
    photos_dir: Path, tmp_path: Path, class_prompt: str, instance_prompt: str, noun: str
) -> None:
    data = entry(photos_dir, class_prompt=class_prompt, instance_prompt=instance_prompt)
    (found,) = from_list(write(tmp_path / "list.json", [data]))
    assert (found.noun, found.caption, found.class_caption) == (noun, instance_prompt, class_prompt)


def test_a_token_is_put_before_the_noun_wherever_that_is_in_the_caption(photos_dir: Path, tmp_path: Path) -> None:
    data = entry(photos_dir, class_prompt="a photo of a dog", instance_prompt="a photo of a dog at home")
    (found,) = from_list(write(tmp_path / "list.json", [data]))
    assert found.caption == "a photo of a <new1> dog at home"


@pytest.mark.parametrize(
    ("fields", "number", "data"),
    [
        (
            {"instance_data_dir": "gone"},
            None,
            "entry 2 of '{file}' names the instance_data_dir 'gone', which does not exist",
        ),
        ({"instance_data_dir": "gone"}, 2, "entry 2 of '{file}' names"),
        ({"instance_data_dir": "gone"}, None, "looked in the list's folder '{folder}' and in the working folder"),
        ({"instance_data_dir": "/gone"}, None, "looked there alone"),
        ({"instance_data_dir": "~nosuchuser/x"}, None, "entry 2 of '{file}': the instance_data_dir is not a path"),
        ({"class_prompt": "gone.txt"}, None, "entry 2 of '{file}' names the class_prompt 'gone.txt'"),
        ({"class_data_dir": "names.txt"}, None, "line 2 of '{folder}/names.txt' names the image 'gone.png'"),
        ({"class_prompt": 3}, None, "entry 2 of '{file}': class_prompt must be text; got 3"),
        ({"instance_prompt": "a cat"}, None, "entry 2 of '{file}' has the caption 'a cat', which contains no token"),
    ],
)
def test_what_is_wrong_in_a_list_is_told_with_its_entry_and_all_places_sought(
    photos_dir: Path, tmp_path: Path, fields: dict[str, Any], number: int | None, data: str
) -> None:
    (tmp_path / "names.txt").write_text(f"{photos_dir / '0.png'}\ngone.png\n")
    file = write(tmp_path / "list.json", [entry(photos_dir), entry(photos_dir, "<new2>", **fields)])
    with pytest.raises(SamecastError) as caught:
        from_list(file, number)
    assert data.format(file=file, folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_of_a_group_is_told_with_its_group(photos_dir: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "list.json", [[entry(photos_dir)], [entry(photos_dir), entry(Path("gone"), "<new2>")]])
    with pytest.raises(SamecastError, match=r"entry 2 in group 2 of .* names the instance_data_dir 'gone'"):
        from_list(file, 2)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_with_a_byte_order_mark_is_read(photos_dir: Path, tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.json").write_text(json.dumps([entry(photos_dir, noun="café")], ensure_ascii=False), encoding)
    assert from_list(tmp_path / "list.json")[0].noun == "café"


def test_a_caption_without_a_token_gets_the_next_one(photos_dir: Path, tmp_path: Path) -> None:
    plain = entry(photos_dir, instance_prompt="photo of a dog")
    found = from_list(write(tmp_path / "list.json", [entry(photos_dir, noun="cat"), plain]))
    assert found[1].caption == "photo of a <new2> dog"


def test_the_token_goes_before_the_noun_and_not_into_another_word(photos_dir: Path, tmp_path: Path) -> None:
    cases = {
        "a catalogue photo of a cat": "a catalogue photo of a <new1> cat",
        "A Cat, a bobcat": "A <new1> Cat, a bobcat",
        "bobcat-cat": "bobcat-<new1> cat",
    }
    for said, expected in cases.items():
        data = entry(photos_dir, noun="cat", instance_prompt=said)
        assert from_list(write(tmp_path / "x.json", [data]))[0].caption == expected
    data = entry(photos_dir, noun="cat", instance_prompt="a photo of a bobcat")
    with pytest.raises(SamecastError, match="which contains no token"):
        from_list(write(tmp_path / "x.json", [data]))
    two = [entry(photos_dir, instance_prompt="a dog"), entry(photos_dir, "<NEW1>")]
    assert [each.token for each in from_list(write(tmp_path / "x.json", two))] == ["<new2>", "<NEW1>"]


@pytest.mark.parametrize(
    ("content", "data"),
    [
        ("{", "is not a list"),
        ("[]", "at least one entry"),
        ("{}", "expected a JSON list"),
        ("[3]", "entry 1 of .* must be an object of instance_data_dir"),
        ('[{"instance_prompt": "x"}]', "no instance_data_dir"),
        ('[{"instance_data_dir": 3}]', "instance_data_dir must be text; got 3"),
        (
            '[{"instance_data_dir": "nowhere", "instance_prompt": "a <a> b"}]',
            "looked in the list's folder .* and in the working folder",
        ),
        ('[{"instance_data_dir": "x", "instance_prompt": "a b"}]', "contains no token"),
    ],
)
def test_broken_lists_are_one_line(content: str, data: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(SamecastError, match=data) as error:
        from_list(tmp_path / "list.json")
    assert "\n" not in str(error.value)


def test_folders_without_photos_and_tokens_that_clash_are_refused(photos_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match="no photos"):
        from_folder(tmp_path, "dog")
    with pytest.raises(SamecastError, match="--noun"):
        from_folder(photos_dir)
    with pytest.raises(SamecastError, match="angle brackets"):
        from_folder(photos_dir, "dog", token="new1")
    with pytest.raises(SamecastError, match="two subjects"):
        check_tokens([from_folder(photos_dir, "dog"), from_folder(photos_dir, "cat")])
    with pytest.raises(SamecastError, match="no subject is given"):
        check_tokens([])
