"""Modifier tokens in texts: whole words, the longest first, in any case, as many tokens as they have vectors.

Stock diffusers is the oracle where it is right: one word in small letters, which is no part of another.
"""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import samecast as sc
from samecast.concepts.apply import apply_concepts
from samecast.concepts.concept import Concept, ModifierToken
from samecast.concepts.formats import write_concept
from samecast.concepts.merge import merge
from samecast.models.loading import load_backbone
from tests.concepts.conftest import load
from tests.concepts.makers import make_concept, make_words


def spoken(pipeline: Any, words: dict[str, int], prompt: str) -> str:
    """What each tokenizer of a pipeline reads, with a letter and a number for each vector of a word."""
    concepts = [
        Concept(make_words(pipeline, [word], vectors=vectors, seed=number))
        for number, (word, vectors) in enumerate(words.items())
    ]
    with apply_concepts(pipeline, [(concept, 1.0) for concept in concepts]) as applied:
        read: list[str] = []
        for encoder, ids in applied.token_ids.items():
            tokenizer = getattr(pipeline, encoder.replace("text_encoder", "tokenizer"))
            names = {
                row: f" {'ABCDEFG'[word]}{vector}"
                for word, rows in enumerate(ids.values())
                for vector, row in enumerate(rows)
            }
            found = tokenizer(pipeline.maybe_convert_prompt(prompt, tokenizer)).input_ids[1:-1]
            data = (names.get(row, tokenizer.convert_ids_to_tokens(row).replace("</w>", " ")) for row in found)
            read.append("".join(data))
    assert len(set(read)) == 1
    return read[0]


CASES: dict[str, tuple[dict[str, int], str, str]] = {
    "small letters": ({"rex": 3}, "a rex", "a A0 A1 A2"),
    "capitals in the word": ({"EasyNeg": 2}, "an EasyNeg", "an A0 A1"),
    "capitals in brackets": ({"<Rex>": 2}, "a <Rex>", "a A0 A1"),
    "capitals in the prompt": ({"rex": 2}, "a REX", "a A0 A1"),
    "capitals elsewhere": ({"EasyNeg": 2}, "an easyneg, an EASYNEG", "an A0 A1, an A0 A1"),
    "one word begins as another": ({"bad-hands": 3, "bad-hands-v2": 2}, "bad-hands-v2 b", "B0 B1 b"),
    "in the other order": ({"bad-hands-v2": 2, "bad-hands": 3}, "bad-hands bad-hands-v2", "B0 B1 B2 A0 A1"),
    "one word ends as another": ({"hands-v2": 2, "bad-hands-v2": 1}, "hands-v2, bad-hands-v2", "A0 A1, B0"),
    "one word is within another": ({"hands": 2, "bad-hands-v2": 2}, "bad-hands-v2 hands", "B0 B1 A0 A1"),
    "a part of a word": ({"sks": 1}, "asksome sks sksx", "asksome A0 sksx"),
    "a part of a word, of two vectors": ({"sks": 2}, "asksome sks", "asksome A0 A1"),
    "with a digit or an underscore": ({"sks": 2}, "sks2 sks_a sks-a", "sks2 sks_a A0 A1-a"),
    "at signs": ({"sks": 2}, "(sks:1), 'sks' sks.", "( A0 A1: 1 ), ' A0 A1' A0 A1."),
    "in brackets, with nothing between": ({"<rex>": 2}, "a<rex>dog", "a A0 A1dog"),
    "twice in a row": ({"<rex>": 2}, "<rex><rex> <rex>", "A0 A1 A0 A1 A0 A1"),
    "two in a row": ({"<a>": 2, "<b>": 2}, "<a><b>", "A0 A1 B0 B1"),
    "with a sign at its end": ({"style-*": 2}, "style-*, mystyle-*", "A0 A1, mystyle -*"),
    "letters with accents": ({"Café": 2}, "a CAFE\u0301 cafés", "a A0 A1 cafés"),
    "without the word": ({"rex": 2}, "A Dog", "a dog"),
    "as a regular expression": ({"a.c+": 2}, "abc a.c+", "abc A0 A1"),
}


@pytest.mark.parametrize("name", CASES)
def test_words_are_read_whole_longest_first_in_any_case(pipeline: Any, name: str) -> None:
    words, prompt, expected = CASES[name]

    def plain(text: str) -> str:
        """Without spaces, which do not matter, and without what bytes of letters with accents look like."""
        return re.sub(r"[^!-~]", "", text)

    assert plain(spoken(pipeline, words, prompt)) == plain(expected)


def load_in_stock(stock: Any, concept: Concept, word: str, folder: Path) -> None:
    """As diffusers' users do it, into one text encoder or into both."""
    tensors = load_file(next(write_concept(concept, folder, "textual-inversion").iterdir()))
    if word in tensors:
        stock.load_textual_inversion(tensors[word], token=word)
    for key, number in (("clip_l", ""), ("clip_g", "_2")):
        if key in tensors:
            parts = {name: getattr(stock, f"{name}{number}") for name in ("text_encoder", "tokenizer")}
            stock.load_textual_inversion(tensors[key], token=word, **parts)


@pytest.mark.parametrize(("word", "vectors"), [("<rex>", 1), ("<rex>", 3), ("rex", 2), ("bad-hands", 4)])
def test_stock_reads_the_same_where_it_is_right(
    pipeline: Any, request: pytest.FixtureRequest, tmp_path: Path, word: str, vectors: int
) -> None:
    concept = Concept(make_words(pipeline, [word], vectors=vectors))
    stock = load(request.getfixturevalue("tiny_xl_dir" if hasattr(pipeline, "tokenizer_2") else "tiny_pipeline_dir"))
    load_in_stock(stock, concept, word, tmp_path / "ti")
    for prompt in (f"a {word} dog", f"{word}, a dog", f"a dog and {word}"):
        plain = embedded(pipeline, prompt, prompt)
        with concept.apply(pipeline):
            ours = embedded(pipeline, prompt, prompt)
        torch.testing.assert_close(ours, embedded(stock, prompt, prompt), rtol=0, atol=1e-5)
        assert (ours - plain).abs().max() > 0.1


