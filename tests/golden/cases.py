"""Runs whose outcome is written down: what each case computes, as named tensors.

Models compute in float64, so that the numbers do not depend on the processor.
Everything that could have a default is given, so that a better default does not move a number.
"""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

import samecast as sc
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens

STEPS = 7
PROMPTS = ["a dog running on the beach", "a dog asleep"]
LOOK = SubjectTokens("dog", "@1/1,@1/2", Steps(), 0.4)
Named = dict[str, Tensor]


def photo(number: int = 0) -> Image.Image:
    """A colourful square picture."""
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)


def mask(left: bool = True) -> Image.Image:
    """White in its left or right part."""
    image = Image.new("L", (96, 96), 0)
    image.paste(255, (0, 0, 56, 96) if left else (56, 0, 96, 96))
    return image


@contextmanager
def decoded_latents(pipeline: Any) -> Any:
    """All that the autoencoder decodes meanwhile, (picture, channel, height, width)."""
    seen: list[Tensor] = []
    hook = pipeline.vae.post_quant_conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    try:
        yield seen
    finally:
        hook.remove()


def in_float64(directory: Path) -> sc.Model:
    model = sc.load(directory, device="cpu")
    model.backbone.pipeline.to(torch.float64)  # type: ignore[attr-defined]
    return model


def rendered(model: sc.Model, subject: sc.Subject | None, rules: sc.Rules, **settings: Any) -> Named:
    """Latents of pictures and sources, and the maps of masks that were found."""
    masks = settings.pop("target_masks", ())
    prompts = settings.pop("prompts", PROMPTS)
    given = {"steps": STEPS, "guidance_scale": 7.5, "init": "inverted", **settings}
    with decoded_latents(model.backbone.pipeline) as latents:  # type: ignore[attr-defined]
        result = model.render(subject, prompts, rules=rules, settings=sc.RenderSettings(**given), target_masks=masks)
    found = {"latents": torch.cat(latents).float(), "evaluations": torch.tensor(result.evaluations)}
    for number, seen in enumerate(result.found_masks):
        found[f"map{number}"] = torch.from_numpy(np.array(seen.map)) / 255
    return found


def render_cases(model: sc.Model, where: str) -> dict[str, Callable[[], Named]]:
    """Every named method and every way to say what is read."""
    one, two = sc.Subject((photo(),), class_noun="dog"), sc.Subject((photo(), photo(1)), class_noun="dog")
    masked = sc.Subject((photo(),), class_noun="dog", masks=(mask(),))
    several = sc.Subject((photo(), photo(1)), class_noun="dog", masks=(mask(), mask(left=False)))
    masks = (mask(), mask(left=False))
    plain = sc.masactrl(2, 6, layers=where)
    return {
        "none": lambda: rendered(model, one, ()),
        "masactrl": lambda: rendered(model, one, plain),
        "masactrl skip": lambda: rendered(model, one, sc.masactrl(0, None, 3, where)),
        "masactrl stride": lambda: rendered(model, one, sc.masactrl(1, None, None, where, 2)),
        "masactrl two references": lambda: rendered(model, two, plain),
        "masactrl generated": lambda: rendered(model, None, plain, source_prompt="a dog", seed=3),
        "masactrl captioned": lambda: rendered(model, one, plain, source_prompt="a photo of a dog"),
        "masactrl pairing": lambda: rendered(model, one, plain, pairing="masactrl"),
        "masactrl fixed point": lambda: rendered(model, one, plain, fixed_point=2),
        "masactrl noise": lambda: rendered(model, one, plain, init="noise", seed=5, images_per_prompt=2),
        "masactrl blend": lambda: rendered(model, one, plain, init=0.3, seed=5),
        "masactrl no guidance": lambda: rendered(model, one, plain, guidance_scale=1.0),
        "masactrl rescaled": lambda: rendered(model, one, plain, guidance_rescale=0.7, negative_prompt="a cat"),
        "masactrl live source": lambda: rendered(model, one, plain, source_memory=0.0),
        "masactrl small": lambda: rendered(model, one, plain, size=32),
        "masactrl_union": lambda: rendered(model, one, sc.masactrl_union(2, 6, layers=where)),
        "masactrl_masked": lambda: rendered(model, masked, sc.masactrl_masked(2, 6, layers=where), target_masks=masks),
        "masactrl_auto_masked": lambda: rendered(model, one, sc.masactrl_auto_masked(2, 6, layers=where, tokens=LOOK)),
        "masactrl_auto_masked captioned": lambda: rendered(
            model, one, sc.masactrl_auto_masked(2, 6, layers=where, tokens=LOOK), source_prompt="a photo of a dog"
        ),
        "style_aligned": lambda: rendered(model, one, sc.style_aligned(0, 6, layers="all")),
        "style_aligned anchor": lambda: rendered(
            model, None, sc.style_aligned(0, 6, layers="all", anchor=0), init="noise", seed=2
        ),
        "consistory": lambda: rendered(
            model, None, sc.consistory(1, 6, layers="decoder", dropout=0.5), init="noise", target_masks=masks
        ),
        "free_custom": lambda: rendered(model, several, sc.free_custom(0, 6, layers=where, weight=3.0)),
        "dream_matcher": lambda: rendered(
            model, one, sc.dream_matcher(2, 6, layers=where, tokens=LOOK, consistency=0.4)
        ),
        "two rules": lambda: rendered(
            model, one, sc.masactrl(0, 2, layers="encoder") + sc.masactrl_union(3, None, layers=where)
        ),
        "one reader": lambda: rendered(model, one, (sc.Rule((1,), ("source", 0), where, Steps(1, 6)),)),
    }


