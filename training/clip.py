"""The CLIP model: `python -m training.clip --minutes 12` fits a CLIPModel to pairs of render and caption.

Its text tower is the pipeline's text encoder, its image tower the scorer (Radford et al., 2021: symmetric contrastive
loss). Pictures enter at 64 px: the scorer resizes any image to that. `--text FOLDER` takes the text tower that a
denoiser was trained with as it is and trains the image tower and the two projections alone (Zhai et al., 2022).
"""

import json

import numpy as np
import torch
from torch.nn import functional as F
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from samecast.diorama.captions import caption, facts, phrase
from samecast.diorama.scenes import HELD_OUT, Spec, sample_spec
from training.data import ROOT, Pictures
from training.even import evening
from training.loop import recipe, train

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def build(tokenizer: CLIPTokenizer, width: int, layers: int) -> CLIPModel:
    """Return the untrained model: two towers of the same width, pictures of 64 px in patches of 8."""
    shared = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
    }
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = CLIPTextConfig(
        **shared,
        **ids,
        vocab_size=len(tokenizer),
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        projection_dim=128,
    )
    vision = CLIPVisionConfig(**shared, image_size=64, patch_size=8, hidden_act="quick_gelu", projection_dim=128)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128))


def small(images: np.ndarray) -> torch.Tensor:
    """Halve uint8 pictures (n, 128, 128, 3) to 64 px and normalise them, (n, 3, 64, 64), as CLIP's processor does:
    bicubic, antialiased, rounded."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=(64, 64), mode="bicubic", antialias=True).clamp(0, 255).round() / 255
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@torch.no_grad()
def lock(model: CLIPModel, text: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
    """Give a model this text tower, as it is. If the tower is new to it, the projection starts afresh, evening out what
    captions differ in: to a denoiser's text encoder, backgrounds may be 95% of that, and a pattern a thousandth."""
    before, held = model.text_model.state_dict(), text.state_dict()
    new = any(not torch.equal(before[name].cpu(), value) for name, value in held.items())
    model.text_model.load_state_dict(held)
    model.text_model.requires_grad_(False)
    if new:
        rng = np.random.default_rng(0)
        texts = [caption(sample_spec(index), rng).text for index in range(2048)]
        ids = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt").to(
            model.device
        )
        rows = torch.cat([model.text_model(part).pooler_output for part in ids.input_ids.split(256)])
        model.text_projection.weight.copy_(evening(rows, floor=0.001)[0][: model.projection_dim])


class Specs:
    """Specs by number, computed once; odd mirror images are the mirrored spec's."""

    def __init__(self, first: int, count: int) -> None:
        self.specs = [sample_spec(first + index) for index in range(count)]

    def at(self, index: int, mirrored: bool) -> Spec:
        """Return the spec of picture `index`, or of its mirror image."""
        return self.specs[index].mirrored() if mirrored else self.specs[index]


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    made, given = recipe("clip", minutes=12.0, rate=1.5e-3, batch=128, width=128, layers=4, text="")
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
    model = CLIPModel.from_pretrained(made.init_from) if made.init_from else build(tokenizer, given.width, given.layers)
    model = model.to(made.device)
    if given.text:
        lock(model, CLIPTextModel.from_pretrained(given.text).float(), tokenizer)
    pictures, held_out = Pictures(), Pictures("held-out")
    ready = pictures.ready
    specs, unseen = Specs(0, ready), Specs(HELD_OUT, 256)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {ready} pictures", flush=True)

    def encode(texts: list[str]) -> dict[str, torch.Tensor]:
        batch = tokenizer(texts, padding="max_length", max_length=32, truncation=True, return_tensors="pt")
        return {name: value.to(made.device) for name, value in batch.items()}

    def similarities(images: np.ndarray, texts: list[str]) -> torch.Tensor:
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            seen = model.get_image_features(pixel_values=small(images).to(made.device)).pooler_output
        record = model.get_text_features(
            **encode(texts)
        ).pooler_output  # half precision would drown the small directions
        cosines = F.normalize(seen.float(), dim=-1) @ F.normalize(record, dim=-1).T
        return cosines * model.logit_scale.exp()

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(made.draws(step))
        picks = np.sort(rng.integers(ready, size=made.batch))
        mirrored = rng.uniform(size=made.batch) < 0.5
        images = np.stack(
            [pictures.images[i][:, ::-1] if m else pictures.images[i] for i, m in zip(picks, mirrored, strict=True)]
        )
        texts = [caption(specs.at(i, bool(m)), rng).text for i, m in zip(picks, mirrored, strict=True)]
        logits = similarities(images, texts)
        same = torch.tensor([[a == b for b in texts] for a in texts], device=logits.device)
        goal = same.float() / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, goal) + F.cross_entropy(logits.T, goal)) / 2
        return loss, {
            "top1": (logits.argmax(1) == torch.arange(len(logits), device=logits.device)).float().mean().item()
        }

    def evaluate(step: int) -> dict[str, float]:
        logits = similarities(held_out.images[:256], [phrase(facts(spec)) for spec in unseen.specs])
        right = torch.arange(256, device=logits.device)
        return {"top1_of_256": (logits.argmax(1) == right).float().mean().item()}

    model.load_state_dict(train(made, model, loss_at, evaluate, evaluate_every=500))
    model.save_pretrained(made.folder / "model")
    tokenizer.save_pretrained(made.folder / "model")
    CLIPImageProcessor(
        size={"shortest_edge": 64}, crop_size=64, image_mean=list(MEAN), image_std=list(STD)
    ).save_pretrained(made.folder / "model")
    print(json.dumps({"saved": str(made.folder / "model")}))


if __name__ == "__main__":
    main()
