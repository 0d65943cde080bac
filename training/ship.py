"""Put what the recipes made into the package: `python -m training.ship` writes `src/samecast/weights`, all of it fp16.

The pipeline is a stock StableDiffusionPipeline directory; CLIP, the ViT and the probe lie beside it. The transformers'
configs say float32, or they would be loaded in the half precision they are stored in, beside a float32 denoiser.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer, ViTModel

from samecast.models.directory import GUIDANCE
from training.data import ROOT
from training.unet import SCHEDULE

WEIGHTS = Path("src/samecast/weights")
SCALE = 5.0
"""Guidance that suits the embedded model: more of it keeps scenes no better and leads subjects astray."""
PARTS = ("vae", "clip", "vit", "probe", "unet")


def in_float32(config: Path) -> None:
    """Make a transformers config ask for float32 on loading."""
    values = json.loads(config.read_text())
    values.pop("torch_dtype", None)
    config.write_text(json.dumps(values | {"dtype": "float32"}, indent=2) + "\n")


def checked(clip: CLIPModel, text: CLIPTextModel) -> CLIPTextModel:
    """Return the denoiser's text encoder; it must be CLIP's text tower too, to the half precision that ships."""
    tower = clip.text_model.half().state_dict()
    if any(not torch.equal(value, tower[name]) for name, value in text.half().state_dict().items()):
        raise SystemExit(
            "CLIP's text tower is not what the denoiser was trained with: "
            "run 'python -m training.clip --text runs/unet/text_encoder' first"
        )
    return text


def main() -> None:
    """Assemble the weights and print their sizes."""
    clip = CLIPModel.from_pretrained(ROOT / "clip" / "model")
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(ROOT / "vae" / "model"),
        text_encoder=checked(clip, CLIPTextModel.from_pretrained(ROOT / "unet" / "text_encoder")),
        tokenizer=CLIPTokenizer.from_pretrained(ROOT / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(ROOT / "unet" / "model"),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16)
    pipeline.register_to_config(**{GUIDANCE: SCALE})
    shutil.rmtree(WEIGHTS / "diorama", ignore_errors=True)
    pipeline.save_pretrained(WEIGHTS / "diorama")
    in_float32(WEIGHTS / "diorama" / "text_encoder" / "config.json")
    vit = ViTModel.from_pretrained(ROOT / "vit" / "model", add_pooling_layer=False)
    for name, model in (("clip", clip), ("vit", vit)):
        shutil.rmtree(WEIGHTS / name, ignore_errors=True)
        shutil.copytree(ROOT / name / "model", WEIGHTS / name, ignore=shutil.ignore_patterns("*.safetensors"))
        model.half().save_pretrained(WEIGHTS / name)
        in_float32(WEIGHTS / name / "config.json")
    shutil.copytree(ROOT / "probe" / "model", WEIGHTS / "probe", dirs_exist_ok=True)
    facts = {part: json.loads((ROOT / part / "facts.json").read_text()) for part in PARTS}
    (WEIGHTS / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    for file in sorted(WEIGHTS.rglob("*.safetensors")):
        print(f"{file.stat().st_size / 1e6:6.1f} MB  {file}")
    total = sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file())
    print(f"{total / 1e6:6.1f} MB  together")


if __name__ == "__main__":
    main()