def attached(pipeline: Any, rules: sc.Rules, prompts: list[str], **how: Any) -> Named:
    """Latents of a stock pipeline's pictures under control."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    generators = [torch.Generator().manual_seed(7)] * len(prompts)
    with torch.inference_mode(), sc.attach(pipeline, rules, **how):
        output = pipeline(
            prompts, num_inference_steps=STEPS, guidance_scale=7.5, generator=generators, output_type="latent"
        )
    return {"latents": output.images.float()}


def attach_cases(directory: Path, where: str) -> dict[str, Callable[[], Named]]:
    """The same inside stock pipelines."""
    is_xl = "XL" in (directory / "model_index.json").read_text()
    cls: Any = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline

    def pipe() -> Any:
        return cls.from_pretrained(directory).to(torch.float64)

    rows = ["a dog", *PROMPTS]
    masks = sc.masactrl_auto_masked(2, 6, layers=where, tokens=LOOK)
    return {
        "rows": lambda: attached(pipe(), sc.masactrl(2, 6, layers=where), rows, sources=[0]),
        "rows masked": lambda: attached(pipe(), masks, rows, sources=[0], class_noun="dog"),
        "photo": lambda: attached(pipe(), sc.masactrl(2, 6, layers=where), PROMPTS, sources=photo()),
        "photo first step": lambda: attached(pipe(), sc.masactrl(0, 6, layers=where), PROMPTS, sources=photo()),
        "photo masked": lambda: attached(pipe(), masks, PROMPTS, sources=photo(), class_noun="dog"),
        "photo live": lambda: attached(
            pipe(), sc.masactrl(2, 6, layers=where), PROMPTS, sources=photo(), source_memory=0.0
        ),
        "style_aligned": lambda: attached(pipe(), sc.style_aligned(0, 6, anchor=0), rows),
    }


def study_case(directory: Path, folder: Path) -> Named:
    """The latents and scores of a small grid, whose runs share what they have in common."""
    from samecast.study.axes import parse_axis
    from samecast.study.binding import orders_of
    from samecast.study.grid import factorial
    from samecast.study.job import prepare, run_study
    from samecast.study.recipe import Recipe
    from samecast.study.scoring import metrics_of
    from samecast.study.subjects import StudySubject
    from samecast.study.table import Rows
    from samecast.study.unit import ExecutionConfig

    model = in_float64(directory)
    grid = factorial([parse_axis("final=3,6"), parse_axis("layers=encoder,10-15")], {"start": 2}, STEPS)
    settings = sc.RenderSettings(steps=STEPS, guidance_scale=7.5, size=32)
    recipe = Recipe(grid, settings, str(model.backbone.identity.id), "", "", clip="diorama")
    subject = StudySubject("rex", tuple(PROMPTS), (photo(),), "dog")
    study, recipe = prepare(folder / "study", recipe, [subject], model.backbone)
    run_study(study, ExecutionConfig(study.path), backbone=model.backbone)
    found: Named = {}
    (kept,) = (found for found in study.subjects() if isinstance(found, StudySubject))
    for order in orders_of(recipe, kept):
        found[f"{order.variant.name}, {order.cast.prompt}"] = study.latent(order.key).float()
    for row in Rows(study, metrics_of(recipe)):
        scores = [row["text_alignment"], row["image_alignment"]]
        found[f"{row['variant']}, {row['prompt']}, scores"] = torch.tensor(scores)
    return found


def learn_case(model: sc.Model, folder: Path, method: str) -> Named:
    """The losses of a short training."""
    from samecast.learn.job import learn
    from samecast.learn.lists import from_folder
    from samecast.learn.settings import LearnSettings
    from samecast.learn.watch import Watching

    photos, classes = folder / "photos", folder / "class"
    for place, first in ((photos, 0), (classes, 10)):
        place.mkdir(parents=True)
        for number in range(2):
            photo(first + number).save(place / f"{number}.png")
    subject = from_folder(photos, "dog", class_folder=classes)
    settings = LearnSettings(
        method=method,
        steps=4,
        batch=2,
        learning_rate=1e-3,
        token_rate=1e-2,
        class_images=2,  # type: ignore[arg-type]
    )
    learned = learn(model, [subject], settings, folder / "out", watching=Watching(show_every=0))
    losses = [loss for _, loss in learned.concept.training["losses"]]
    return {"losses": torch.tensor(losses), "last": torch.tensor(learned.loss)}


def flat(cases: Mapping[str, Named]) -> Named:
    """All tensors under the names of their cases."""
    return {f"{case}/{name}": value for case, named in cases.items() for name, value in named.items()}
