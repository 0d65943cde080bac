"""The type, and its own file."""

from pathlib import Path
from typing import Any

import pytest
import torch

from samecast import SamecastError
from samecast.concepts.concept import Base, Concept, LowRank, ModifierToken, Value
from tests.concepts.makers import make_concept, make_lora, same

NAME = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def test_a_file_holds_everything(sd: Any, tmp_path: Path) -> None:
    made = make_concept(sd, mode="crossattn", words=("<new1>", "<new2>"), vectors=2)
    made = Concept(
        made.tokens, {**made.changes, **make_lora(sd).changes}, Base("a/b", "sha256:1"), {"steps": 3, "ä": [1]}
    )
    loaded = Concept.load(made.save(tmp_path / "rex.safetensors"))
    assert same(loaded, made)
    assert (loaded.base, loaded.training) == (made.base, made.training)
    assert {word: token.class_noun for word, token in loaded.tokens.items()} == {"<new1>": "dog", "<new2>": "dog"}
    assert loaded.origin == str(tmp_path / "rex.safetensors")
    assert loaded.size == made.size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    made = Concept(changes={NAME: Value(torch.randn(4, 4).to(dtype))})
    loaded = Concept.load(made.save(tmp_path / "x"))
    assert same(loaded, made)
    assert loaded.changes[NAME].tensors()["value"].dtype == dtype


def test_saving_replaces_what_is_there(sd: Any, tmp_path: Path) -> None:
    one, two = make_concept(sd), make_concept(sd, seed=1)
    one.save(tmp_path / "rex.safetensors")
    assert same(Concept.load(two.save(tmp_path / "rex.safetensors")), two)


def test_views_and_shared_memory_can_be_saved(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    made = Concept({"<a>": ModifierToken({"text_encoder": whole[:1]})}, {NAME: Value(whole.T)})
    assert same(Concept.load(made.save(tmp_path / "x.safetensors")), made)


def test_a_revision_tells_numbers_words_and_scales_apart() -> None:
    up, down = torch.randn(4, 2), torch.randn(2, 4)
    concepts = [
        Concept(changes={NAME: LowRank(up, down)}),
        Concept(changes={NAME: LowRank(up, down, 4.0)}),
        Concept(changes={NAME: LowRank(up, down + 1e-6)}),
        Concept(changes={NAME.replace("to_k", "to_v"): LowRank(up, down)}),
        Concept({"<a>": ModifierToken({"text_encoder": up[:1]})}, {NAME: LowRank(up, down)}),
    ]
    assert len({concept.revision for concept in concepts}) == len(concepts)
    # No scale and a scale of 1 are the same.
    assert concepts[0].revision == Concept(changes={NAME: LowRank(up, down, 2.0)}).revision


def test_words_can_be_renamed(sd: Any) -> None:
    concept = make_concept(sd, words=("<new1>", "<new2>"))
    renamed = concept.rename({"<new1>": "<rex>"})
    assert list(renamed.tokens) == ["<rex>", "<new2>"]
    assert renamed.tokens["<rex>"] is concept.tokens["<new1>"]
    with pytest.raises(SamecastError, match="has no token <other>"):
        concept.rename({"<other>": "<x>"})
    with pytest.raises(SamecastError, match="have the same word"):
        concept.rename({"<new1>": "<new2>"})


def one(shape: tuple[int, ...] = (1, 4)) -> dict[str, torch.Tensor]:
    return {"text_encoder": torch.ones(shape)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs at least one"),
        ({"tokens": {"two words": ModifierToken(one())}}, "cannot be a modifier token"),
        ({"tokens": {"a/b": ModifierToken(one())}}, "cannot be a modifier token"),
        ({"tokens": {"<a>": ModifierToken(one((4,)))}}, "shape"),
        ({"tokens": {"<a>": ModifierToken(one((76, 4)))}}, "1 to 75 vectors"),
        ({"tokens": {"<a>": ModifierToken({})}}, "expected text_encoder"),
        ({"tokens": {"<a>": ModifierToken({"text_encoder_2": torch.ones(1, 4)})}}, "expected text_encoder"),
        ({"tokens": {"<a>": ModifierToken({**one(), "text_encoder_2": torch.ones(2, 4)})}}, "more vectors in one"),
        (
            {
                "tokens": {
                    "<a>": ModifierToken(one()),
                    "<b>": ModifierToken({**one(), "text_encoder_2": torch.ones(1, 4)}),
                }
            },
            "different models",
        ),
        ({"tokens": {"<a>": ModifierToken(one()), "<b>": ModifierToken(one((1, 6)))}}, "of 4 and 6 channels"),
        ({"changes": {NAME: Value(torch.full((2, 2), 1e5))}}, "values up to 1e\\+05"),
        ({"tokens": {"<a>": ModifierToken({"text_encoder": torch.full((1, 4), -1e9)})}}, "values up to 1e\\+09"),
        (
            {"changes": {NAME: LowRank(torch.ones(4, 2), torch.ones(2, 4), 1e5)}},
            "with alpha 100000.0 at rank 2, reaches up",
        ),
        ({"changes": {"vae.encoder.weight": Value(torch.ones(2, 2))}}, "not a parameter of a"),
        ({"changes": {"unet.__class__": Value(torch.ones(2, 2))}}, "not a parameter of a"),
        ({"changes": {NAME: Value(torch.full((2, 2), float("nan")))}}, "4 values that are NaN or infinite"),
        ({"changes": {NAME: Value(torch.ones(2, 2, dtype=torch.int64))}}, "holds int64"),
        ({"changes": {NAME: Value(torch.ones(0, 2))}}, "is empty"),
        ({"changes": {NAME: LowRank(torch.ones(4, 2), torch.ones(3, 4))}}, "product is not defined"),
        ({"changes": {NAME: LowRank(torch.ones(4, 2), torch.ones(2, 4), float("inf"))}}, "expected a number between"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SamecastError, match=message):
        Concept(**arguments)
