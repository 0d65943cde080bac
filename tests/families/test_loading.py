"""Every family from a directory, as diffusers saves it; and what is refused, by name."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import samecast as sc
from samecast.cli import main
from samecast.core.layers import select_layers
from samecast.models.families import FAMILIES
from samecast.models.flux import FluxBackbone
from samecast.models.loading import load_backbone
from tests.families.tiny import MAKERS


@pytest.mark.parametrize("family", MAKERS)
def test_a_saved_pipeline_is_loaded_as_it_was(family: str, tiny: Any, tmp_path: Path) -> None:
    tiny(family).save_pretrained(tmp_path / "model")
    backbone = load_backbone(tmp_path / "model", device="cpu")
    assert type(backbone) is FAMILIES[type(tiny(family)).__name__]
    assert backbone.identity.revision.startswith("sha256:")
    for name, weight in tiny(family).transformer.named_parameters():
        assert torch.equal(weight, backbone.denoiser.get_parameter(name))
    assert backbone.find_words("a dog on the beach", "dog")
    (tmp_path / "model" / "transformer" / "config.json").unlink()
    with pytest.raises(sc.SamecastError, match="cannot be loaded"):
        load_backbone(tmp_path / "model", device="cpu")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("SanaPipeline", "is a SanaPipeline, which is not supported: its attention is linear"),
        ("FluxKontextPipeline", "is a FluxKontextPipeline, which is not supported: it edits pictures"),
        ("QwenImageEditPipeline", "give a text-to-image pipeline"),
        ("FluxFillPipeline", "pictures or masks as input channels"),
        ("CogView4Pipeline", "is a CogView4Pipeline; samecast runs Stable Diffusion 1.x"),
    ],
)
def test_pipelines_of_other_kinds_are_refused_by_name(kind: str, words: str, tmp_path: Path) -> None:
    index = {"_class_name": kind, "transformer": ["diffusers", "AnyModel"], "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(sc.SamecastError, match=words):
        load_backbone(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("scheduler", ["diffusers", "DPMSolverMultistepScheduler"], "has a DPMSolverMultistepScheduler as scheduler"),
        ("transformer", ["diffusers", "CogView4Transformer2DModel"], "has a CogView4Transformer2DModel as transformer"),
        ("text_encoder_2", ["transformers", "GemmaModel"], "has a GemmaModel as text_encoder_2"),
        ("vae", "AutoencoderKL", r"must give \[library, class\] for vae"),
    ],
)
def test_parts_of_other_classes_are_refused(tiny: Any, tmp_path: Path, part: str, value: Any, words: str) -> None:
    tiny("flux").save_pretrained(tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {part: value}))
    with pytest.raises(sc.SamecastError, match=words):
        load_backbone(tmp_path / "model", device="cpu")


def test_a_prediction_type_is_not_for_transformers(tiny: Any, tmp_path: Path) -> None:
    tiny("sd3").save_pretrained(tmp_path / "model")
    with pytest.raises(sc.SamecastError, match="leave prediction_type out"):
        load_backbone(tmp_path / "model", device="cpu", prediction_type="epsilon")


def test_a_model_for_inpainting_is_refused(tiny: Any, tmp_path: Path) -> None:
    tiny("flux").save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"latent_channels": 3}))
    with pytest.raises(sc.SamecastError):
        load_backbone(tmp_path / "model", device="cpu")


def test_layers_are_listed(capsys: pytest.CaptureFixture[str], tiny: Any, tmp_path: Path) -> None:
    tiny("sd35").save_pretrained(tmp_path / "model")
    assert main(["layers", "--model", str(tmp_path / "model")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    names = ["double.0", "dual.0", "double.1", "dual.1", "double.2"]
    assert lines == [[str(at), name, name[: name.index(".")], "8x8", "4"] for at, name in enumerate(names)]


def test_layers_are_in_execution_order(family: str, model: sc.Model) -> None:
    backbone, executed = model.backbone, list[int]()
    hooks = [
        bound.module.register_forward_hook(lambda *call, at=bound.layer.index: executed.append(at))  # type: ignore[attr-defined]
        for bound in backbone.self_attention()
    ]
    with torch.inference_mode():
        texts = backbone.join_texts(backbone.encode_prompts(["a dog"]), [1.0])
        backbone.predict(torch.randn(1, *backbone.latent_shape(32, 32)), 500.0, texts)
    for hook in hooks:
        hook.remove()
    assert executed == list(range(len(backbone.self_attention())))


def test_named_sets_are_those_of_the_papers_on_whole_models_alone(tiny: Any) -> None:
    assert all(not bound.layer.sets for bound in sc.Model(_flux(tiny, 3, 3)).backbone.self_attention())
    layers = [bound.layer for bound in _flux(tiny, 19, 38).self_attention()]
    assert [layer.index for layer in select_layers("vital", layers)] == [0, 1, 17, 18, 25, 28, 53, 54, 56]
    assert [layer.index for layer in select_layers("position", layers)] == [1, 2, 4, 26, 30, 54, 55]
    assert len(select_layers("content, vital", layers)) == 13 + 9 - 5
    assert select_layers("single.0", layers)[0].index == 19
    with pytest.raises(sc.SamecastError, match="double, single, all, vital, content, position"):
        select_layers("vitl", layers)


def _flux(tiny: Any, doubles: int, singles: int) -> FluxBackbone:
    """The tiny FLUX, with blocks repeated to so many."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    pipeline = tiny("flux")
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(
            {**pipeline.transformer.config, "num_layers": doubles, "num_single_layers": singles}
        )
    return FluxBackbone(
        FluxPipeline(**{**pipeline.components, "transformer": transformer}), sc.load().backbone.identity
    )


@pytest.mark.parametrize("family", ["flux"])
def test_learning_and_concepts_are_refused(family: str, model: sc.Model, tmp_path: Path, photo: Any) -> None:
    with pytest.raises(sc.SamecastError, match=r"learned and applied on Stable Diffusion 1\.x"):
        sc.apply_concepts(model, [])
