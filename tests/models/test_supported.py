"""Models of another kind: refused from their configuration, in one line, before weights are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from samecast.errors import SamecastError
from samecast.models.loading import load_backbone


@pytest.fixture
def copy(tiny_pipeline_dir: Path, tmp_path: Path) -> Path:
    """A model directory whose weights cannot be read: what is refused is refused before that."""
    place = Path(shutil.copytree(tiny_pipeline_dir, tmp_path / "model"))
    for file in place.rglob("*.safetensors"):
        file.write_bytes(b"")
    return place


def change(copy: Path, file: str, **fields: Any) -> str:
    """Changes a configuration, and gives what is said of it."""
    path = copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(SamecastError) as caught:
        load_backbone(copy, device="cpu")
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"class_embed_type": "timestep"}, "its U-Net takes class labels"),
        ({"num_class_embeds": 1000}, "its U-Net takes class labels"),
        ({"encoder_hid_dim_type": "text_image_proj"}, "an image prompt or a projection"),
        ({"encoder_hid_dim": 1024}, "a projection of the text"),
        ({"time_cond_proj_dim": 256}, "takes the guidance scale as an input"),
        ({"only_cross_attention": True}, "text in place of self-attention"),
        ({"only_cross_attention": [False, True, False, False]}, "text in place of self-attention"),
        ({"mid_block_only_cross_attention": True}, "text in place of self-attention"),
        ({"dual_cross_attention": True}, "two texts"),
        ({"addition_embed_type": "image"}, "takes 'image' conditions"),
        ({"attention_type": "gated"}, "'gated' attention"),
        ({"down_block_types": ["SimpleCrossAttnDownBlock2D"] * 4}, "SimpleCrossAttnDownBlock2D"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, "UNetMidBlock2DSimpleCrossAttn"),
    ],
)
def test_denoisers_that_want_more_are_refused(copy: Path, fields: dict[str, Any], data: str) -> None:
    assert data in change(copy, "unet/config.json", **fields)


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ({"_class_name": "EDMEulerScheduler"}, "uses 'EDMEulerScheduler'"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "uses 'EDMDPMSolverMultistepScheduler'"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "uses 'FlowMatchEulerDiscreteScheduler'"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "uses 'CMStochasticIterativeScheduler'"),
        ({"_class_name": ["DDIMScheduler"]}, "uses ['DDIMScheduler']"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "sets use_flow_sigmas"),
        ({"_class_name": "EulerDiscreteScheduler", "sigma_max": 700.0}, "sets sigma_max"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "'continuous' timesteps"),
    ],
)
def test_noise_levels_of_another_kind_are_refused(copy: Path, fields: dict[str, Any], data: str) -> None:
    assert data in change(copy, "scheduler/scheduler_config.json", **fields)


@pytest.mark.parametrize(
    ("file", "fields", "data"),
    [
        ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "has a 'AutoencoderTiny' as vae"),
        ("vae/config.json", {"shift_factor": 0.1}, "shifts its latents (shift_factor)"),
        ("vae/config.json", {"latents_mean": [0.0] * 4}, "shifts its latents (latents_mean)"),
        ("text_encoder/config.json", {"model_type": "clip_vision_model"}, "has a 'clip_vision_model' as text_encoder"),
        ("text_encoder/config.json", {"model_type": "t5"}, "has a 't5' as text_encoder"),
        ("model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}, "has a AutoencoderTiny as vae"),
        ("model_index.json", {"text_encoder": ["transformers", "CLIPVisionModel"]}, "has a CLIPVisionModel"),
        ("model_index.json", {"vae": "AutoencoderKL"}, "must give [library, class] for vae; got 'AutoencoderKL'"),
        ("model_index.json", {"scheduler": 3, "unet": 3}, "samecast runs Stable Diffusion"),
    ],
)
def test_other_parts_are_refused(copy: Path, file: str, fields: dict[str, Any], data: str) -> None:
    assert data in change(copy, file, **fields)


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    "text", ["[]", "null", "3", '"text"', "[" * 50_000, '{"a":' * 50_000, "", "\xff", '{"a": 1e999}']
)
def test_configurations_that_are_no_objects_are_one_line(copy: Path, file: str, text: str) -> None:
    (copy / file).write_bytes(text.encode("latin-1"))
    with pytest.raises(SamecastError) as caught:
        load_backbone(copy, device="cpu")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name",
    [
        "PNDMScheduler",
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "LCMScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_samplers_over_the_same_noise_levels_are_taken(tiny_pipeline_dir: Path, tmp_path: Path, name: str) -> None:
    place = Path(shutil.copytree(tiny_pipeline_dir, tmp_path / "model"))
    path = place / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": name}))
    index = place / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", name]}))
    original = load_backbone(tiny_pipeline_dir, device="cpu").schedule(10)
    assert load_backbone(place, device="cpu").schedule(10) == original
