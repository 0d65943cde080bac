"""Other tools' files: what is written is read back to the bit, whatever the file is called."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from samecast import SamecastError
from samecast.concepts.compress import compress
from samecast.concepts.concept import Base, Concept, LowRank, Value
from samecast.concepts.formats import describe_format, read_concept, write_concept
from samecast.concepts.formats.names import split_underscores, to_compvis, to_diffusers
from samecast.concepts.formats.writing import Format
from tests.concepts.makers import make_concept, make_lora, make_words, same


def saved(data: Any, path: Path) -> Path:
    torch.save(data, path)
    return path


def read(path: Path, **more: Any) -> Concept:
    return read_concept(path, pickles=True, **more)


def kv_layer(pipeline: Any) -> tuple[str, torch.Tensor]:
    name = next(name for name, _ in pipeline.unet.named_parameters() if name.endswith("attn2.to_k.weight"))
    return name, pipeline.unet.get_parameter(name).detach()


@pytest.mark.parametrize("to", ["samecast", "official", "diffusers"])
@pytest.mark.parametrize("mode", ["kv", "crossattn"])
def test_custom_diffusion_comes_back(pipeline: Any, to: Format, mode: Any, tmp_path: Path) -> None:
    concept = make_concept(pipeline, mode=mode, words=("<new1>", "<new2>"))
    place = write_concept(concept, tmp_path / "out", to)
    read_again = read(place)
    if to == "diffusers" and hasattr(pipeline, "tokenizer_2"):  # its pairs do not say their word, their files do
        assert sorted(read_again.tokens) == ["<new1>", "<new2>"]
    assert same(read_again, concept)
    assert read_again.base.family == concept.base.family


def test_compvis_comes_back(sd: Any, tmp_path: Path) -> None:
    concept = make_concept(sd, mode="crossattn", words=("<new1>", "<new2>"))
    assert same(read(write_concept(concept, tmp_path / "delta.ckpt", "compvis")), concept)


@pytest.mark.parametrize("to", ["official", "compvis"])
def test_compressed_concepts_come_back(sd: Any, to: Format, tmp_path: Path) -> None:
    concept, _ = compress(make_concept(sd), sd, keep=0.5)
    place = write_concept(concept, tmp_path / "delta.bin", to)
    assert same(read(place), concept)
    first = next(iter(torch.load(place, weights_only=True)["unet" if to == "official" else "state_dict"].values()))
    assert set(first) == {"u", "v"}


@pytest.mark.parametrize("to", ["peft", "kohya"])
@pytest.mark.parametrize("alpha", [None, 1.0, 6.0])
def test_lora_comes_back(pipeline: Any, to: Format, alpha: float | None, tmp_path: Path) -> None:
    lora = make_lora(pipeline, alpha=alpha)
    read_again = read(write_concept(lora, tmp_path / "lora.safetensors", to))
    if to == "peft" or alpha is None:
        assert same(read_again, lora)
    for name, change in lora.changes.items():  # kohya's has the scale in up
        shape = torch.Size((change.up.shape[0], change.down.flatten(1).shape[1]))
        torch.testing.assert_close(read_again.changes[name].difference(shape), change.difference(shape))
    assert read_again.changes.keys() == lora.changes.keys()
    assert read_again.base.family == lora.base.family


@pytest.mark.parametrize("vectors", [1, 4])
def test_textual_inversion_comes_back(pipeline: Any, vectors: int, tmp_path: Path) -> None:
    concept = Concept(make_words(pipeline, ["<rex>"], vectors=vectors))
    assert same(read(write_concept(concept, tmp_path / "<rex>.safetensors", "textual-inversion")), concept)
    several = Concept(make_words(pipeline, ["<rex>", "<tom>"], vectors=vectors))
    assert same(read(write_concept(several, tmp_path / "both", "textual-inversion")), several)
    if len(concept.tokens["<rex>"].vectors) == 1:
        assert same(read(write_concept(several, tmp_path / "a1111", "a1111")), several)
    else:
        with pytest.raises(SamecastError, match="choose textual-inversion"):
            write_concept(several, tmp_path / "a1111", "a1111")


@pytest.mark.parametrize("to", ["textual-inversion", "diffusers", "peft", "kohya"])
def test_what_a_format_has_no_place_for_comes_back_too(pipeline: Any, to: Format, tmp_path: Path) -> None:
    whole = make_concept(pipeline, words=("<rex>",), noun="corgi")
    concept = replace(whole, base=Base("some/model", "sha256:1", whole.base.family))
    if to in ("peft", "kohya"):
        concept, _ = compress(concept, pipeline, keep=1.0)
    elif to == "textual-inversion":
        concept = replace(concept, changes={})
    place = write_concept(concept, tmp_path / ("other.safetensors" if to == "textual-inversion" else "out"), to)
    read_again = read(place)
    assert same(read_again, concept)
    assert list(read_again.tokens) == ["<rex>"]
    assert read_again.tokens["<rex>"].class_noun == "corgi"
    assert read_again.base == concept.base


def test_a_word_does_not_take_the_place_of_the_weights(sd: Any, tmp_path: Path) -> None:
    whole = make_concept(sd, words=("lora", "pytorch_lora_weights", "pytorch_custom_diffusion_weights"))
    small, _ = compress(whole, sd)
    for concept, to in ((small, "kohya"), (small, "peft"), (whole, "diffusers")):
        with pytest.raises(SamecastError, match="would replace the weights"):
            write_concept(concept, tmp_path / "out", to)  # pyright: ignore[reportArgumentType]


def test_pairs_in_two_files_are_read(xl: Any, tmp_path: Path) -> None:
    concept = Concept(make_words(xl, ["<rex>"]), base=Base(family="xl"))
    for encoder, name in (("text_encoder", "learned_embeds"), ("text_encoder_2", "learned_embeds_2")):
        save_file({"<rex>": concept.tokens["<rex>"].vectors[encoder]}, tmp_path / f"{name}.safetensors")
    read_again = read(tmp_path)
    assert same(read_again, concept)
    assert read_again.base.family == "xl"


def test_a_word_may_be_called_anything(tmp_path: Path) -> None:
    for word in ("lora_style", "hada_", "my_lora_word", "my.lora_style", "a.diffuse"):
        assert list(read(saved({word: torch.ones(8)}, tmp_path / f"{word}.bin")).tokens) == [word]


def test_biases_are_told_to_be_no_lora(sd: Any, tmp_path: Path) -> None:
    small, _ = compress(make_concept(sd, mode="crossattn"), sd, keep=1.0)
    with pytest.raises(SamecastError, match=r"not a matrix.*--mode kv can be LoRA"):
        write_concept(small, tmp_path / "lora", "peft")


def test_lora_export_carries_the_words_beside_it(pipeline: Any, tmp_path: Path) -> None:
    concept, _ = compress(make_concept(pipeline), pipeline, keep=0.5)
    for to in ("peft", "kohya"):
        place = write_concept(concept, tmp_path / to, to)
        assert len(list(place.iterdir())) == 2
        assert same(read(place), concept)


def test_the_official_layout_is_read(sd: Any, tmp_path: Path) -> None:
    name, weight = kv_layer(sd)
    plain = {"unet": {name: weight + 1}, "modifier_token": {"<new1>": torch.ones(32)}}
    concept = read(saved(plain, tmp_path / "delta.bin"))
    assert torch.equal(concept.changes[f"unet.{name}"].value, weight + 1)
    assert concept.tokens["<new1>"].vectors["text_encoder"].shape == (1, 32)
    up, down = torch.randn(weight.shape[0], 2), torch.randn(2, weight.shape[1])
    change = read(saved({"unet": {name: {"u": up, "v": down}}}, tmp_path / "c")).changes[f"unet.{name}"]
    torch.testing.assert_close(change.difference(weight.shape), up @ down)
    pair = {"unet": {name: weight}, "modifier_token": {"<new1>": [torch.ones(32), torch.ones(48)]}}
    xl = read(saved(pair, tmp_path / "xl.bin"))
    assert xl.base.family == "xl"
    assert xl.tokens["<new1>"].vectors["text_encoder_2"].shape == (1, 48)


def test_the_compvis_layout_is_read(tmp_path: Path) -> None:
    key = "model.diffusion_model.output_blocks.4.1.transformer_blocks.0.attn2.to_v.weight"
    data = {"state_dict": {key: torch.ones(4, 4), "embed": torch.stack([torch.ones(8), torch.zeros(8)])}}
    concept = read(saved(data, tmp_path / "delta.ckpt"))
    assert list(concept.tokens) == ["<new1>", "<new2>"]
    assert list(concept.changes) == ["unet.up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v.weight"]


def test_diffusers_own_files_are_read(tmp_path: Path) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0"
    data = {
        f"{layer}.attn1.processor": {},
        f"{layer}.attn2.processor.to_k_custom_diffusion.weight": torch.ones(4, 4),
        f"{layer}.attn2.processor.to_out_custom_diffusion.0.bias": torch.ones(4),
    }
    concept = read(saved(data, tmp_path / "pytorch_custom_diffusion_weights.bin"))
    assert set(concept.changes) == {f"unet.{layer}.attn2.to_k.weight", f"unet.{layer}.attn2.to_out.0.bias"}


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 8)])
def test_textual_inversions_of_all_tools_are_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    vectors = torch.randn(shape)
    both = {"clip_l": torch.randn(2, 8), "clip_g": torch.randn(2, 12)}
    a1111 = {"string_to_token": {"*": 265}, "string_to_param": {"*": vectors}, "name": "rex", "step": 10, "sd": None}
    files = {
        "<one>": saved({"<one>": vectors}, tmp_path / "learned_embeds.bin"),
        "rex": saved(a1111, tmp_path / "some.pt"),
        "stem": saved({"emb_params": vectors}, tmp_path / "stem.pt"),
        "plain": saved(vectors, tmp_path / "plain.bin"),
        "param": saved({"<param>": torch.nn.Parameter(vectors)}, tmp_path / "param.bin"),
    }
    for word, file in files.items():
        concept = read(file)
        ((found, token),) = concept.tokens.items()
        assert found.strip("<>") == word.strip("<>")
        assert torch.equal(token.vectors["text_encoder"], vectors.reshape(-1, 8))
    save_file(both, tmp_path / "pair.safetensors")
    pair = read(tmp_path / "pair.safetensors", word="<pair>").tokens["<pair>"]
    assert torch.equal(pair.vectors["text_encoder_2"], both["clip_g"])


SPELLINGS = {
    "unet.{}.lora_A.weight": "unet.{}.lora_B.weight",
    "unet.{}.lora_A.default.weight": "unet.{}.lora_B.default.weight",
    "unet.{}.lora.down.weight": "unet.{}.lora.up.weight",
    "unet.{}.processor.to_k_lora.down.weight": "unet.{}.processor.to_k_lora.up.weight",
}


@pytest.mark.parametrize(("down", "up"), SPELLINGS.items())
def test_loras_of_all_spellings_are_read(down: str, up: str, tmp_path: Path) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2"
    path = layer if "processor" in down else f"{layer}.to_k"
    pair = {down.format(path): torch.ones(2, 4), up.format(path): torch.ones(6, 2)}
    save_file(pair, tmp_path / "x")
    assert list(read(tmp_path / "x").changes) == [f"unet.{layer}.to_k.weight"]


def test_the_name_of_a_file_does_not_matter(sd: Any, tmp_path: Path) -> None:
    concept = make_concept(sd)
    official = write_concept(concept, tmp_path / "delta.bin", "official").rename(tmp_path / "rex.safetensors")
    own = concept.save(tmp_path / "rex.ckpt")
    assert same(read(official), concept)
    assert same(Concept.load(own), concept)
    assert describe_format(official, pickles=True) == "Custom Diffusion's delta.bin"


def test_nothing_but_official_and_compvis_is_a_pickle(sd: Any, tmp_path: Path) -> None:
    concept = make_concept(sd)
    small, _ = compress(concept, sd)
    for to in ("samecast", "diffusers", "textual-inversion"):
        place = write_concept(concept, tmp_path / to, to)
        assert all(load_file(file) for file in place.iterdir())
    for to in ("peft", "kohya"):
        assert all(load_file(file) for file in write_concept(small, tmp_path / to, to).iterdir())
    data = write_concept(concept, tmp_path / "delta.bin", "official").read_bytes()
    assert set(torch.load(io.BytesIO(data), weights_only=True)) == {"unet", "modifier_token"}


def test_what_is_there_is_left_alone(sd: Any, tmp_path: Path) -> None:
    first = write_concept(make_concept(sd), tmp_path / "a.safetensors")
    second = write_concept(make_concept(sd, seed=1), tmp_path / "a.safetensors")
    assert (first.name, second.name) == ("a.safetensors", "a-2.safetensors")


def test_formats_refuse_what_they_cannot_hold(sd: Any, xl: Any, tmp_path: Path) -> None:
    whole, lora = make_concept(sd), make_lora(sd)
    cases = [
        (whole, "peft", "give --model"),
        (whole, "kohya", "give --model"),
        (compress(whole, sd)[0], "diffusers", "give --model"),
        (lora, "official", "hold cross-attention alone"),
        (lora, "textual-inversion", "no modifier token"),
        (Concept(whole.tokens), "kohya", "changes no parameter"),
        (Concept(whole.tokens), "diffusers", "has no weights"),
        (make_concept(xl), "compvis", "two text encoders"),
        (make_concept(sd, vectors=2), "official", "one per token"),
    ]
    for concept, to, message in cases:
        with pytest.raises(SamecastError, match=message):
            write_concept(concept, tmp_path / "out", to)  # pyright: ignore[reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_names_of_layers_translate_both_ways(pipeline: Any) -> None:
    paths = [
        path for path, layer in pipeline.unet.named_modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]
    encoders = [path for path, layer in pipeline.text_encoder.named_modules() if isinstance(layer, torch.nn.Linear)]
    for path in paths + encoders:
        assert split_underscores(path.replace(".", "_")) == path
    attention = [path for path in paths if ".attentions." in path]
    assert len(attention) > 100
    assert [to_diffusers(to_compvis(path)) for path in attention] == attention
    assert all(to_diffusers(path) == path for path in paths)
    if hasattr(pipeline, "tokenizer_2"):
        assert [to_diffusers(to_compvis(path)) for path in paths] == paths
        assert len({to_compvis(path) for path in paths}) == len(paths)


def test_names_of_residual_blocks_are_read() -> None:
    names = {
        "input_blocks_1_0_in_layers_2": "down_blocks.0.resnets.0.conv1",
        "input_blocks_3_0_op": "down_blocks.0.downsamplers.0.conv",
        "middle_block_0_out_layers_3": "mid_block.resnets.0.conv2",
        "middle_block_2_emb_layers_1": "mid_block.resnets.1.time_emb_proj",
        "output_blocks_2_2_conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks_5_0_skip_connection": "up_blocks.1.resnets.2.conv_shortcut",
        "time_embed_0": "time_embedding.linear_1",
    }
    for theirs, ours in names.items():
        assert to_diffusers(split_underscores(theirs)) == ours


def test_a_concept_of_half_precision_comes_back_from_every_format(sd: Any, tmp_path: Path) -> None:
    concept = make_concept(sd)
    half = Concept(
        {word: type(t)({k: v.half() for k, v in t.vectors.items()}) for word, t in concept.tokens.items()},
        {name: Value(change.value.half()) for name, change in concept.changes.items()},
        Base(),
    )
    for to in ("samecast", "official", "compvis", "diffusers"):
        assert same(read(write_concept(half, tmp_path / to, to)), half)
    low = Concept(changes={name: LowRank(c.value[:, :2], c.value[:2]) for name, c in half.changes.items()})
    for to in ("peft", "kohya"):
        assert same(read(write_concept(low, tmp_path / to, to)), low)


def test_unknown_files_are_told_from_concepts(tmp_path: Path) -> None:
    with pytest.raises(SamecastError, match=re.escape("holds vae.encoder.weight")):
        read(saved({"vae.encoder.weight": torch.ones(2, 2)}, tmp_path / "x.bin"))
