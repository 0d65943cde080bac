"""LoRA files of all tools, as `--lora` and `--concept` read them: the weights that the file states, or one line.

The expected weights are computed here from the tensors that go into a file, layer by layer; where stock diffusers and
PEFT read a file rightly, the expected prediction is theirs.
"""

import copy
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import samecast as sc
from samecast.cli import main
from samecast.concepts.concept import Base, Concept, LowRank
from samecast.concepts.formats import read_concept, write_concept
from samecast.models.quiet import quiet_libraries
from tests.concepts.conftest import load

SELF, CROSS, CONV = ".attn1.to_q", ".attn2.to_k", ".conv1"
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1.to_k"


def layers(module: Any, ends: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    """Paths and weights of a module's layers with these ends."""
    return [
        (path, layer.weight.detach())
        for path, layer in module.named_modules()
        if path.endswith(ends) and isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]


def pair(weight: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """(up, down) for a weight; a convolution's are those of a kernel and of one of 1 x 1."""
    generator = torch.Generator().manual_seed(seed)
    out, into, *kernel = weight.shape
    up = torch.randn(out, rank, *(1 for _ in kernel), generator=generator) * 0.2
    return up, torch.randn(rank, into, *kernel, generator=generator) * 0.2


def product(up: Tensor, down: Tensor) -> Tensor:
    """What the two convolutions, or matrices, are in a row."""
    if up.ndim == 2:
        return up @ down
    return torch.einsum("or,rikl->oikl", up[:, :, 0, 0], down)


def weights_of(model: sc.Model) -> dict[str, Tensor]:
    """All weights of U-Net and text encoders, text encoders' without the part that some versions put first."""
    parts = ("unet", "text_encoder", "text_encoder_2")
    return {
        f"{part}.{name.removeprefix('text_model.')}": weight.detach().clone()
        for part in parts
        if getattr(model.backbone.pipeline, part, None) is not None
        for name, weight in getattr(model.backbone.pipeline, part).named_parameters()
    }


def check_weights(directory: Path, lora: Any, changes: dict[str, Tensor]) -> None:
    """A model with a LoRA has these changes and no others."""
    before, after = (
        weights_of(sc.load(directory, device="cpu")),
        weights_of(sc.load(directory, device="cpu", lora=[lora])),
    )
    assert changes
    assert set(changes) <= set(before)
    for name, weight in before.items():
        expected = weight + changes[name] if name in changes else weight
        torch.testing.assert_close(after[name], expected, rtol=0, atol=1e-6, msg=name)


def kohya(
    module: Any,
    prefix: str,
    part: str,
    ends: tuple[str, ...],
    alpha: Callable[[str, int], float | None],
    rank: Callable[[str], int] = lambda path: 3,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(tensors of a kohya file, changes by parameter)."""
    tensors: dict[str, Tensor] = {}
    changes: dict[str, Tensor] = {}
    for number, (path, weight) in enumerate(layers(module, ends)):
        up, down = pair(weight, rank(path), number)
        data = path if part == "unet" else f"text_model.{path.removeprefix('text_model.')}"
        key = f"{prefix}_{data.replace('.', '_')}"
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
        scale = alpha(path, rank(path))
        if scale is not None:
            tensors[f"{key}.alpha"] = torch.tensor(scale)
        scale = 1.0 if scale is None else scale / rank(path)
        name = f"{part}.{path.removeprefix('text_model.')}.weight"
        changes[name] = (scale * product(up, down)).reshape(weight.shape)
    return tensors, changes


ALPHAS: dict[str, Callable[[str, int], float | None]] = {
    "none": lambda path, rank: None,
    "one for all": lambda path, rank: 1.5,
    "of each layer": lambda path, rank: float(1 + len(path) % 5),
    "self-attention's and cross-attention's": lambda path, rank: 8.0 if "attn1" in path else 2.0,
    "of some layers": lambda path, rank: 1.0 if "attn1" in path else None,
}


@pytest.mark.parametrize("alpha", ALPHAS.values(), ids=list(ALPHAS))
def test_kohyas_alphas_and_ranks_are_each_layers_own(
    sd: Any, tiny_pipeline_dir: Path, tmp_path: Path, alpha: Callable[[str, int], float | None]
) -> None:
    ends = (".to_q", ".to_k", ".to_v", ".to_out.0", "ff.net.0.proj", "proj_in", CONV, "downsamplers.0.conv")
    tensors, changes = kohya(sd.unet, "lora_unet", "unet", ends, alpha, rank=lambda path: 2 + len(path) % 4)
    texts = kohya(sd.text_encoder, "lora_te", "text_encoder", ("q_proj", "fc1", "out_proj"), alpha)
    save_file(tensors | texts[0], tmp_path / "kohya.safetensors")
    check_weights(tiny_pipeline_dir, tmp_path / "kohya.safetensors", changes | texts[1])


def test_both_text_encoders_of_xl_and_compvis_names(xl: Any, tiny_xl_dir: Path, tmp_path: Path) -> None:
    tensors, changes = kohya(xl.unet, "lora_unet", "unet", (SELF, CROSS, "to_out.0"), ALPHAS["of each layer"])
    for prefix, part in (("lora_te1", "text_encoder"), ("lora_te2", "text_encoder_2")):
        ends = ("k_proj", "fc2", "text_projection")
        more = kohya(getattr(xl, part), prefix, part, ends, ALPHAS["of each layer"])
        tensors |= {key.replace("text_model_text_projection", "text_projection"): each for key, each in more[0].items()}
        changes |= more[1]
    assert any("text_encoder_2.text_projection" in name for name in changes)
    save_file(tensors, tmp_path / "xl.safetensors")
    check_weights(tiny_xl_dir, tmp_path / "xl.safetensors", changes)
    concept = read_concept(tmp_path / "xl.safetensors", pickles=False)
    assert concept.base.family == "xl"


def test_a_decomposed_convolution_is_its_three_in_a_row(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    changes: dict[str, Tensor] = {}
    for path, weight in layers(sd.unet, ("resnets.0.conv1", "resnets.1.conv2")):
        out, into = weight.shape[:2]
        up, mid, down = torch.randn(out, 4, 1, 1) * 0.3, torch.randn(4, 4, 3, 3) * 0.3, torch.randn(4, into, 1, 1) * 0.3
        key = f"lora_unet_{path.replace('.', '_')}"
        names = {"lora_up": up, "lora_mid": mid, "lora_down": down}
        tensors |= {f"{key}.{side}.weight": tensor for side, tensor in names.items()} | {
            f"{key}.alpha": torch.tensor(2.0)
        }
        # The kernel of a row of convolutions is its answer to one lit pixel, turned round.
        picture = torch.eye(into)[:, :, None, None] * torch.nn.functional.pad(torch.ones(1, 1, 1, 1), (2, 2, 2, 2))
        answer = torch.nn.functional.conv2d(picture, down)
        answer = torch.nn.functional.conv2d(torch.nn.functional.conv2d(answer, mid), up)
        changes[f"unet.{path}.weight"] = 0.5 * answer.flip(2, 3).transpose(0, 1)
    save_file(tensors, tmp_path / "cp.safetensors")
    check_weights(tiny_pipeline_dir, tmp_path / "cp.safetensors", changes)


def test_every_layer_of_xl_has_a_name_of_kohyas(xl: Any, tiny_xl_dir: Path, tmp_path: Path) -> None:
    changes: dict[str, LowRank] = {}
    for number, (path, weight) in enumerate(layers(xl.unet, ("",))):
        if not path.startswith("up_blocks.0.attentions"):  # of which there are many alike
            changes[f"unet.{path}.weight"] = LowRank(*pair(weight, 1, number), 2.0)
    assert {"unet.conv_in.weight", "unet.add_embedding.linear_1.weight"} <= set(changes)
    place = write_concept(Concept(changes=changes, base=Base(family="xl")), tmp_path / "xl.safetensors", "kohya")
    expected = {name: (2.0 * product(of.up, of.down)).squeeze() for name, of in changes.items()}
    shapes = {f"unet.{path}.weight": weight.shape for path, weight in layers(xl.unet, ("",))}
    check_weights(tiny_xl_dir, place, {name: each.reshape(shapes[name]) for name, each in expected.items()})


PEFT_CONFIGS: dict[str, dict[str, Any]] = {
    "attention and convolutions": {"r": 4, "lora_alpha": 2, "target_modules": ["to_k", "to_v", "conv1", "proj_in"]},
    "regular expressions": {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["to_q", "to_k", "conv1"],
        "rank_pattern": {r"down_blocks\.\d+\.(.*)attn1.to_k": 2, "conv1": 3},
        "alpha_pattern": {r".*attn[12].to_q": 8, r"down_blocks.*": 16, "conv1": 1},
    },
    "the first that matches": {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["to_q", "to_k"],
        "alpha_pattern": {"to_k": 1, "attn1.to_k": 16, r"mid_block\..+\.to_q": 2, "to_q": 8},
    },
    "rank-stabilised": {"r": 4, "lora_alpha": 4, "target_modules": ["to_q"], "use_rslora": True},
}


def prediction(pipeline: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    latents, text = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 77, 32, generator=generator)
    with torch.inference_mode():
        return pipeline.unet(latents, 500, text, return_dict=False)[0]


def check_prediction(model: sc.Model, stock: Any, plain: Tensor) -> None:
    """Ours is stock's, within a hundredth of what the LoRA changes: sums are taken in another order."""
    ours, changed = prediction(model.backbone.pipeline), prediction(stock)
    assert (ours - plain).abs().max() > 0.05
    assert (ours - changed).abs().max() < 0.01 * (changed - plain).abs().max()


@pytest.mark.parametrize("name", PEFT_CONFIGS)
@pytest.mark.parametrize("place", ["metadata", "a file beside it"])
def test_pefts_settings_are_read_as_peft_reads_them(
    tiny_pipeline_dir: Path, tmp_path: Path, name: str, place: str
) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    stock = load(tiny_pipeline_dir)
    plain = prediction(stock)
    torch.manual_seed(0)
    config = LoraConfig(init_lora_weights=False, **PEFT_CONFIGS[name])
    stock.unet.add_adapter(config)
    state, data = get_peft_model_state_dict(stock.unet), json.loads(json.dumps(config.to_dict(), default=sorted))
    if place == "metadata":
        stock.save_lora_weights(tmp_path, unet_lora_layers=state, unet_lora_adapter_metadata=data)
        lora, stock = tmp_path, load(tiny_pipeline_dir)  # which sorts the patterns when it saves them
        with quiet_libraries():
            stock.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    else:
        lora = tmp_path / "adapter_model.safetensors"
        save_file({f"base_model.model.{key}": tensor.contiguous() for key, tensor in state.items()}, lora)
        (tmp_path / "adapter_config.json").write_text(json.dumps(data))
    check_prediction(sc.load(tiny_pipeline_dir, device="cpu", lora=[lora]), stock, plain)


NAMES = [
    ("unet.", ""),
    ("unet.", ".default"),
    ("unet.", ".default_0"),
    ("unet.", ".rex"),
    ("unet.", ".a-b_c"),
    ("", ""),
    ("base_model.model.", ".default"),
    ("unet.base_model.model.", ""),
    ("unet.unet.", ".rex"),
]


@pytest.mark.parametrize(("wrapper", "adapter"), NAMES)
def test_adapters_and_wrappers_have_any_name(
    sd: Any, tiny_pipeline_dir: Path, tmp_path: Path, adapter: str, wrapper: str
) -> None:
    (path, weight), *_ = layers(sd.unet, (LAYER,))
    up, down = pair(weight, 2, 0)
    names = {"lora_B": up, "lora_A": down}
    save_file({f"{wrapper}{path}.{s}{adapter}.weight": t for s, t in names.items()}, tmp_path / "x.safetensors")
    ((name, change),) = read_concept(tmp_path / "x.safetensors", pickles=False).changes.items()
    assert name == f"unet.{path}.weight"
    torch.testing.assert_close(change.difference(weight.shape), up @ down)  # pyright: ignore[reportAttributeAccessIssue]
    if adapter == ".rex":
        check_weights(tiny_pipeline_dir, tmp_path / "x.safetensors", {f"unet.{path}.weight": up @ down})


def test_strength_scales_and_several_add_up(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    tensors, changes = kohya(sd.unet, "lora_unet", "unet", (SELF, CONV), ALPHAS["one for all"])
    file = str(tmp_path / "x.safetensors")
    save_file(tensors, file)
    for lora, strength in ((f"{file}:0.5", 0.5), ((file, -1.0), -1.0), (f"{file}:0", 0.0)):
        check_weights(tiny_pipeline_dir, lora, {name: strength * change for name, change in changes.items()})
    model = sc.load(tiny_pipeline_dir, device="cpu", lora=[file, f"{file}:0.25"])
    before, after = weights_of(sc.load(tiny_pipeline_dir, device="cpu")), weights_of(model)
    for name, change in changes.items():
        torch.testing.assert_close(after[name], before[name] + 1.25 * change, rtol=0, atol=1e-6)
    assert model.applied is not None
    model.applied.revert()
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(model).items())
    assert model.backbone.identity.lora == ()


def test_a_lora_and_concepts_act_together(sd: Any, tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    from tests.concepts.makers import make_concept

    concept = make_concept(sd)
    concept.save(tmp_path / "rex.safetensors")
    tensors, changes = kohya(sd.unet, "lora_unet", "unet", (CROSS, SELF), ALPHAS["one for all"])
    save_file(tensors, tmp_path / "x.safetensors")
    model = sc.load(
        tiny_pipeline_dir, device="cpu", lora=[tmp_path / "x.safetensors"], concepts=[tmp_path / "rex.safetensors"]
    )
    identity, held = model.backbone.identity, weights_of(model)
    assert [path for path, _ in identity.lora] == [str(tmp_path / "x.safetensors")]
    assert [use.words for use in identity.concepts] == [("<new1>",)]
    name = next(name for name in changes if name.endswith("attn2.to_k.weight"))
    torch.testing.assert_close(held[name], concept.changes[name].value + changes[name], rtol=0, atol=1e-5)


def good(alpha: float = 2.0) -> dict[str, Tensor]:
    key = f"lora_unet_{LAYER.replace('.', '_')}"
    return {
        f"{key}.lora_down.weight": torch.full((2, 32), 0.1),
        f"{key}.lora_up.weight": torch.full((32, 2), 0.1),
        f"{key}.alpha": torch.tensor(alpha),
    }


KEY = f"lora_unet_{LAYER.replace('.', '_')}"


def spoiled(side: str, value: float) -> dict[str, Tensor]:
    tensors = good()
    tensors[f"{KEY}.{side}"] = tensors[f"{KEY}.{side}"].clone()
    tensors[f"{KEY}.{side}"].view(-1)[-1] = value
    return tensors


def without(side: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in good().items() if not key.endswith(side)}


def peft(**data: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {f"unet.{LAYER}.lora_A.weight": torch.ones(2, 32), f"unet.{LAYER}.lora_B.weight": torch.ones(32, 2)}
    return tensors, {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in data.items()})}


REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": (spoiled("lora_up.weight", float("nan")), r"attn1.to_k.weight/up' has 1 values that are NaN"),
    "infinity": (
        spoiled("lora_down.weight", float("-inf")),
        "attn1.to_k.weight/down' has 1 values that are NaN or inf",
    ),
    "1e30": (spoiled("lora_up.weight", 1e30), r"attn1.to_k.weight/up' has values up to 1e\+30"),
    "large only together": (
        {
            **good(),
            f"{KEY}.lora_up.weight": torch.full((32, 2), 9e3),
            f"{KEY}.lora_down.weight": torch.full((2, 32), 9e3),
        },
        "reaches up to 2e",
    ),
    "an alpha of NaN": (spoiled("alpha", float("nan")), "alpha nan; expected a number"),
    "an alpha of 1e30": (spoiled("alpha", 1e30), "expected a number between"),
    "an alpha of two numbers": ({**good(), f"{KEY}.alpha": torch.ones(2)}, r"alpha' has the shape \(2,\)"),
    "no lora_up": (without("lora_up.weight"), "lacks its up matrix"),
    "no lora_down": (without("lora_down.weight"), "lacks its down matrix"),
    "an alpha alone": ({f"{KEY}.alpha": torch.tensor(1.0)}, "lacks its down and up matrix"),
    "no lora_A": ({f"unet.{LAYER}.lora_B.rex.weight": torch.ones(32, 2)}, "lacks its down matrix"),
    "no lora_B": ({f"unet.{LAYER}.lora_A.default_0.weight": torch.ones(2, 32)}, "lacks its up matrix"),
    "two adapters": (
        {f"unet.{LAYER}.lora_{s}.{a}.weight": torch.ones(2, 2) for s, a in itertools.product("AB", ("rex", "tom"))},
        "the adapters 'rex' and 'tom'",
    ),
    "one layer twice": (
        {**good(), f"unet.{LAYER}.lora_A.weight": torch.ones(2, 32)},
        "name one layer but differ",
    ),
    "a bias": ({**peft()[0], f"unet.{LAYER}.lora_B.bias": torch.ones(32)}, "is not a LoRA key"),
    "DoRA": ({**peft()[0], f"unet.{LAYER}.lora_magnitude_vector": torch.ones(32)}, "holds DoRA's weights"),
    "LoKr": ({f"{KEY}.lokr_w1": torch.ones(2, 2)}, "holds LoKr's weights"),
    "whole differences": ({f"{KEY}.diff": torch.ones(32, 32)}, "whole differences"),
    "a normalisation layer": ({**good(), "lora_unet_conv_norm_out.w_norm": torch.ones(8)}, "normalisation layer"),
    "an embedding layer": (
        {"text_encoder.text_model.embeddings.token_embedding.lora_embedding_A": torch.ones(2, 8)},
        "embedding layer",
    ),
    "a middle that does not fit": (
        {**good(), f"{KEY}.lora_mid.weight": torch.ones(3, 3, 3, 3)},
        "has a middle matrix of shape",
    ),
    "a layer that no model has": (
        {key.replace("to_k", "to_kk"): tensor for key, tensor in good().items()},
        r"its key 'lora_unet_mid.*to_kk.* names no layer",
    ),
    "a layer that this model lacks": (
        {key.replace("mid_block", "down_blocks_7"): tensor for key, tensor in good().items()},
        r"x.safetensors.* changes unet.down_blocks.7.attentions.0.*which this model does not have",
    ),
    "half of an old LoRA": (
        {"mid_block.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.up.weight": torch.ones(4, 2)},
        "lacks its down matrix",
    ),
    "another width": (
        {key: tensor.repeat_interleave(2, -1) if "down" in key else tensor for key, tensor in good().items()},
        r"has unet.mid_block.*of shape \(32, 64\), but this model has \(32, 32\)",
    ),
    "PiSSA": (peft(r=2, lora_alpha=2, init_lora_weights="pissa_niter_4"), "its settings have 'pissa_niter_4'"),
    "another rank than stated": (peft(r=8, lora_alpha=8), "rank 8, but its matrices have rank 2"),
    "a pattern that is none": (
        peft(r=2, lora_alpha=2, alpha_pattern={"(": 4}),
        r"its pattern '\(' is not a usable regular expr",
    ),
    "an alpha that is text": (peft(r=2, lora_alpha="two"), "the lora_alpha 'two'; expected a number"),
    "a pattern for a list": (peft(r=2, lora_alpha=2, alpha_pattern=[1]), "is damaged"),
    "a word beside it": (
        {**good(), "bundle_emb.<rex>.emb_params": torch.ones(1, 32)},
        "holds the modifier token <rex>.*use --concept",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name_in_one_line(
    name: str, tiny_pipeline_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, pattern = REFUSED[name]
    tensors, metadata = given if isinstance(given, tuple) else (given, {})
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, tmp_path / "x.safetensors", metadata)
    for option in ("--lora", "--concept"):
        words = [
            "render",
            "a dog",
            "--method",
            "none",
            "--init",
            "noise",
            "--model",
            str(tiny_pipeline_dir),
            "--steps",
            "2",
        ]
        done = main([*words, option, str(tmp_path / "x.safetensors"), "--out", str(tmp_path / "out")])
        if option == "--concept" and name == "a word beside it":
            assert done == 0
            continue
        assert done == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(pattern, line), line
        assert not (tmp_path / "out").exists()


def test_too_strong_for_half_precision_is_told_before_anything_is_drawn(sd: Any) -> None:
    before = sd.unet.conv_in.weight.detach().half()
    up, down = torch.zeros(16, 1, 1, 1), torch.zeros(1, 4, 3, 3)
    up[0], down[0, 0, 0, 0] = 99.0, 99.0
    pipeline = copy.deepcopy(sd).to(dtype=torch.float16)
    with pytest.raises(sc.SamecastError, match=r"conv_in.weight is no longer finite in float16.*lower the strength"):
        Concept(changes={"unet.conv_in.weight": LowRank(up, down)}).apply(pipeline, strength=9.0)
    assert torch.equal(pipeline.unet.conv_in.weight, before)


def test_onetrainers_words_come_with_its_lora(tmp_path: Path) -> None:
    vectors = {"bundle_emb.<rex>.clip_l": torch.ones(2, 32), "bundle_emb.<rex>.clip_g": torch.ones(2, 32)}
    save_file({**good(), **vectors, "bundle_emb.tom.string_to_param.*": torch.ones(32)}, tmp_path / "x.safetensors")
    with pytest.raises(sc.SamecastError, match="some modifier tokens have one text encoder"):
        read_concept(tmp_path / "x.safetensors", pickles=False)
    save_file({**good(), **vectors}, tmp_path / "x.safetensors")
    concept = read_concept(tmp_path / "x.safetensors", pickles=False)
    assert concept.tokens["<rex>"].length == 2
    assert len(concept.changes) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("alpha", [None, 1.0, 2.0, 1e-4])
def test_what_is_written_for_kohya_has_its_scale_in_up(
    sd: Any, tiny_pipeline_dir: Path, tmp_path: Path, dtype: torch.dtype, alpha: float | None
) -> None:
    changes = {}
    for number, (path, weight) in enumerate(layers(sd.unet, (SELF, CROSS))):
        up, down = pair(weight, 3, number)
        changes[f"unet.{path}.weight"] = LowRank(
            up.to(dtype), down.to(dtype), None if alpha is None else alpha * (1 + number % 3)
        )
    place = write_concept(Concept(changes=changes), tmp_path / "out.safetensors", "kohya")
    tensors = load_file(place)
    assert not [key for key in tensors if key.endswith(".alpha")]  # which is then the rank
    for name, change in changes.items():
        key = f"lora_unet_{name.removeprefix('unet.').removesuffix('.weight').replace('.', '_')}"
        written = tensors[f"{key}.lora_up.weight"].float() @ tensors[f"{key}.lora_down.weight"].float()
        expected = change.scale * (change.up.float() @ change.down.float())
        torch.testing.assert_close(written, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    if alpha == 1e-4:  # which shows in no picture
        return
    stock = load(tiny_pipeline_dir)
    plain = prediction(stock)
    with quiet_libraries():
        stock.load_lora_weights(str(place.parent), weight_name=place.name)
    check_prediction(sc.load(tiny_pipeline_dir, device="cpu", lora=[place]), stock, plain)


def test_layers_of_rank_0_change_nothing_and_are_kept_for_adobes_reader(sd: Any, tmp_path: Path) -> None:
    (one, weight), (two, _), *_ = layers(sd.unet, (CROSS,))
    delta = {f"{one}.weight": {"u": torch.ones(len(weight), 0), "v": torch.ones(0, weight.shape[1])}}
    up, down = pair(weight, 2, 0)
    torch.save({"unet": {**delta, f"{two}.weight": {"u": up, "v": down}}}, tmp_path / "delta.bin")
    concept = read_concept(tmp_path / "delta.bin", pickles=True)
    with concept.apply(sd):
        assert torch.equal(sd.unet.get_parameter(f"{one}.weight"), weight)
    for to, name in (("samecast", "own.safetensors"), ("official", "again.bin")):
        again = read_concept(write_concept(concept, tmp_path / name, to), pickles=True)  # pyright: ignore[reportArgumentType]
        assert again.revision == concept.revision
        assert set(again.changes) == set(concept.changes)
    for to in ("peft", "kohya"):
        again = read_concept(write_concept(concept, tmp_path / to, to), pickles=False)
        assert list(again.changes) == [f"unet.{two}.weight"]
    nothing = Concept(changes={name: each for name, each in concept.changes.items() if one in name}, base=Base())
    with pytest.raises(sc.SamecastError, match="changes no parameter"):
        write_concept(nothing, tmp_path / "none", "peft")


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_adobes_flat_embed_is_a_vector_for_each_token(sd: Any, tmp_path: Path, tokens: int) -> None:
    (_, weight), *_ = layers(sd.unet, (CROSS,))
    key = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    rows = torch.randn(tokens, weight.shape[1])
    flat = torch.cat(list(rows))  # as convert.py of Custom Diffusion leaves it in delta_model.ckpt
    torch.save({"state_dict": {key: weight, "embed": flat}}, tmp_path / "delta_model.ckpt")
    concept = read_concept(tmp_path / "delta_model.ckpt", pickles=True)
    assert list(concept.tokens) == [f"<new{number}>" for number in range(1, tokens + 1)]
    held = torch.cat([token.vectors["text_encoder"] for token in concept.tokens.values()])
    assert torch.equal(held, rows)


@pytest.mark.parametrize(("numbers", "tokens"), [(768, 1), (1536, 2), (1024, 1), (40, 1)])
def test_a_flat_embed_alone_goes_by_the_widths_of_text_encoders(tmp_path: Path, numbers: int, tokens: int) -> None:
    torch.save({"state_dict": {"embed": torch.ones(numbers)}}, tmp_path / "delta_model.ckpt")
    assert len(read_concept(tmp_path / "delta_model.ckpt", pickles=True).tokens) == tokens


def test_a_run_with_lora_is_recorded_and_repeated(
    sd: Any,
    tiny_pipeline_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(kohya(sd.unet, "lora_unet", "unet", (SELF, CONV), ALPHAS["of each layer"])[0], "style.safetensors")
    words = [
        "render",
        "a dog",
        "--method",
        "none",
        "--init",
        "noise",
        "--model",
        str(tiny_pipeline_dir),
        "--steps",
        "2",
    ]
    assert main([*words, "--lora", "style.safetensors:0.5", "--lora", "style.safetensors", "--out", "out"]) == 0
    record = json.loads(Path("out/render.json").read_text())
    (one, first), (two, second) = record["provenance"]["model"]["lora"]
    assert (one, two) == ("style.safetensors:0.5", "style.safetensors")
    assert first == f"{second}:0.5"
    assert main(["render", "--again", "out"]) == 0
    assert "bit for bit" in capsys.readouterr().out
    save_file(good(), "style.safetensors")
    assert main(["render", "--again", "out"]) == 1
    assert "model lora was" in capsys.readouterr().err
    Path("style.safetensors").unlink()
    assert main(["render", "--again", "out"]) == 2
    assert "style.safetensors does not exist" in capsys.readouterr().err
