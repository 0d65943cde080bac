"""Measure the shipped weights: `python -m training.report` prints one table and writes
`src/samecast/weights/quality.json`.

Everything is on held-out seeds. The probe judges; what it scores on renders and on reconstructions stands beside what
it says of generated pictures, so that its own errors can be told from the model's.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.console import Console
from rich.table import Table
from transformers import CLIPModel, CLIPTokenizer

from samecast.diorama.captions import caption, facts, phrase
from samecast.diorama.colours import ciede2000, word_margin
from samecast.diorama.probe import Reading, load_probe
from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import HELD_OUT, Spec, sample_spec
from training.clip import small
from training.ship import WEIGHTS

CLEAR = 6.0
"""A colour counts as away from word boundaries when its second nearest word is this much further (CIEDE2000)."""


def judged(readings: list[Reading], truths: list[dict[str, str]], clear: list[bool]) -> dict[str, float]:
    """Return the share of right readings per attribute, over the pictures whose truth states it."""
    scores: dict[str, float] = {}
    for name in ("kind", "colour", "pattern", "accessory", "pose", "view", "background"):
        hits = [
            getattr(reading, name) == truth[name]
            for reading, truth, sure in zip(readings, truths, clear, strict=True)
            if name in truth and (name != "colour" or sure)
        ]
        scores[name] = float(np.mean(hits)) if hits else float("nan")
    return scores


def renders_and_reconstructions(pipeline: StableDiffusionPipeline, specs: list[Spec]) -> dict[str, Any]:
    """Score the autoencoder, and the probe on renders and on what the autoencoder makes of them."""
    pictures = list(render_many(specs, 128))
    rebuilt: list[np.ndarray] = []
    psnr: list[float] = []
    for start in range(0, len(pictures), 32):
        x = (
            torch.from_numpy(np.stack([picture.image for picture in pictures[start : start + 32]])).permute(0, 3, 1, 2)
            / 127.5
            - 1
        )
        with torch.no_grad():
            y = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        psnr += (-10 * torch.log10((y - x).square().mean(dim=(1, 2, 3)) / 4)).tolist()
        rebuilt += list(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    probe, truths = load_probe(), [facts(spec) for spec in specs]
    clear = [word_margin(spec.identity.base) >= CLEAR for spec in specs]
    found: dict[str, Any] = {"vae_psnr": float(np.mean(psnr))}
    for name, images in (("renders", [picture.image for picture in pictures]), ("reconstructions", rebuilt)):
        readings = probe.read(images)
        scores = judged(readings, truths, clear)
        for which in ("base", "second"):
            pairs = [
                (getattr(reading, which), getattr(spec.identity, which))
                for reading, spec in zip(readings, specs, strict=True)
            ]
            scores[f"{which}_error"] = float(np.mean([ciede2000(a, b) for a, b in pairs]))
        overlap = [
            (r.mask & p.mask).sum() / max((r.mask | p.mask).sum(), 1) for r, p in zip(readings, pictures, strict=True)
        ]
        found[f"probe_{name}"] = scores | {"mask_iou": float(np.mean(overlap))}
    return found


def text_to_image(
    pipeline: StableDiffusionPipeline, specs: list[Spec], steps: int, guidance: float, sheet: Path | None
) -> dict[str, Any]:
    """Generate a picture per held-out caption and let the probe say what came."""
    rng = np.random.default_rng(0)
    told = [caption(spec, rng) for spec in specs]
    images: list[Image.Image] = []
    began = time.perf_counter()
    for start in range(0, len(told), 16):
        part = told[start : start + 16]
        generators = [torch.Generator().manual_seed(start + index) for index in range(len(part))]
        images += pipeline(
            [each.text for each in part], num_inference_steps=steps, guidance_scale=guidance, generator=generators
        ).images
    seconds = time.perf_counter() - began
    scores = judged(
        load_probe().read(images),
        [each.states for each in told],
        [word_margin(s.identity.base) >= CLEAR for s in specs],
    )
    if sheet:
        grid = Image.new("RGB", (8 * 128, 6 * 128))
        for index, image in enumerate(images[:48]):
            grid.paste(image, (index % 8 * 128, index // 8 * 128))
        grid.save(sheet)
        sheet.with_suffix(".txt").write_text("\n".join(each.text for each in told[:48]))
    return scores | {
        "steps": steps,
        "guidance": guidance,
        "count": len(specs),
        "evaluations_per_second": 2 * steps * len(specs) / seconds,
    }


def retrieval(specs: list[Spec]) -> float:
    """Return CLIP's top-1 among 256 distinct scenes, each described in full."""
    model, tokenizer = CLIPModel.from_pretrained(WEIGHTS / "clip"), CLIPTokenizer.from_pretrained(WEIGHTS / "clip")
    images = small(np.stack([picture.image for picture in render_many(specs, 128)]))
    ids = tokenizer([phrase(facts(spec)) for spec in specs], padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=images, **ids).logits_per_image
    return (logits.argmax(1) == torch.arange(len(specs))).float().mean().item()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--sheet", type=Path, help="also save the first 48 generated pictures here")
    given = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "diorama")
    pipeline.set_progress_bar_config(disable=True)
    specs = [sample_spec(HELD_OUT + index) for index in range(given.count)]
    found = renders_and_reconstructions(pipeline, specs)
    found["clip_top1_of_256"] = retrieval(specs[:256])
    found["text_to_image"] = text_to_image(pipeline, specs, given.steps, given.guidance, given.sheet)
    found["parameters"] = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in ("unet", "vae", "text_encoder")
    }
    headline = f"VAE {found['vae_psnr']:.2f} dB; CLIP top-1 {found['clip_top1_of_256']:.1%}"
    table = Table(title=f"{given.count} held-out scenes; {headline}")
    for heading in ("attribute", "probe on renders", "on reconstructions", "text to image"):
        table.add_column(heading, justify="left" if heading == "attribute" else "right")
    for name, value in found["probe_renders"].items():
        shown = [found["probe_renders"][name], found["probe_reconstructions"][name], found["text_to_image"].get(name)]
        form = "{:.2f}" if "error" in name or "iou" in name else "{:.1%}"
        table.add_row(name, *(form.format(value) if value is not None else "" for value in shown))
    Console().print(table)
    (WEIGHTS / "quality.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
