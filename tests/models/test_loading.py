import json
import shutil
from pathlib import Path

import pytest
import torch

import samecast as sc
from samecast.errors import SamecastError
from samecast.models.directory import variant_of
from samecast.models.loading import choose_device, choose_dtype, load_backbone


@pytest.fixture
def copy(tiny_pipeline_dir: Path, tmp_path: Path) -> Path:
    """A model directory to damage."""
    return Path(shutil.copytree(tiny_pipeline_dir, tmp_path / "model"))


def refusal(model: str | Path, **options: object) -> str:
    with pytest.raises(SamecastError) as caught:
        load_backbone(model, device="cpu", **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_directory_loads_in_the_precision_asked_for(tiny_pipeline_dir: Path) -> None:
    for dtype, expected in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        pipeline = load_backbone(tiny_pipeline_dir, device="cpu", dtype=dtype).pipeline
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            assert {parameter.dtype for parameter in part.parameters()} == {expected}
            assert not part.training


def test_half_precision_on_disk_runs_in_single_precision(copy: Path) -> None:
    backbone = load_backbone(copy, device="cpu", dtype="float16")
    backbone.pipeline.save_pretrained(copy.parent / "half")
    restored = load_backbone(copy.parent / "half", device="cpu")
    assert restored.encode_prompts(["a dog"]).dtype == torch.float32
    out = sc.Model(restored).render(
        None, ["a dog"], rules=(), settings=sc.RenderSettings(num_inference_steps=1, init="noise")
    )
    assert out.provenance["dtype"] == "float32"


def test_a_directory_with_half_precision_alone_loads(copy: Path, tiny_pipeline_dir: Path) -> None:
    pipeline = load_backbone(copy, device="cpu", dtype="float16").pipeline
    pipeline.save_pretrained(copy.parent / "half", variant="fp16")
    assert {file.suffixes[-2] for file in (copy.parent / "half").rglob("*.safetensors")} == {".fp16"}
    for directory, dtype in ((copy.parent / "half", torch.float16), (tiny_pipeline_dir, torch.float32)):
        weights = load_backbone(directory, device="cpu").pipeline.unet.state_dict()
        original = load_backbone(tiny_pipeline_dir, device="cpu").pipeline.unet.state_dict()
        assert all(torch.equal(weights[key], value.to(dtype).float()) for key, value in original.items())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"], None),
        (["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"], None),
        (["unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors"], "fp16"),
        (["unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors"], "fp16"),
        (["unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors"], "fp16"),
        # What samecast does not load does not matter, nor what lies beside the parts.
        (["safety_checker/model.fp16.safetensors", "sd_xl_base.fp16.safetensors", "unet/model.safetensors"], None),
        (["README.md"], None),
    ],
)
def test_the_variant_is_chosen_by_what_there_is(files: list[str], expected: str | None) -> None:
    assert variant_of(files) == expected


def test_bfloat16_renders(tiny_pipeline_dir: Path) -> None:
    model = sc.load(tiny_pipeline_dir, device="cpu", dtype="bfloat16")
    out = model.render(None, ["a dog"], rules=(), settings=sc.RenderSettings(num_inference_steps=1, init="noise"))
    assert out.provenance["dtype"] == "bfloat16"


def test_revision_names_the_contents_not_the_place(tiny_pipeline_dir: Path, copy: Path) -> None:
    original = load_backbone(tiny_pipeline_dir, device="cpu").identity
    assert load_backbone(copy, device="cpu").identity.revision == original.revision
    assert original.revision.startswith("sha256:")
    config = copy / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013"))
    assert load_backbone(copy, device="cpu").identity.revision != original.revision


def test_loading_says_nothing(tiny_pipeline_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone(tiny_pipeline_dir, device="cpu")
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize("name", ["/nowhere/model", "nowhere", "./a/b/c", "model.safetensors"])
def test_a_missing_path_is_told_with_the_choices(name: str) -> None:
    assert "does not exist; give a directory, a .safetensors file or a hub id" in refusal(name)


def test_an_unreachable_hub_is_told() -> None:
    # The tests run with HF_HUB_OFFLINE=1.
    assert "could not be fetched from the hub" in refusal("samecast-tests/no-such-model")


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".CKPT"])
def test_pickles_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    assert "is a pickle" in refusal(path)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "it has no model_index.json" in refusal(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "", "[]", "null", "3", '"unet"', "[" * 50_000, '{"a":' * 50_000, '{"_guidance_scale": NaN}', "9" * 5000],
)
def test_a_damaged_index_is_refused(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text)
    assert "damaged model_index.json" in refusal(copy)


@pytest.mark.parametrize("part", [None, [], "unet", ["diffusers"], [1, 2, 3], {"a": 1}])
def test_an_index_whose_parts_are_no_pairs_is_refused(copy: Path, part: object) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"unet": part}))
    assert "samecast runs Stable Diffusion" in refusal(copy)


