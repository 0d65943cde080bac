"""What `training.report` measures, each on held-out seeds, each by a function of its own."""

import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from rich.progress import track

import samecast as sc
from samecast.core.settings import RenderSettings
from samecast.diorama.captions import caption, facts, phrase
from samecast.diorama.colours import ciede2000, word_margin
from samecast.diorama.probe import Reading, load_probe
from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import Spec, sample_spec
from samecast.metrics.alignment import load_clip, load_vit
from samecast.photos import open_photo
from samecast.render.quality import measure
from training.ship import WEIGHTS
from training.vit import pairs

CLEAR = 6.0
"""A colour counts as away from word boundaries when its second nearest word is this much further (CIEDE2000)."""


def judged(readings: list[Reading], truths: list[dict[str, str]], clear: list[bool]) -> dict[str, float]:
    """Return the share of right readings per attribute, over the pictures whose truth states it."""
    scores: dict[str, float] = {}
    for name in ATTRIBUTES:
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
    for start in range(0, len(pictures), 32):
        x = (
            torch.from_numpy(np.stack([picture.image for picture in pictures[start : start + 32]])).permute(0, 3, 1, 2)
            / 127.5
            - 1
        )
        with torch.no_grad():
            y = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        rebuilt += list(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    probe, truths = load_probe(), [facts(spec) for spec in specs]
    clear = [word_margin(spec.identity.base) >= CLEAR for spec in specs]
    kept = measure([Image.fromarray(p.image) for p in pictures], [Image.fromarray(image) for image in rebuilt])
    found: dict[str, Any] = {
        "vae_psnr": float(np.mean([fidelity.psnr for fidelity in kept])),
        "vae_ssim": float(np.mean([fidelity.ssim for fidelity in kept])),
        "vae_subject_psnr": float(
            np.mean([masked_psnr(p.image, image, p.mask) for p, image in zip(pictures, rebuilt, strict=True)])
        ),
        "confusion": {},
    }
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
        found["confusion"][name] = confusion(readings, truths)
    return found


def masked_psnr(image: np.ndarray, rebuilt: np.ndarray, mask: np.ndarray) -> float:
    """Return the PSNR of two uint8 pictures (height, width, 3) where the mask is true, in dB."""
    error = (image[mask].astype(np.float64) - rebuilt[mask]) / 255
    return float(-10 * np.log10(np.mean(error**2)))


ATTRIBUTES = ("kind", "colour", "pattern", "accessory", "pose", "view", "background")


def stating(first_seed: int, each: int) -> list[Spec]:
    """Return the scenes from a seed on, as many as it takes for `each` captions to state every attribute."""
    rng, specs, stated = np.random.default_rng(0), [], Counter[str]()
    while min(stated[name] for name in ATTRIBUTES) < each:
        specs.append(sample_spec(first_seed + len(specs)))
        stated.update(list(caption(specs[-1], rng).states))
    return specs


def pictures_of(
    pipeline: StableDiffusionPipeline, texts: list[str], steps: int, guidance: float, folder: Path
) -> list[Image.Image]:
    """Generate a picture per text, seeded by its number, and keep it in a folder; those that are there are not made
    again."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:05d}.png" for number in range(len(texts))]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    starts = range(0, len(missing), 16)
    for start in track(starts, f"{len(missing)} pictures to make"):
        part = missing[start : start + 16]
        images = pipeline(
            [texts[number] for number in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(number) for number in part],
        ).images
        for number, image in zip(part, images, strict=True):
            image.save(files[number].with_suffix(".part"), format="PNG")
            files[number].with_suffix(".part").replace(files[number])
    return [open_photo(file) for file in files]


def text_to_image(
    pipeline: StableDiffusionPipeline, specs: list[Spec], steps: int, guidance: float, folder: Path, sheet: Path | None
) -> dict[str, Any]:
    """Generate a picture per held-out caption and let the probe say what came; the pictures are kept in a folder."""
    rng = np.random.default_rng(0)
    data = [caption(spec, rng) for spec in specs]
    images = pictures_of(pipeline, [each.text for each in data], steps, guidance, folder)
    readings, truths = load_probe().read(images), [each.states for each in data]
    scores = judged(readings, truths, [word_margin(s.identity.base) >= CLEAR for s in specs])
    if sheet:
        grid = Image.new("RGB", (8 * 128, 6 * 128))
        for index, image in enumerate(images[:48]):
            grid.paste(image, (index % 8 * 128, index // 8 * 128))
        grid.save(sheet)
        sheet.with_suffix(".txt").write_text("\n".join(each.text for each in data[:48]))
    return scores | {
        "steps": steps,
        "guidance": guidance,
        "count": len(specs),
        "stated": {name: sum(name in truth for truth in truths) for name in ATTRIBUTES},
        "confusion": confusion(readings, truths),
    }


def same_subject(count: int) -> dict[str, float]:
    """Return how often the first of two pictures of a held-out subject is nearest to the second, of `count` subjects:
    by CLIP's and by the ViT's image embedding."""
    images = [Image.fromarray(picture.image) for picture in render_many(pairs(count), 128)]
    found: dict[str, float] = {}
    for name, scorer in (("clip", load_clip()), ("vit", load_vit())):
        rows = scorer.embed_images(images)
        found[name] = ((rows[::2] @ rows[1::2].T).argmax(1) == torch.arange(count)).float().mean().item()
    return found


def retrieval(specs: list[Spec]) -> float:
    """Return CLIP's top-1 among as many distinct scenes, each described in full."""
    scorer = load_clip()
    images = scorer.embed_images([Image.fromarray(picture.image) for picture in render_many(specs, 128)])
    cosines = images @ scorer.embed_texts([phrase(facts(spec)) for spec in specs]).T
    return (cosines.argmax(1) == torch.arange(len(specs))).float().mean().item()


def confusion(readings: list[Reading], truths: list[dict[str, str]]) -> dict[str, dict[str, int]]:
    """Return what was taken for what, and how often, by attribute: `{"pattern": {"spotted for plain": 3}}`."""
    found: dict[str, dict[str, int]] = {}
    for name in ("kind", "pattern", "accessory", "pose", "view", "background"):
        pairs = Counter(
            f"{getattr(reading, name)} for {truth[name]}"
            for reading, truth in zip(readings, truths, strict=True)
            if name in truth and getattr(reading, name) != truth[name]
        )
        found[name] = dict(pairs.most_common())
    return found


def diversity(
    pipeline: StableDiffusionPipeline, specs: list[Spec], seeds: int, steps: int, guidance: float
) -> dict[str, float]:
    """Generate `seeds` pictures of each prompt. Return the mean difference of two of one prompt (root mean square in
    grey levels, 0..255), and how many of them are distinct: no two nearer than `TWINS`."""
    rng, apart, distinct = np.random.default_rng(1), list[float](), list[int]()
    for spec in specs:
        images = pipeline(
            [caption(spec, rng).text] * seeds,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed) for seed in range(seeds)],
        ).images
        arrays = [np.asarray(image, dtype=np.float32) for image in images]
        apart += [difference(a, b) for a, b in combinations(arrays, 2)]
        distinct.append(distinct_of(arrays))
    return {"rms": float(np.mean(apart)), f"distinct_of_{seeds}": float(np.mean(distinct))}


