"""What we write takes effect in stock diffusers: its pictures are those of the concept applied by us.

Tolerance: two levels of 255; keys and values are the same, sums are taken in another order.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from samecast.concepts.compress import compress
from samecast.concepts.concept import Concept, LowRank
from samecast.concepts.formats import write_concept
from samecast.concepts.formats.writing import Format
from samecast.models.quiet import quiet_libraries
from tests.concepts.conftest import load
from tests.concepts.makers import make_concept, make_lora, make_words, paint

PROMPT = "a <new1> dog"
CLOSE = 2.0


@pytest.fixture
def stock(request: pytest.FixtureRequest, pipeline: Any) -> Any:
    """A second pipeline of the same weights, which stock diffusers may change."""
    directory = "tiny_xl_dir" if hasattr(pipeline, "tokenizer_2") else "tiny_pipeline_dir"
    return load(request.getfixturevalue(directory))


def load_words(stock: Any, folder: Path) -> None:
    """As docs/concepts.md says it is done."""
    for file in sorted(folder.glob("<*.safetensors")):
        tensors = load_file(file)
        if "clip_g" in tensors:
            for key, number in (("clip_l", ""), ("clip_g", "_2")):
                encoder, tokenizer = getattr(stock, f"text_encoder{number}"), getattr(stock, f"tokenizer{number}")
                stock.load_textual_inversion(tensors[key], token=file.stem, text_encoder=encoder, tokenizer=tokenizer)
        else:
            stock.load_textual_inversion(str(folder), weight_name=file.name)


def check(ours: np.ndarray, theirs: np.ndarray, plain: np.ndarray) -> None:
    assert np.abs(ours - plain).max() > 5 * CLOSE  # else anything would do
    assert np.abs(ours - theirs).max() < CLOSE


def test_textual_inversion_loads(pipeline: Any, stock: Any, tmp_path: Path) -> None:
    concept = Concept(make_words(pipeline, ["<new1>"], vectors=3))
    plain = paint(pipeline, PROMPT)
    with concept.apply(pipeline):
        ours = paint(pipeline, PROMPT)
    load_words(stock, write_concept(concept, tmp_path / "ti", "textual-inversion"))
    check(ours, paint(stock, PROMPT), plain)


def test_a1111s_own_layout_loads(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    concept, stock = Concept(make_words(sd, ["<new1>"], vectors=3)), load(tiny_pipeline_dir)
    plain = paint(sd, PROMPT)
    with concept.apply(sd):
        ours = paint(sd, PROMPT)
    place = write_concept(concept, tmp_path / "rex.pt", "a1111")
    stock.load_textual_inversion(str(place.parent), weight_name=place.name, token="<new1>")
    check(ours, paint(stock, PROMPT), plain)


@pytest.mark.parametrize("to", ["peft", "kohya"])
def test_keys_and_values_load_as_lora(pipeline: Any, stock: Any, to: Format, tmp_path: Path) -> None:
    concept = make_concept(pipeline)
    plain = paint(pipeline, PROMPT)
    small, _ = compress(concept, pipeline, keep=0.9)
    names = sorted(small.changes)[::3]  # of other ranks than the rest, which not every loader takes care of
    cut = {name: LowRank(small.changes[name].up[:, :3], small.changes[name].down[:3]) for name in names}
    small = Concept(small.tokens, {**small.changes, **cut}, small.base)
    with small.apply(pipeline):
        ours = paint(pipeline, PROMPT)
    folder = write_concept(small, tmp_path / "lora", to)
    (weights,) = (file.name for file in folder.iterdir() if not file.name.startswith("<"))
    with quiet_libraries():
        stock.load_lora_weights(str(folder), weight_name=weights)
    load_words(stock, folder)
    check(ours, paint(stock, PROMPT), plain)


@pytest.mark.parametrize("to", ["peft", "kohya"])
def test_lora_of_everything_loads_with_its_scale(pipeline: Any, stock: Any, to: Format, tmp_path: Path) -> None:
    lora = make_lora(pipeline, alpha=1.5)
    plain = paint(pipeline, "a dog")
    with lora.apply(pipeline):
        ours = paint(pipeline, "a dog")
    place = write_concept(lora, tmp_path / "lora.safetensors", to)
    with quiet_libraries():
        stock.load_lora_weights(str(place.parent), weight_name=place.name)
    check(ours, paint(stock, "a dog"), plain)


@pytest.mark.parametrize("mode", ["kv", "crossattn"])
def test_custom_diffusion_loads(pipeline: Any, stock: Any, mode: Any, tmp_path: Path) -> None:
    concept = make_concept(pipeline, mode=mode)
    plain = paint(pipeline, PROMPT)
    with concept.apply(pipeline):
        ours = paint(pipeline, PROMPT)
    folder = write_concept(concept, tmp_path / "cd", "diffusers")
    name = "pytorch_custom_diffusion_weights.safetensors"
    stock.unet.load_attn_procs(str(folder), weight_name=name, _pipeline=stock)
    load_words(stock, folder)
    check(ours, paint(stock, PROMPT), plain)


def test_diffusers_loader_still_needs_the_pipeline(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    """When this fails, docs/concepts.md can drop `_pipeline`."""
    stock = load(tiny_pipeline_dir)
    folder = write_concept(make_concept(sd), tmp_path / "cd", "diffusers")
    stock.unet.load_attn_procs(str(folder), weight_name="pytorch_custom_diffusion_weights.safetensors")
    assert "CustomDiffusionAttnProcessor" not in {type(p).__name__ for p in stock.unet.attn_processors.values()}


def test_what_diffusers_itself_has_saved_is_read(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    concept, stock = make_concept(sd, mode="crossattn"), load(tiny_pipeline_dir)
    folder = write_concept(concept, tmp_path / "cd", "diffusers")
    name = "pytorch_custom_diffusion_weights.safetensors"
    stock.unet.load_attn_procs(str(folder), weight_name=name, _pipeline=stock)
    with quiet_libraries():
        for safe in (True, False):
            stock.unet.save_attn_procs(str(tmp_path / str(safe)), safe_serialization=safe)
            from samecast.concepts.formats import read_concept

            again = read_concept(tmp_path / str(safe), pickles=True)
            assert again.changes.keys() == concept.changes.keys()
            assert all(torch.equal(again.changes[n].value, c.value) for n, c in concept.changes.items())


def test_what_diffusers_saves_of_a_lora_is_read(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    stock = load(tiny_pipeline_dir)
    torch.manual_seed(0)
    stock.unet.add_adapter(LoraConfig(r=3, lora_alpha=7, target_modules=["to_k", "to_v"], init_lora_weights=False))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(stock.unet))
    config = stock.unet.peft_config["default"].to_dict()
    stock.save_lora_weights(tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config)
    concept = Concept.load(tmp_path)
    with concept.apply(sd):
        ours = paint(sd, "a dog")
    check(ours, paint(stock, "a dog"), paint(sd, "a dog"))