def test_another_family_is_refused_by_name(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    index |= {"_class_name": "KolorsPipeline", "text_encoder_2": ["transformers", "CLIPTextModel"]}
    (copy / "model_index.json").write_text(json.dumps(index))
    assert "is a KolorsPipeline; samecast runs Stable Diffusion 1.x, 2.x, XL, 3 and 3.5" in refusal(copy)


def write_guidance(directory: Path, data: object) -> None:
    """Put a scale of guidance into a pipeline's index."""
    index = directory / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_guidance_scale": data}))


def test_a_model_may_tell_its_guidance_and_keeps_it_when_saved(copy: Path, tmp_path: Path) -> None:
    assert load_backbone(copy, device="cpu").default_guidance == 7.5
    write_guidance(copy, 3)
    data = load_backbone(copy, device="cpu")
    assert data.default_guidance == 3.0
    data.pipeline.save_pretrained(tmp_path / "saved")
    assert load_backbone(tmp_path / "saved", device="cpu").default_guidance == 3.0


@pytest.mark.parametrize("data", ["7.5", -1, True, [7.5], 1001])
def test_guidance_that_is_none_is_refused(copy: Path, data: object) -> None:
    write_guidance(copy, data)
    assert "_guidance_scale in model_index.json" in refusal(copy)


def test_a_missing_part_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "vae")
    assert "lacks vae" in refusal(copy)


def test_damaged_weights_are_one_line(copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    assert "cannot be loaded" in refusal(copy)


def test_pickled_weights_in_a_directory_are_refused(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    assert "cannot be loaded" in refusal(copy)


def test_an_inpainting_model_is_refused(copy: Path) -> None:
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(copy / "unet")
    UNet2DConditionModel.from_config(config, in_channels=9).save_pretrained(copy / "unet")
    assert "takes 9 channels for 4" in refusal(copy)


def test_devices_and_precisions_that_are_not_there_are_refused() -> None:
    for device in ("tpu", "cuda:99"):
        with pytest.raises(SamecastError, match="cannot be used here"):
            choose_device(device)
    with pytest.raises(SamecastError, match="dtype must be auto, float32"):
        choose_dtype("int8", torch.device("cpu"))


def test_half_precision_is_chosen_on_cuda_alone() -> None:
    chosen = {kind: choose_dtype("auto", torch.device(kind)) for kind in ("cuda", "mps", "cpu")}
    assert chosen == {"cuda": torch.float16, "mps": torch.float32, "cpu": torch.float32}


@pytest.fixture(scope="module")
def lora_file(tiny_pipeline_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA on the self-attention, with weights that show."""
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    unet = load_backbone(tiny_pipeline_dir, device="cpu").pipeline.unet
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_k", "to_v"], init_lora_weights=False))
    directory = tmp_path_factory.mktemp("lora")
    StableDiffusionPipeline.save_lora_weights(directory, unet_lora_layers=get_peft_model_state_dict(unet))
    return directory / "pytorch_lora_weights.safetensors"


def test_lora_changes_images_and_is_recorded(tiny_pipeline_dir: Path, lora_file: Path) -> None:
    settings = sc.RenderSettings(num_inference_steps=2, source_prompt="a dog")
    rules = sc.masactrl(start=0)
    plain = sc.load(tiny_pipeline_dir, device="cpu").render(None, ["a cat"], rules=rules, settings=settings)
    for lora in (lora_file, lora_file.parent):
        model = sc.load(tiny_pipeline_dir, device="cpu", lora=(lora,))
        styled = model.render(None, ["a cat"], rules=rules, settings=settings)
        assert styled.renders[0].image.tobytes() != plain.renders[0].image.tobytes()
        ((path, revision),) = styled.provenance["model"]["lora"]
        assert path == str(lora)
        assert revision.startswith("sha256:")


def test_several_loras_act_together(tiny_pipeline_dir: Path, lora_file: Path) -> None:
    latents = torch.randn(1, 4, 16, 16)
    predictions = []
    for count in range(3):
        backbone = sc.load(tiny_pipeline_dir, device="cpu", lora=[lora_file] * count).backbone
        with torch.inference_mode():
            predictions.append(backbone.predict(latents, 10, backbone.encode_prompts(["a dog"])))
    assert not torch.allclose(predictions[0], predictions[1])
    assert not torch.allclose(predictions[1], predictions[2])


def test_loras_that_do_not_fit_are_refused(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    def data(path: Path) -> str:
        with pytest.raises(SamecastError) as caught:
            sc.load(tiny_pipeline_dir, lora=[path])
        assert str(caught.value).startswith(f"LoRA {path}")
        return str(caught.value)

    assert "does not exist" in data(tmp_path / "missing.safetensors")
    torch.save({"anything": torch.ones(2)}, tmp_path / "lora.bin")
    assert "is a pickle" in data(tmp_path / "lora.bin")
    save_file({"something.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    assert "holds something.weight" in data(tmp_path / "other.safetensors")


def test_a_hub_model_that_was_fetched_before_loads_offline_and_is_named_by_its_commit(
    tiny_pipeline_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--samecast-tests--tiny"
    shutil.copytree(tiny_pipeline_dir, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = load_backbone("samecast-tests/tiny", device="cpu")
    assert backbone.identity.id == "samecast-tests/tiny"
    assert backbone.identity.revision == commit
