"""Other architectures are refused by name; those of the family are read however a tool has wrapped the model."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from samecast import SamecastError
from samecast.cli import main
from samecast.concepts.architectures import architecture_of, other_architecture
from samecast.concepts.concept import Concept, LowRank
from samecast.concepts.formats import read_concept, write_concept
from samecast.concepts.parameters import is_parameter
from tests.concepts.makers import make_concept, make_lora, make_words

UP, DOWN = torch.ones(4, 2), torch.ones(2, 4)

OTHERS: dict[str, tuple[str, ...]] = {
    "FLUX": (
        "lora_unet_double_blocks_0_img_attn_qkv",
        "lora_unet_single_blocks_3_linear1",
        "diffusion_model.double_blocks.0.img_mlp.0",
        "transformer.single_transformer_blocks.0.attn.to_q",
        "base_model.model.single_transformer_blocks.0.proj_mlp",
        "lora_transformer_single_transformer_blocks_0_attn_to_k",
        "double_blocks.0.processor.qkv_lora1",
    ),
    "Stable Diffusion 3": (
        "lora_unet_joint_blocks_0_x_block_attn_qkv",
        "transformer.transformer_blocks.0.attn.add_k_proj",
        "diffusion_model.joint_blocks.3.context_block.mlp.fc1",
        "base_model.model.transformer_blocks.0.attn.to_q",
    ),
    "Wan": (
        "lora_unet_blocks_0_cross_attn_k",
        "diffusion_model.blocks.0.self_attn.q",
        "blocks.10.cross_attn.v_img",
        "transformer.blocks.0.attn1.to_q",
        "base_model.model.blocks.0.ffn.0",
    ),
    "Lumina 2": (
        "diffusion_model.layers.0.attention.qkv",
        "lora_unet_layers_0_attention_out",
        "transformer.noise_refiner.0.attn.to_q",
        "lora_unet_layers_3_feed_forward_w1",
    ),
    "Z-Image": ("diffusion_model.layers.0.attention.to_q", "lora_unet_layers_0_adaLN_modulation_0"),
    "Qwen-Image": (
        "transformer.transformer_blocks.0.img_mlp.net.0.proj",
        "lora_unet_transformer_blocks_0_txt_mod_1",
        "transformer_blocks.59.attn.to_q",
        "base_model.model.transformer_blocks.45.attn.add_q_proj",
    ),
    "HunyuanVideo": (
        "double_blocks.0.img_attn_qkv",
        "lora_unet_double_blocks_0_img_mlp_fc1",
        "lora_unet_single_blocks_0_modulation_linear",
        "diffusion_model.txt_in.individual_token_refiner.blocks.0.mlp.fc1",
        "transformer.single_transformer_blocks.0.attn.to_q",
    ),
    "PixArt": (
        "base_model.model.transformer_blocks.0.attn1.to_q",
        "transformer.transformer_blocks.27.attn2.to_out.0",
        "lora_unet_transformer_blocks_0_attn1_to_k",
        "blocks.0.cross_attn.kv_linear",
        "lora_unet_blocks_0_attn_qkv",
    ),
    "AuraFlow": ("lora_unet_double_layers_0_attn_w1q", "transformer.joint_transformer_blocks.0.attn.to_q"),
    "HiDream": ("diffusion_model.double_stream_blocks.0.block.attn1.to_q",),
    "HunyuanDiT": ("lora_unet_blocks_0_attn1_Wqkv",),
    "Chroma": ("lora_unet_distilled_guidance_layer_in_proj",),
    "Cosmos": ("diffusion_model.blocks.0.self_attn.q_proj", "lora_unet_blocks_0_cross_attn_k_proj"),
    "AnimateDiff": (
        "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q",
    ),
    "Stable Video Diffusion": ("unet.down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q",),
    "Stable Cascade": ("lora_prior_unet_down_blocks_0_2_attention_attn_in_proj",),
    "Kandinsky": ("unet.down_blocks.0.attentions.0.add_k_proj",),
    "T5": (
        "lora_te3_encoder_block_0_layer_0_SelfAttention_k",
        "text_encoder_3.encoder.block.0.layer.0.SelfAttention.k",
    ),
}
UNKNOWN = (
    "unet.nonsense.0.to_q",
    "lora_unet_down_blocks_0_attentions_0_nonsense",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn3.to_q",
    "lora_unet_input_blocks_4_7_transformer_blocks_0_attn1_to_qq",
    "lora_te_text_model_encoder_layers_0_self_attn_to_q",
    "base_model.model.model.layers.0.self_attn.q_proj",
    "text_encoder.unet.down_blocks.0.resnets.0.conv1",
    "vae.decoder.conv_in",
    "unet.unet.unet.x",
)
SPELLINGS = {"peft": ("lora_A", "lora_B"), "kohya": ("lora_down", "lora_up")}


def lora(layer: str) -> dict[str, torch.Tensor]:
    down, up = SPELLINGS["kohya" if layer.startswith("lora_") else "peft"]
    if "processor" in layer:
        return {f"{layer}.down.weight": DOWN, f"{layer}.up.weight": UP}
    return {f"{layer}.{down}.weight": DOWN, f"{layer}.{up}.weight": UP}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in OTHERS.items() for layer in layers])
def test_other_architectures_are_named(
    name: str, layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(lora(layer), "x.safetensors")
    render = ["render", "a dog", "--method", "none", "--init", "noise", "--steps", "2", "--out", "out"]
    for words in (
        ["concept", "show", "x.safetensors"],
        ["concept", "convert", "x.safetensors"],
        [*render, "--lora", "x.safetensors"],
        [*render, "--concept", "x.safetensors"],
    ):
        line = refused(words, capsys)
        assert re.search(
            rf"it belongs to .*{name}.*; samecast supports concepts of Stable Diffusion 1.x, 2.x and XL", line
        ), line
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("layer", UNKNOWN)
def test_unknown_layers_are_refused_by_name(layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(lora(layer), tmp_path / "x.safetensors")
    line = refused(["concept", "convert", str(tmp_path / "x.safetensors"), "--out", str(tmp_path / "o")], capsys)
    assert layer in line
    assert "names no layer" in line or "is not a layer" in line
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("layer", ["nonsense.0.to_q", "double_blocks.0.img_attn.qkv", "../../etc"])
def test_deltas_of_unknown_layers_are_refused_too(layer: str, tmp_path: Path) -> None:
    torch.save({"unet": {f"{layer}.weight": torch.ones(4, 4)}}, tmp_path / "delta.bin")
    with pytest.raises(SamecastError, match="not a parameter of a Stable Diffusion pipeline"):
        read_concept(tmp_path / "delta.bin", pickles=True)
    whole = {f"{layer}.attn2.processor.to_k_custom_diffusion.weight": torch.ones(4, 4)}
    torch.save(whole, tmp_path / "cd.bin")
    with pytest.raises(SamecastError, match=r"not a parameter of a|it belongs to FLUX"):
        read_concept(tmp_path / "cd.bin", pickles=True)


MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "encoder.layers.0.self_attn.q_proj"
WRAPPED = {
    MIDDLE: (
        "unet.{}",
        "{}",
        "unet.base_model.model.{}",
        "unet.unet.{}",
        "unet.module.{}",
        "module.unet.{}",
        "base_model.model.{}",
        "base_model.model.unet.{}",
        "diffusion_model.{}",
        "model.diffusion_model.{}",
        "unet._orig_mod.{}",
        "unet._fsdp_wrapped_module.{}",
        "unet.module._orig_mod.base_model.model.{}",
        "pipe.unet.{}",
        "lora_unet_{_}",
        "lora_unet_unet_{_}",
        "lora_unet_base_model_model_{_}",
        "lora_unet.{}",
        "unet.mid_block._checkpoint_wrapped_module.attentions.0.transformer_blocks.0.attn1.to_q",
        "unet.mid_block.attentions.0._checkpoint_wrapped_module.transformer_blocks.0.attn1.to_q",
        "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q",
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q",
    ),
    TEXT: (
        "text_encoder.{}",
        "text_encoder.text_model.{}",
        "text_encoder.base_model.model.text_model.{}",
        "text_encoder.module.text_model.{}",
        "base_model.model.text_model.{}",
        "base_model.model.{}",
        "text_encoders.clip_l.transformer.text_model.{}",
        "cond_stage_model.transformer.text_model.{}",
        "lora_te_text_model_{_}",
        "lora_te1_text_model_{_}",
    ),
}


@pytest.mark.parametrize(("path", "spelling"), [(path, each) for path, all_ in WRAPPED.items() for each in all_])
def test_known_wrappers_are_taken_off(path: str, spelling: str, tmp_path: Path) -> None:
    layer = spelling.replace("{_}", path.replace(".", "_")).replace("{}", path)
    save_file(lora(layer), tmp_path / "x.safetensors")
    concept = read_concept(tmp_path / "x.safetensors", pickles=False)
    assert list(concept.changes) == [f"{'unet' if path == MIDDLE else 'text_encoder'}.{path}.weight"]


@pytest.mark.parametrize("wrapper", ["", "module.", "unet.", "base_model.model.", "_orig_mod.", "diffusion_model."])
def test_known_wrappers_are_taken_off_in_custom_diffusions_files_too(wrapper: str, tmp_path: Path) -> None:
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2"
    torch.save({"unet": {f"{wrapper}{layer}.to_k.weight": torch.ones(4, 4)}}, tmp_path / "delta.bin")
    whole = {f"{wrapper}{layer}.processor.to_out_custom_diffusion.0.bias": torch.ones(4)}
    torch.save(whole, tmp_path / "cd.bin")
    state = {f"{wrapper}middle_block.1.transformer_blocks.0.attn2.to_v.weight": torch.ones(4, 4)}
    torch.save({"state_dict": state}, tmp_path / "delta.ckpt")
    found = [
        list(read_concept(tmp_path / name, pickles=True).changes) for name in ("delta.bin", "cd.bin", "delta.ckpt")
    ]
    assert found == [[f"unet.{layer}.{end}"] for end in ("to_k.weight", "to_out.0.bias", "to_v.weight")]


OLD = {
    "{}.processor.to_k_lora.{}.weight": "unet.{}.to_k.weight",
    "unet.{}.processor.to_out_lora.{}.weight": "unet.{}.to_out.0.weight",
    "unet.{}.to_q.lora.{}.weight": "unet.{}.to_q.weight",
    "unet.{}.to_v.lora_linear_layer.{}.weight": "unet.{}.to_v.weight",
}


@pytest.mark.parametrize("spelling", OLD)
def test_old_diffusers_keys_are_read_with_their_alphas(spelling: str, tmp_path: Path) -> None:
    layer = MIDDLE.removesuffix(".to_q")
    tensors = {spelling.format(layer, "up"): UP, spelling.format(layer, "down"): DOWN}
    alpha = spelling.format(layer, "alpha").removesuffix(".weight")
    save_file({**tensors, alpha: torch.tensor([3.0])}, tmp_path / "x.safetensors")
    ((name, change),) = read_concept(tmp_path / "x.safetensors", pickles=False).changes.items()
    assert name == OLD[spelling].format(layer)
    assert isinstance(change, LowRank)
    assert change.scale == 1.5


def test_every_parameter_of_the_family_has_its_name(pipeline: Any) -> None:
    names = [
        f"{part}.{name}"
        for part in ("unet", "text_encoder", "text_encoder_2")
        if hasattr(pipeline, part)
        for name, _ in getattr(pipeline, part).named_parameters()
    ]
    assert len(names) > 300
    assert all(map(is_parameter, names))
    assert not any(is_parameter(f"{name}.weight") or is_parameter(f"unet.{name}") for name in names)


def test_files_of_the_family_are_of_no_other_architecture(pipeline: Any, tmp_path: Path) -> None:
    paths = [path for path, _ in pipeline.unet.named_modules()] + [
        path for path, _ in pipeline.text_encoder.named_modules()
    ]
    spelt = [*paths, *(f"unet.{path}" for path in paths), *(f"lora_unet_{path.replace('.', '_')}" for path in paths)]
    assert other_architecture(spelt) == ""
    concept = make_lora(pipeline)
    for to in ("peft", "kohya"):
        assert (
            read_concept(write_concept(concept, tmp_path / to, to), pickles=False).changes.keys()
            == concept.changes.keys()
        )


def test_show_names_the_architecture(sd: Any, xl: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(layer: str, width: int) -> str:
        pair = {f"{layer}.lora_down.weight": torch.ones(2, width), f"{layer}.lora_up.weight": torch.ones(8, 2)}
        save_file(pair, tmp_path / "x.safetensors")
        assert main(["concept", "show", str(tmp_path / "x.safetensors")]) == 0
        return capsys.readouterr().out

    middle = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn"
    expected = {
        (f"{middle}2_to_k", 768): "Stable Diffusion 1.x",
        (f"{middle}2_to_v", 1024): "Stable Diffusion 2.x",
        (f"{middle}2_to_k", 2048): "Stable Diffusion XL",
        (f"{middle}1_to_k", 640): "Stable Diffusion 1.x or 2.x",
        (f"{middle}2_to_k", 96): "of the Stable Diffusion family, with text embeddings of 96 channels",
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 768): "Stable Diffusion XL",
        (middle.replace("blocks_0", "blocks_7") + "1_to_k", 640): "Stable Diffusion XL",
    }
    for (layer, width), name in expected.items():
        assert re.search(rf"^architecture +{name}$", shown(layer, width), re.MULTILINE)
    assert architecture_of(make_concept(xl)) == "Stable Diffusion XL"
    assert architecture_of(Concept(make_words(sd, ["<rex>"]))).endswith("with text embeddings of 32 channels")