TWINS = 5.0
"""Two pictures count as one below this difference (root mean square in grey levels)."""


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the root mean square difference of two pictures."""
    return float(np.sqrt(np.mean((a - b) ** 2)))


def distinct_of(pictures: list[np.ndarray]) -> int:
    """Return how many of the pictures are left when those near an earlier one are struck out."""
    kept: list[np.ndarray] = []
    for picture in pictures:
        if all(difference(picture, other) >= TWINS for other in kept):
            kept.append(picture)
    return len(kept)


def inversion(specs: list[Spec]) -> dict[str, float]:
    """Invert renders, captioned by their class, and denoise them again so, 50 steps, without guidance and without
    replay; and the same with replay. Return the mean PSNR of both in dB, the autoencoder's loss included."""
    model, plain, replayed = sc.load(), list[float](), list[float]()
    for spec, picture in zip(specs, render_many(specs, 128), strict=True):
        data = f"a photo of a {spec.identity.kind}"
        settings = RenderSettings(guidance_scale=1.0, source_prompt=data, check_inversion=True)
        out = model.render(sc.Subject((Image.fromarray(picture.image),)), [data], rules=(), settings=settings)
        plain.append(out.inversion[0].psnr)
        replayed.append(out.source_psnr or float("nan"))
    return {"plain_psnr": float(np.mean(plain)), "replayed_psnr": float(np.mean(replayed))}


def speeds(rows: int = 32) -> dict[str, float]:
    """Return the seconds to load the pipeline, and evaluations per second in batches of 32 at this many threads."""
    began = time.perf_counter()
    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "diorama")
    loading = time.perf_counter() - began
    channels, width = pipeline.unet.config.in_channels, pipeline.unet.config.cross_attention_dim
    latents, context = torch.randn(rows, channels, 16, 16), torch.randn(rows, 77, width)
    with torch.no_grad():
        pipeline.unet(latents, 500, encoder_hidden_states=context)
        began = time.perf_counter()
        for _ in range(10):
            pipeline.unet(latents, 500, encoder_hidden_states=context)
    rate = 10 * rows / (time.perf_counter() - began)
    return {"load_seconds": loading, "evaluations_per_second": rate, "threads": float(torch.get_num_threads())}