def embedded(pipeline: Any, prompt: str, negative: str = "") -> torch.Tensor:
    with torch.inference_mode():
        texts = pipeline.encode_prompt(
            prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=negative
        )
    return torch.cat([texts[1], texts[0]])


def test_prompts_and_negative_prompts_in_any_case_mean_the_same(pipeline: Any) -> None:
    concept = Concept(make_words(pipeline, ["EasyNeg"], vectors=3))
    with concept.apply(pipeline):
        expected = embedded(pipeline, "a easyneg dog", "EasyNeg")
        for spelt in ("EasyNeg", "EASYNEG", "eAsYnEg"):
            assert torch.equal(embedded(pipeline, f"a {spelt} dog", spelt), expected)
    for number in range(3):  # each vector acts, in the prompt and in the negative one
        vectors = {
            encoder: torch.where(torch.arange(3)[:, None] == number, -rows, rows)
            for encoder, rows in concept.tokens["EasyNeg"].vectors.items()
        }
        with Concept({"EasyNeg": ModifierToken(vectors)}).apply(pipeline):
            changed = embedded(pipeline, "a EasyNeg dog", "EasyNeg")
        assert all((one - other).abs().max() > 0.01 for one, other in zip(changed, expected, strict=True))


def test_pipelines_made_from_one_with_a_concept_read_its_words_too(sd: Any) -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    with Concept(make_words(sd, ["EasyNeg"], vectors=2)).apply(sd):
        other = StableDiffusionImg2ImgPipeline.from_pipe(sd)
        assert torch.equal(embedded(other, "an EasyNeg"), embedded(sd, "an easyneg"))
        assert len(sd.tokenizer("an EasyNeg").input_ids) == len(sd.tokenizer.encode("an")) + 2
        copied = copy.deepcopy(sd.tokenizer)
    assert copied.tokenize("an EasyNeg") != sd.tokenizer.tokenize("an EasyNeg")
    assert type(copied).__name__ == type(sd.tokenizer).__name__


def test_words_that_diffusers_would_take_for_vectors_of_one_are_refused(sd: Any) -> None:
    two = [(Concept(make_words(sd, [word])), 1.0) for word in ("rex", "Rex_1")]
    for pairs in (two, two[::-1]):
        with pytest.raises(sc.SamecastError, match=r"rex and Rex_1 cannot be in one model.*--rename 'Rex_1=<other>'"):
            apply_concepts(sd, pairs)
    with Concept(make_words(sd, ["rex_1", "rex2"])).apply(sd):  # without the first there is nothing to mix up
        pass


@pytest.fixture(scope="module")
def backbone(tiny_pipeline_dir: Path) -> Any:
    return load_backbone(tiny_pipeline_dir, device="cpu")


def test_masks_are_looked_for_where_the_prompt_says_the_word(backbone: Any) -> None:
    concept = Concept(make_words(backbone.pipeline, ["EasyNeg"], vectors=2) | make_words(backbone.pipeline, ["sks"]))
    with concept.apply(backbone):
        assert backbone.find_words("a EASYNEG, easyneg", "EasyNeg") == (2, 3, 5, 6)
        assert backbone.find_words("asksome sks", "SKS") == (8,)
        assert backbone.find_words("a EasyNeg dog", "easyneg dog") == (2, 3, 4, 5, 6)
        with pytest.raises(sc.SamecastError, match="is not in the prompt"):
            backbone.find_words("asksome", "sks")
        with pytest.raises(sc.SamecastError, match=r"has 152 tokens"):
            backbone.encode_prompts(["EasyNeg " * 76])


def test_a_render_knows_which_words_its_prompts_say(backbone: Any) -> None:
    model = sc.Model(backbone)

    def data(*prompts: str, **more: Any) -> list[str]:
        out = model.render(
            None, prompts, rules=(), settings=sc.RenderSettings(num_inference_steps=2, init="noise", **more)
        )
        return [warning for warning in out.warnings if "concept" in warning]

    with Concept(make_words(backbone.pipeline, ["<Rex>", "sks"])).apply(backbone):
        assert data("a <rex> and SKS") == []
        assert data("a dog", negative_prompt="<REX>, sks") == []
        assert data("a <rex>, asksome") == ["no prompt says sks, the word of a concept that is applied"]
        assert data("<rex> sks <tom>") == ["<tom> in the prompt is no word of a concept that is applied"]


def test_merging_takes_words_in_capitals_with_all_their_vectors(backbone: Any) -> None:
    concepts = [
        make_concept(backbone.pipeline, words=("EasyRex",), vectors=2),
        make_concept(backbone.pipeline, words=("<Tom>",), noun="cat", seed=1),
    ]
    merged, report = merge(concepts, backbone)
    assert report.error < 1e-4
    assert merged.tokens["EasyRex"].length == 2
    with apply_concepts(backbone, [(merged, 1.0)]):
        rows = backbone.encode_prompts(["easyrex"])[0, 1:4].double()
    name = next(iter(merged.changes))
    wanted, held = (concept.changes[name].value.double() @ rows.T for concept in (concepts[0], merged))
    torch.testing.assert_close(held, wanted, rtol=0, atol=1e-3 * float(wanted.abs().max()))
