"""Go on from what is shipped: `python -m training.start` puts the package's weights where the recipes look for theirs.

A fresh clone has no `runs/`. This is the way back from `training.ship`, so that `training.latents`, `--init-from
runs/unet/model` and the like work in it; renders are drawn again (`training.data`), being too large to keep.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, PreTrainedModel, ViTModel

from training.data import ROOT
from training.ship import PARTS, WEIGHTS


def main() -> None:
    """Fill `runs/<part>`; parts that are already there stay as they are."""
    models: dict[str, tuple[type[ModelMixin] | type[PreTrainedModel], Path]] = {
        "vae/model": (AutoencoderKL, WEIGHTS / "diorama" / "vae"),
        "unet/model": (UNet2DConditionModel, WEIGHTS / "diorama" / "unet"),
        "unet/text_encoder": (CLIPTextModel, WEIGHTS / "diorama" / "text_encoder"),
        "clip/model": (CLIPModel, WEIGHTS / "clip"),
        "vit/model": (ViTModel, WEIGHTS / "vit"),
    }
    for place, (kind, source) in models.items():
        if (ROOT / place).exists():
            print(f"left alone: {ROOT / place}")
            continue
        extra = {"add_pooling_layer": False} if kind is ViTModel else {}
        kind.from_pretrained(source, **extra).to(torch.float32).save_pretrained(ROOT / place)
        for file in source.iterdir():  # a scorer's preprocessing and tokenizer
            if file.suffix != ".safetensors" and not (ROOT / place / file.name).exists():
                shutil.copy(file, ROOT / place)
        print(f"{source} -> {ROOT / place}")
    for place, source in (("probe/model", WEIGHTS / "probe"), ("tokenizer", WEIGHTS / "diorama" / "tokenizer")):
        shutil.copytree(source, ROOT / place, dirs_exist_ok=True)
    facts = json.loads((WEIGHTS / "training.json").read_text())
    for part in PARTS:
        if part in facts and not (ROOT / part / "facts.json").exists():
            (ROOT / part / "facts.json").write_text(json.dumps(facts[part], indent=2))


if __name__ == "__main__":
    main()
