"""Several named subjects in one run: who reads whom, where, at what cost, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.modes import Cast, Reader, Reading
from samecast.cli.cast import read_subjects
from samecast.core.masks import SubjectMask, exclusive
from samecast.engine.cast import fill_in

STEPS = 5
FRESH = sc.RenderSettings(num_inference_steps=STEPS)
RULES = sc.cast(2, layers="all", tokens=sc.SubjectTokens(layers="all"))
PROMPT = "a {rex} and a {tom}"
ONE_LEVEL = 1


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def pair(photo: Image.Image) -> tuple[sc.Subject, sc.Subject]:
    return sc.Subject(photo, "dog", name="rex"), sc.Subject(photo.rotate(90), "cat", name="tom")


def half(size: int = 64, *, left: bool) -> np.ndarray[Any, Any]:
    mask = np.zeros((size, size))
    mask[:, : size // 2 if left else size] = 1
    return mask if left else 1 - half(size, left=True)


def difference(one: Image.Image, two: Image.Image) -> int:
    return int(np.abs(np.asarray(one, dtype=np.int16) - np.asarray(two, dtype=np.int16)).max())


def expected(
    values: list[np.ndarray[Any, Any]], photos: list[np.ndarray[Any, Any]], union: list[bool]
) -> np.ndarray[Any, Any]:
    """The table of the equation, by loops: p(i) = argmax of m(i) over its mean where any is 0.5 or more."""
    tokens = len(values[0])
    claimed = [token for token in range(tokens) if any(value[token] >= 0.5 for value in values)]
    means = [sum(value[token] for token in claimed) / len(claimed) for value in values]
    table = np.zeros((tokens, tokens * (len(values) + 1)), dtype=bool)
    for query in range(tokens):
        shares = [value[query] / mean for value, mean in zip(values, means, strict=True)]
        owner = shares.index(max(shares)) if query in claimed else None
        for key in range(tokens):
            if owner is not None and photos[owner][key]:
                table[query, owner * tokens + key] = True
            if owner is None or union[owner] or not photos[owner].any():
                table[query, len(values) * tokens + key] = True
    return table


@pytest.mark.parametrize("union", [[False, False], [True, False]])
@pytest.mark.parametrize("blank", [False, True])
def test_each_region_reads_its_own_photo_as_the_equation_says(union: list[bool], blank: bool) -> None:
    drawn = np.random.default_rng(3)
    values = [drawn.uniform(0, 1, 16) for _ in range(2)]
    photos = [drawn.uniform(0, 1, 16) > 0.4, np.zeros(16, dtype=bool) if blank else drawn.uniform(0, 1, 16) > 0.4]

    def mask(of: np.ndarray[Any, Any]) -> SubjectMask:
        return SubjectMask(torch.from_numpy(of.astype(np.float64).reshape(4, 4)))

    reader = Reader(
        Cast(),
        (False, False, True),
        masks=(mask(photos[0]), mask(photos[1]), None),
        regions=tuple(map(mask, values)),
        region_of=(0, 1, -1),
        beside=(*union, False),
    )
    query = torch.from_numpy(drawn.normal(size=(1, 1, 16, 4)))
    key, value = (torch.from_numpy(drawn.normal(size=(1, 1, 48, 4))) for _ in range(2))
    reading = Reading(query, key, value, [reader])
    reader.mode.change(reading)
    table = expected(values, photos, union)
    assert reading.allowed is not None
    assert np.array_equal(reading.allowed[0, 0].numpy(), table)
    logits = np.where(table, query[0, 0].numpy() @ key[0, 0].numpy().T / 2, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    output = weights / weights.sum(axis=1, keepdims=True) @ value[0, 0].numpy()
    attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=reading.allowed)
    assert np.abs(attended[0, 0].numpy() - output).max() < 1e-12


def test_a_token_belongs_to_one_subject_at_most() -> None:
    drawn = torch.Generator().manual_seed(0)
    masks = [SubjectMask(torch.rand(8, 8, generator=drawn)) for _ in range(3)]
    won = exclusive(masks, 64)
    assert int(won.sum(dim=0).max()) == 1
    assert torch.equal(won.any(dim=0), torch.stack([mask.tokens(64) for mask in masks]).any(dim=0))
    same = exclusive([masks[0], masks[0]], 64)
    assert same.any(dim=1).tolist() == [True, False]  # of equal ones the first


@pytest.mark.parametrize("photos", [1, 2])
def test_each_photo_is_inverted_once_whatever_the_prompts(model: sc.Model, photo: Image.Image, photos: int) -> None:
    rows: list[int] = []

    def count(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rows.append(int((args[0] if args else kwargs["sample"]).shape[0]))

    several = [
        sc.Subject(tuple(photo.rotate(90 * number) for number in range(photos)), noun, name=name)
        for name, noun in (("rex", "dog"), ("tom", "cat"))
    ]
    hook = model.backbone.denoiser.register_forward_hook(count, with_kwargs=True)
    try:
        out = model.render(several, [PROMPT, f"{PROMPT} asleep"], rules=RULES, settings=FRESH)
    finally:
        hook.remove()
    inverted, looked, denoised = 2 * photos * STEPS, 2 * photos * STEPS, 2 * 2 * STEPS
    assert (out.evaluations, out.map_evaluations) == (inverted + denoised, looked)
    assert sum(rows) == inverted + looked + denoised


def test_a_region_depends_on_its_own_subject(model: sc.Model, pair: Any, photo: Image.Image) -> None:
    """With given halves, another photo of tom changes the picture; a subject that the prompt leaves out does not."""
    masks = {"rex": half(left=True), "tom": half(left=False)}
    rex, tom = pair
    whole = model.render(pair, [PROMPT], rules=RULES, settings=FRESH, target_masks=masks)
    other = model.render(
        (rex, replace(tom, references=(photo,))), [PROMPT], rules=RULES, settings=FRESH, target_masks=masks
    )
    assert difference(whole.images[0], other.images[0]) > ONE_LEVEL
    one, two = (
        model.render(several, ["a {rex}", PROMPT], rules=RULES, settings=FRESH, target_masks=masks)
        for several in (pair, (rex, replace(tom, references=(photo,))))
    )
    assert difference(one.images[0], two.images[0]) <= ONE_LEVEL
    assert difference(one.images[1], two.images[1]) > ONE_LEVEL


def test_given_masks_need_no_maps_and_may_be_files_or_of_one_subject(
    model: sc.Model, pair: Any, tmp_path: Path
) -> None:
    Image.fromarray((half(left=True) * 255).astype(np.uint8)).save(tmp_path / "a=b.png")
    rex, tom = (
        replace(each, masks=(np.tri(*each.references[0].size[::-1]),))  # below the diagonal
        for each in pair
    )
    masks = {"rex": tmp_path / "a=b.png", "tom": half(left=False)}
    given = model.render((rex, tom), [PROMPT], rules=RULES, settings=FRESH, target_masks=masks)
    assert (given.map_evaluations, given.found_masks) == (0, ())
    partly = model.render((rex, pair[1]), [PROMPT], rules=RULES, settings=FRESH, target_masks=masks)
    assert partly.map_evaluations == STEPS  # tom's photo alone
    assert difference(given.images[0], partly.images[0]) > ONE_LEVEL


def test_two_subjects_of_one_noun_are_told_apart(model: sc.Model, pair: Any) -> None:
    twins = tuple(replace(each, class_noun="dog") for each in pair)
    out = model.render(twins, [PROMPT], rules=RULES, settings=FRESH)
    maps = [np.asarray(mask.map) for mask in out.found_masks if mask.of == "picture"]
    assert len(maps) == 2
    assert not np.array_equal(*maps)
    swapped = model.render(twins, ["a {tom} and a {rex}"], rules=RULES, settings=FRESH)
    assert difference(out.images[0], swapped.images[0]) > ONE_LEVEL


def test_a_saved_run_is_made_again(
    pair: Any, tmp_path: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from samecast.cli import main

    words: list[str] = []
    for each, file in zip(pair, ("a=b:c.png", "to,m.png"), strict=True):
        each.references[0].save(tmp_path / file)
        words += ["--subject", f"{each.name}={tmp_path / file}:{each.class_noun}"]
    Image.fromarray((half(left=True) * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    asked = [*words, PROMPT, "--target-mask", f"rex={tmp_path / 'mask.png'}", "--steps", "5", "--start", "2"]
    where = ["--map-layers", "all", "--model", str(tiny_pipeline_dir)]
    assert main(["render", *asked, *where, "--out", str(tmp_path / "one")]) == 0
    record = json.loads((tmp_path / "one" / "render.json").read_text())["provenance"]
    assert [subject["name"] for subject in record["subjects"]] == ["rex", "tom"]
    assert record["rules"][0]["mode"]["name"] == "cast"
    assert main(["render", "--again", str(tmp_path / "one"), "--out", str(tmp_path / "two")]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_states_and_stock_pipelines_take_several_subjects(model: sc.Model, pair: Any) -> None:
    states = list(model.states(pair, [PROMPT], rules=RULES, settings=FRESH))
    assert [state.step for state in states] == list(range(STEPS))
    pipe, images = model.pipeline, []
    for rules in (RULES, ()):
        with sc.attach(pipe, rules, sources=pair if rules else None):
            seed = torch.Generator().manual_seed(0)
            images.append(pipe("a dog and a cat", num_inference_steps=STEPS, generator=seed).images[0])
    assert difference(*images) > ONE_LEVEL
    ours = model.render(pair, [PROMPT], rules=RULES, settings=replace(FRESH, guidance_scale=7.5, height=64, width=64))
    assert difference(images[0], ours.images[0]) <= ONE_LEVEL


@pytest.mark.parametrize(
    ("prompt", "changes", "message"),
    [
        ("a {rex} and a {bob}", {}, r"names \{bob\}, and there is no subject bob: there are rex, tom"),
        ("a {rex}", {}, "no prompt names tom, so no picture would read its photos"),
        ("a {noun}", {}, r"there are several subjects: write \{rex\} or \{tom\}"),
        (
            PROMPT,
            {"rules": sc.Rule(sources=("bob",))},
            "a rule reads the subject 'bob', and there is none of that name",
        ),
        (PROMPT, {"rules": sc.masactrl_auto_masked()}, "looks for one subject, and there are 2: use the method cast"),
        (PROMPT, {"rules": sc.cast(tokens=sc.SubjectTokens("dog"))}, "by its own words: leave out the phrase 'dog'"),
        (PROMPT, {"target_masks": half(left=True)}, "several subjects: give target_masks by name"),
        (PROMPT, {"target_masks": {"bob": half(left=True)}}, "a mask is given of 'bob', and no subject is called that"),
        (
            PROMPT,
            {"rules": sc.masactrl(), "target_masks": {"rex": half(left=True)}},
            "no rule reads: use the method cast",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    model: sc.Model, pair: Any, prompt: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(sc.SamecastError, match=message) as caught:
        model.render(pair, [prompt], settings=FRESH, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["1x", "a b", "a-b", "source", "self", "targets", "noun", "<a b>", 3])
def test_names_are_identifiers_or_words_of_concepts(name: Any, photo: Image.Image) -> None:
    with pytest.raises(sc.SamecastError, match="subject"):
        sc.Subject(photo, name=name)
    assert sc.Subject(photo, "dog", name="<new1>").words == "<new1>"


def test_several_subjects_have_names_of_their_own(model: sc.Model, photo: Image.Image) -> None:
    rex = sc.Subject(photo, "dog", name="rex")
    with pytest.raises(sc.SamecastError, match="two subjects are called rex"):
        model.render([rex, rex], [PROMPT], settings=FRESH)
    with pytest.raises(sc.SamecastError, match="subject 2 of 2 has no name"):
        model.render([rex, sc.Subject(photo)], [PROMPT], settings=FRESH)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rex", "--subject is NAME=PHOTO:NOUN"),
        ("=a.png:dog", "--subject is NAME=PHOTO:NOUN"),
        ("rex=", "--subject is NAME=PHOTO:NOUN"),
        ("rex=gone.png:dog", "there is no file 'gone.png'"),
        ("rex=a.png:", "has an empty noun"),
        ("rex=b.png:dog", "both are there: rename a file"),
    ],
)
def test_the_option_says_what_is_wrong(
    text: str, message: str, photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "b.png:dog"):
        photo.save(tmp_path / name, format="png")
    with pytest.raises(sc.SamecastError, match=message):
        read_subjects([text], ())


def test_the_option_takes_several_photos_and_any_name_of_a_file(
    photo: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a,b.png", "c:d=e.png", "f.png"):
        photo.save(tmp_path / name)
    (one,) = read_subjects(["rex=a,b.png,c:d=e.png,f.png:dog"], ())
    assert (one.references, one.class_noun) == (("a,b.png", "c:d=e.png", "f.png"), "dog")
    (two,) = read_subjects(["rex=c:d=e.png"], ())
    assert (two.references, two.words) == (("c:d=e.png",), "rex")


@pytest.mark.parametrize("text", ["a {{value}} dog", "{{{{rex}}}}", "a {1} dog", "{}", "{a b}", "${{x}}"])
def test_other_braces_are_text(text: str) -> None:
    assert fill_in(text, "dog").text == text
