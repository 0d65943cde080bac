"""The denoiser: `python -m training.unet --minutes 80` fits a UNet2DConditionModel of SD 1.x's topology to cached
latents.

Epsilon prediction on SD's noise schedule; min-SNR weighting (Hang et al., 2023, gamma 5) times the square root of what
would make it the loss of v-prediction, so that large shapes, decided in much noise, are not learned last; a tenth of
the captions dropped for classifier-free guidance; the averaged weights are the ones that ship. The text encoder starts
as CLIP's and learns along; `training.clip --text` then fits CLIP's image tower to it.

With `--diptychs 0.3` three steps in ten are on canvases of twice the width: two photos of one subject side by side, as
albums and product pages of the web show them. Scenes with one subject in one picture give self-attention colours to
keep together, and little else; Stable Diffusion has seen things repeat. With `--duos 0.15` such a share of the steps is
on scenes with two subjects of different classes side by side, on the same wide canvas. `--subject 3` makes tokens on
the subject count four times as much as others: what tells one subject from another is a tenth of a picture.
"""

import math
from argparse import Namespace
from contextlib import nullcontext

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from samecast.diorama.captions import caption, duo_caption, facts, phrase
from samecast.diorama.scenes import Spec, sample_duo
from training.clip import Specs
from training.data import ROOT, Pictures
from training.even import evening
from training.fast import compile_checked, quicken
from training.loop import Recipe, recipe, train

LOOK_ALIKES = ("dog", "cat", "bear")  # four legs and a head: the classes that are mistaken for one another

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


def build(channels: int, widths: tuple[int, ...], heads: int, context: int) -> UNet2DConditionModel:
    """Return the untrained denoiser: three cross-attention levels and a plain one, two layers each, 16 sites of each
    kind."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=context,
        attention_head_dim=heads,  # in SD 1.x this setting is the number of heads
        norm_num_groups=16,
    )


def prepared(made: Recipe, given: Namespace, channels: int, context: int) -> UNet2DConditionModel:
    """Return the denoiser to start from, laid out for its device."""
    if made.init_from:
        unet = UNet2DConditionModel.from_pretrained(made.init_from)
    else:
        unet = build(channels, tuple(int(width) for width in given.widths.split(",")), given.heads, context)
    unet = unet.to(made.device, memory_format=torch.channels_last)
    if made.device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())
        quicken(unet)
    return unet


class Conditioned(nn.Module):
    """A denoiser and the text encoder that conditions it, trained together: CLIP's contrast leaves what tells a dog
    from a cat, or left from right, a few percent of the text encoder's output, too little to learn from.

    Between them stands a fixed linear map that evens the output's directions out (inverse root of the second moment,
    the smallest raised to `floor` of the mean); the keys' and values' weights take its inverse, so that nothing changes
    but how fast the small directions are learned, and `folded` gives it back to them. Without `learn` the text encoder
    stays as it is.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text: CLIPTextModel,
        ids: torch.Tensor,
        learn: bool = True,
        floor: float = 0.01,
    ) -> None:
        super().__init__()
        self.unet, self.text, self.learn = unet, text.requires_grad_(learn), learn
        with torch.no_grad():
            even, back = evening(text(ids).last_hidden_state.flatten(0, 1), floor)
            self.register_buffer("even", even)
            self.register_buffer("back", back)
            self.map_context(self.back)

    @torch.no_grad()
    def map_context(self, matrix: torch.Tensor) -> None:
        """Multiply what reads the context by a symmetric matrix."""
        for name, part in self.unet.named_modules():
            if name.endswith(("attn2.to_k", "attn2.to_v")):
                part.weight.copy_(part.weight @ matrix)

    def context(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what the denoiser reads of token ids (batch, 77): (batch, 77, width)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.learn):
            rows = self.text(ids).last_hidden_state.float()
        with torch.autocast(rows.device.type, enabled=False):  # half precision would drown the small directions
            return rows @ self.even

    def folded(self, weights: dict[str, torch.Tensor]) -> UNet2DConditionModel:
        """Take weights and return the denoiser, which then reads the text encoder's output as it is."""
        self.load_state_dict(weights)
        self.map_context(self.even)
        return self.unet


def cumulative_odds(specs: Specs, animals: float) -> np.ndarray:
    """Return the running sum of each picture's odds to be drawn, those of classes that look alike `animals` times the
    others'."""
    odds = np.array([animals if spec.identity.kind in LOOK_ALIKES else 1.0 for spec in specs.specs])
    return np.cumsum(odds / odds.sum())


def drawn_timesteps(count: int, middle: float) -> torch.Tensor:
    """Return timesteps (count), half of them uniform and half logit-normal about `middle` (0..1), where shapes are
    decided (Esser et al., 2024)."""
    uniform = torch.randint(0, 1000, (count,))
    shapes = (torch.sigmoid(math.log(middle / (1 - middle)) + 0.8 * torch.randn(count)) * 1000).long().clamp(max=999)
    return torch.where(torch.rand(count) < 0.5, uniform, shapes)


def side_by_side(spec: Spec, rng: np.random.Generator, words: float) -> str:
    """Caption two photos of a subject: a share `words` of times with half of what its looks are, else by the class
    alone."""
    told = {name: word for name, word in facts(spec).items() if name in ("colour", "pattern", "accessory")}
    share = 0.5 if rng.uniform() < words else 0.0
    states = {"kind": spec.identity.kind} | {name: word for name, word in told.items() if rng.uniform() < share}
    return f"two photos of {phrase(states)}"


class Cached:
    """What is cached of a set of pictures: latents (n, 2, channels, 16, width), plain and mirrored, and masks."""

    def __init__(self, name: str) -> None:
        pictures = Pictures(name)
        self.latents = np.load(pictures.folder / "latents.npy", mmap_mode="r")
        self.masks = pictures.masks

    def take(self, picks: np.ndarray, flip: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents of pictures, and how much of each token is subject (n, 1, 16, width); mirrored where `flip` is
        1."""
        z = torch.from_numpy(self.latents[picks, flip].astype(np.float32))
        masks = np.stack([self.masks[i][:, ::-1] if f else self.masks[i] for i, f in zip(picks, flip, strict=True)])
        return z, F.avg_pool2d(torch.from_numpy(masks.astype(np.float32)).unsqueeze(1), 8)


Drawn = tuple[torch.Tensor, torch.Tensor, list[str]]
"""Latents, the share of each token that is subject, and captions."""


class Samples:
    """What a step is on, drawn from a seed: one subject, or on wide canvases two photos of one subject or two subjects
    in one scene. A tenth of the captions is empty."""

    def __init__(self, given: Namespace) -> None:
        self.given = given
        self.singles = Cached("train")
        self.mates = Cached("mates") if given.diptychs else self.singles
        self.pairs = Cached("duos") if given.duos else self.singles
        self.specs = Specs(0, len(self.singles.latents))
        self.odds = cumulative_odds(self.specs, given.animals)

    def one(self, rng: np.random.Generator, count: int) -> Drawn:
        """Draw pictures of one subject each."""
        picks = np.sort(np.searchsorted(self.odds, rng.uniform(size=count))).clip(max=len(self.specs.specs) - 1)
        flip = rng.integers(2, size=count)
        texts = [caption(self.specs.at(i, bool(f)), rng).text for i, f in zip(picks, flip, strict=True)]
        return *self.singles.take(picks, flip), dropped(texts, rng)

    def diptychs(self, rng: np.random.Generator, count: int) -> Drawn:
        """Draw canvases with two photos of one subject each."""
        picks, flip = np.sort(rng.integers(len(self.mates.latents), size=count)), rng.integers(2, size=count)
        first = torch.from_numpy(rng.uniform(size=(count, 1, 1, 1)) < 0.5)
        z, inside = (
            torch.cat([torch.where(first, *halves), torch.where(first, *halves[::-1])], dim=-1)
            for halves in zip(self.singles.take(picks, flip), self.mates.take(picks, flip), strict=True)
        )
        return z, inside, dropped([side_by_side(self.specs.specs[i], rng, self.given.words) for i in picks], rng)

    def duos(self, rng: np.random.Generator, count: int) -> Drawn:
        """Draw scenes with two subjects each."""
        picks, flip = np.sort(rng.integers(len(self.pairs.latents), size=count)), rng.integers(2, size=count)
        seen = [sample_duo(i).mirrored() if f else sample_duo(i) for i, f in zip(picks, flip, strict=True)]
        return *self.pairs.take(picks, flip), dropped([duo_caption(duo, rng) for duo in seen], rng)

    def at(self, made: Recipe, step: int) -> tuple[str, torch.Tensor, torch.Tensor, list[str]]:
        """Return what a step is on, `eps` for one subject, and what is drawn; all processes draw the same kind."""
        drawn, rng = np.random.default_rng((made.seed, step, 2)).uniform(), np.random.default_rng(made.draws(step))
        if drawn < self.given.duos:
            return "duos", *self.duos(rng, made.batch // 2)
        if drawn < self.given.duos + self.given.diptychs:
            return "diptychs", *self.diptychs(rng, made.batch // 2)
        return "eps", *self.one(rng, made.batch)


def dropped(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Empty a tenth of captions, for classifier-free guidance."""
    return [text if rng.uniform() > 0.1 else "" for text in texts]


def main() -> None:
    """Train and save to `runs/<name>/model` and `runs/<name>/text_encoder`."""
    made, given = recipe(
        "unet", minutes=80.0, rate=1e-3, batch=32, widths="64,96,128,128", heads=4, gamma=5.0, average=0.9995,
        text="runs/clip/model", text_share=0.3, animals=2.0, middle=0.7, diptychs=0.0, words=0.5, duos=0.0,
        subject=0.0,
    )  # fmt: skip
    made.shares = {"text.": given.text_share}
    samples = Samples(given)
    # fused attention's backward pass in bf16 takes half of a step on a CPU, so it is spelled out in both
    text = CLIPTextModel.from_pretrained(given.text, dtype=torch.float32, attn_implementation="eager").to(made.device)
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
    unet = prepared(made, given, samples.singles.latents.shape[2], text.config.hidden_size)
    scheduler = DDIMScheduler(**SCHEDULE)
    alphas = scheduler.alphas_cumprod.to(made.device)
    power = samples.singles.latents[:512].astype(np.float32).var().item()
    print(
        f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, {len(samples.specs.specs)} latents x 2",
        flush=True,
    )

    def ids_of(texts: list[str]) -> torch.Tensor:
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return ids.to(made.device)

    rng = np.random.default_rng(made.seed)
    ids = ids_of([caption(spec, rng).text for spec in samples.specs.specs[:512]])
    both = Conditioned(unet, text, ids, learn=given.text_share > 0).to(made.device)
    both.train()

    def heard(texts: list[str]) -> torch.Tensor:
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            return both.context(ids_of(texts))

    def errors(z: torch.Tensor, context: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        noisy = scheduler.add_noise(z, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            out = unet(noisy, timesteps, encoder_hidden_states=context, return_dict=False)[0]
        return (out.float() - noise).square()

    def example_loss() -> torch.Tensor:
        torch.manual_seed(0)
        z, _, texts = samples.one(np.random.default_rng((made.seed, 0)), made.batch)
        timesteps = torch.linspace(20, 980, made.batch, device=made.device).long()
        return errors(z.to(made.device), heard(texts), torch.randn(z.shape, device=made.device), timesteps).mean()

    if given.compile:
        blocks = [part for part in unet.modules() if isinstance(part, (BasicTransformerBlock, ResnetBlock2D))]
        compile_checked(blocks, both, example_loss)

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        kind, z, inside, texts = samples.at(made, step)
        z, timesteps = z.to(made.device), drawn_timesteps(len(z), given.middle).to(made.device)
        with nullcontext() if kind == "eps" else torch.compiler.set_stance("force_eager"):
            error = errors(z, heard(texts), torch.randn_like(z), timesteps)
        places = 1 + given.subject * inside.to(made.device)
        told, error = error.mean().item(), (error * places / places.mean()).mean(dim=(1, 2, 3))
        ratio = alphas[timesteps] / (1 - alphas[timesteps])
        weight = (given.gamma / ratio).clamp(max=1.0) * (1 + 1 / (ratio * power)).sqrt()
        return (error * weight).mean(), {kind: told}

    def evaluate(step: int) -> dict[str, float]:
        generator = torch.Generator(made.device).manual_seed(0)
        z, _, texts = samples.one(np.random.default_rng((10**6, 0)), 256)
        z, context = z.to(made.device), heard(texts)
        noise = torch.randn(z.shape, generator=generator, device=made.device)
        timesteps = torch.linspace(20, 980, 256, device=made.device).long()
        parts = zip(z.split(64), context.split(64), noise.split(64), timesteps.split(64), strict=True)
        error = torch.cat([errors(*part).mean(dim=(1, 2, 3)) for part in parts])
        return {
            f"eps_{low}": error[(timesteps >= low) & (timesteps < low + 250)].mean().item()
            for low in (0, 250, 500, 750)
        }

    weights = train(made, both, loss_at, evaluate, evaluate_every=1000)
    if made.rank:
        return
    both.folded(weights).save_pretrained(made.folder / "model")
    both.text.save_pretrained(made.folder / "text_encoder")


if __name__ == "__main__":
    main()
