"""The flow transformer: `python -m training.flow --name flow-1 --threads 1` fits a small FLUX to cached latents.

Rectified flow (Liu et al., 2023; Esser et al., 2024): between latents z and noise e lies x = (1 - s) z + s e, and the
transformer tells the velocity e - z. Half of the levels s are logit-normal, half uniform, both shifted as the
scheduler's are. T5 learns along at a share of the rate, CLIP's pooled vector is the shipped one's, a tenth of the
captions is dropped. The averaged weights are the ones that ship (`training.flow_export`).

Until step `--small` pictures are of 128 px: 64 tokens instead of 256, spread over the same positions, at three times
the speed; there, in a share `--teacher` of the steps, the aim is the shipped U-Net's, at equal signal-to-noise, which
varies less than noise does. `--parts` weighs a linear head on the double blocks' output that says which part of the
subject a token shows (after *Representation alignment*, Yu et al., 2025, with the renderer's truth in place of another
model's features). From step `--pairs-from` a share of the steps is on `--diptychs` and `--readings`, as the U-Net's
were (`training/NOTES.md`), each photo with its own caption.

Everything is resumed by the same command; `--steady 0.8` keeps the rate until four fifths of the run, so that a longer
run only moves the fall. On a GPU: `--device cuda --batch 256 --threads 0`.
"""

import copy
import math
from argparse import Namespace
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, UNet2DConditionModel
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel

from samecast.diorama.captions import caption
from samecast.diorama.colours import word_margin
from samecast.diorama.probe import load_probe
from samecast.diorama.renderer import PARTS
from samecast.diorama.scenes import HELD_OUT, Spec, sample_spec
from training import unet
from training.fast import compile_checked
from training.flow_attention import Rotary, prepared
from training.flow_data import FIRST, LOUDNESS, TOKENS, Shards, shipped_vae
from training.flow_model import SCHEDULE, TEXT, make_text, make_tokenizer, make_transformer, pack, positions, unpack
from training.flow_samples import Drawn, Samples
from training.loop import Recipe, recipe, train
from training.measures import CLEAR, judged
from training.samples import each_part_alike
from training.ship import WEIGHTS

SHIFTS = {"latents": math.exp(SCHEDULE["base_shift"]), "small": math.exp(SCHEDULE["base_shift"]) / 2}
"""How levels are shifted: at 256 px as FLUX's scheduler does; at half the side, half as much noise hides as much."""
TAUGHT = (0.1, 0.87)
"""The levels at which the shipped U-Net knows better than noise: it has no timestep beyond 0.879, and below
0.1 it tells less than a flow can."""
LENGTHS, ODDS = (TEXT, 2 * TEXT, 4 * TEXT, 16 * TEXT), (0.92, 0.05, 0.025, 0.005)
"""How long captions are padded, up to the 512 that stock FluxPipeline pads to unless told otherwise."""


class Flow(nn.Module):
    """What learns: the transformer, its T5 encoder, and the head that tells parts, which does not ship."""

    def __init__(self, transformer: FluxTransformer2DModel, text: T5EncoderModel) -> None:
        super().__init__()
        self.transformer, self.text = transformer, text
        self.heads = nn.Linear(transformer.inner_dim, len(PARTS))


class Heard(NamedTuple):
    """What is heard of captions: T5's states (n, tokens, width), CLIP's pooled vector (n, width), and CLIP's states,
    which the U-Net hears."""

    states: torch.Tensor
    pooled: torch.Tensor
    clip: torch.Tensor


def drawn_levels(count: int, shift: float) -> torch.Tensor:
    """Return noise levels (count) in 0..1, half of them uniform and half logit-normal (Esser et al., 2024), shifted."""
    uniform, middle = torch.rand(count), torch.sigmoid(torch.randn(count))
    level = torch.where(torch.rand(count) < 0.5, uniform, middle).clamp(1e-3, 1 - 1e-3)
    return shift * level / (1 + (shift - 1) * level)


class Teacher:
    """The shipped U-Net, asked for the velocity at a flow's noise level."""

    def __init__(self, device: torch.device) -> None:
        self.unet = UNet2DConditionModel.from_pretrained(WEIGHTS / "diorama" / "unet", torch_dtype=torch.float32)
        self.unet = self.unet.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        alphas = DDIMScheduler(**unet.SCHEDULE).alphas_cumprod.double()
        self.ratios = (alphas / (1 - alphas)).log().numpy() / 2

    @torch.no_grad()
    def velocity(self, noisy: torch.Tensor, level: torch.Tensor, clip: torch.Tensor) -> torch.Tensor:
        """Return the velocity at x = (1 - s) z + s e (n, 12, 16, 16): the U-Net sees the same picture and noise, scaled
        as it is used to."""
        ratio = ((1 - level) / level * LOUDNESS).double().log().cpu().numpy()
        timestep = np.interp(ratio, self.ratios[::-1], np.arange(len(self.ratios))[::-1])
        noise_share = torch.from_numpy(1 / np.sqrt(1 + np.exp(2 * ratio))).float().to(noisy.device)
        seen = noisy * (noise_share / level)[:, None, None, None]
        data = self.unet(seen, torch.from_numpy(timestep).float().to(noisy.device), clip, return_dict=False)[0].float()
        return (data - noisy) / (1 - level)[:, None, None, None]


class Fitting:
    """A flow transformer with what it is fitted to: its loss at every step, and how far it has come."""

    def __init__(self, made: Recipe, given: Namespace) -> None:
        self.made, self.given = made, given
        self.samples, self.held_out = Samples(given), Shards("held-out")
        self.tokenizer = make_tokenizer()
        self.clip_tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "diorama" / "tokenizer")
        clip = CLIPTextModel.from_pretrained(WEIGHTS / "diorama" / "text_encoder", dtype=torch.float32)
        self.clip = clip.to(made.device).eval().requires_grad_(False)
        channels, width = self.held_out.tensors[0]["latents"].shape[2], clip.config.hidden_size
        double, single = (int(count) for count in given.blocks.split("+"))
        transformer = make_transformer(channels, width, width, given.width, double=double, single=single)
        self.module = Flow(transformer, make_text(len(self.tokenizer), width)).to(made.device)
        self.pairs = prepared(transformer)
        self.teacher = Teacher(made.device) if given.teacher else None
        self.seen = torch.empty(0)
        transformer.transformer_blocks[-1].register_forward_hook(self.see)
        for part in (transformer.x_embedder, transformer.context_embedder):  # what is added up stays in full precision
            part.register_forward_hook(lambda part, data, out: out.float())
        self.ahead = ThreadPoolExecutor(1) if made.device.type == "cuda" else None
        self.next: tuple[int, Future[Drawn]] | None = None
        self.vae, self.probe = shipped_vae(), load_probe()
        counts = [sum(weight.numel() for weight in part.parameters()) / 1e6 for part in self.module.children()]
        print(f"{counts[0]:.2f} M parameters, T5 {counts[1]:.2f} M; {len(self.samples.singles)} pictures", flush=True)

    def compile(self) -> None:
        """Compile the blocks, checked on the first step's pictures: with weights moved off nought, where most gradients
        are nought and have no direction."""
        transformer, held = self.module.transformer, copy.deepcopy(self.module.state_dict())

        def example_loss() -> torch.Tensor:
            torch.manual_seed(0)
            return self.loss_at(0)[0]

        with torch.no_grad():
            for weight in self.module.parameters():
                weight.add_(0.02 * torch.randn_like(weight))
        blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        compile_checked(blocks, self.module, example_loss)
        self.module.load_state_dict(held)

    def see(self, block: nn.Module, data: tuple[object, ...], out: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Keep the double blocks' image tokens for the head that tells parts."""
        self.seen = out[1]

    def autocast(self) -> torch.autocast:
        """Half precision, where it is faster."""
        return torch.autocast(self.made.device.type, self.made.dtype, enabled=self.made.dtype != torch.float32)

    def heard(self, texts: list[str], length: int = TEXT) -> Heard:
        """Return what is heard of captions, T5's padded to `length` tokens; as in FluxPipeline, pads are heard too."""
        settings = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        device = self.made.device
        ids = self.tokenizer(texts, max_length=length, **settings).input_ids.to(device)
        clip_ids = self.clip_tokenizer(texts, max_length=77, **settings).input_ids.to(device)
        with torch.no_grad(), self.autocast():
            clip = self.clip(clip_ids)
        with torch.autocast(device.type, enabled=False):
            states = self.module.text(ids).last_hidden_state
        return Heard(states, clip.pooler_output.float(), clip.last_hidden_state.float())

    def velocity(self, noisy: torch.Tensor, level: torch.Tensor, heard: Heard) -> torch.Tensor:
        """Return the velocity told at noisy latents (n, 12, side, side) and levels (n)."""
        side = noisy.shape[-1] // 2
        with self.autocast():
            out = self.module.transformer(
                hidden_states=pack(noisy),
                encoder_hidden_states=heard.states,
                pooled_projections=heard.pooled,
                timestep=level,
                img_ids=positions(side, TOKENS).to(noisy.device),
                txt_ids=torch.zeros(heard.states.shape[1], 3, device=noisy.device),
                return_dict=False,
            )[0]
        return unpack(out.float(), side)

    def beside(self, side: int) -> Rotary:
        """Return where mates stand on a canvas: to the right of the first half's pictures, to the left of the
        second's."""
        tables: list[Rotary] = []
        for sign in (1, -1):
            ids = positions(side, TOKENS)
            ids[:, 2] += sign * TOKENS
            tables.append(self.module.transformer.pos_embed(ids.to(self.made.device)))
        return torch.stack([table[0] for table in tables]), torch.stack([table[1] for table in tables])

    def drawn(self, step: int) -> Drawn:
        """Return what a step is on; on a GPU the next one is drawn meanwhile."""

        def draw(number: int) -> Drawn:
            return self.samples.at(self.made.draws(number), number, self.made.batch)

        if self.ahead is None:
            return draw(step)
        now = self.next[1].result() if self.next and self.next[0] == step else draw(step)
        self.next = (step + 1, self.ahead.submit(draw, step + 1))
        return now

    def loss_at(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return a step's loss, and the plain error of what it was on."""
        kind, drawn = self.samples.kind(step), self.drawn(step)
        rng = np.random.default_rng((*self.made.draws(step), 1))
        length = TEXT if drawn.how != "alone" else int(rng.choice(LENGTHS, p=ODDS))
        heard = self.heard(drawn.texts, length)
        side = drawn.z.shape[-1] // 2
        count = len(self.module.transformer.transformer_blocks) + len(self.module.transformer.single_transformer_blocks)
        if drawn.how == "alone":
            reading = nullcontext()
        elif drawn.how == "beside":
            reading = self.pairs.reading("beside", range(count), length, self.beside(side))
        else:
            edge = int(rng.integers(count))
            layers = range(edge, count) if rng.uniform() < 0.5 else range(edge + 1)
            reading = self.pairs.reading("instead", layers, length)
        taught = self.teacher is not None and kind == "small" and drawn.how == "alone"
        taught = taught and np.random.default_rng((self.made.seed, step, 3)).uniform() < self.given.teacher
        with reading:
            return self.loss_of(kind, drawn, heard, taught=taught)

    def loss_of(self, kind: str, drawn: Drawn, heard: Heard, *, taught: bool) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss on what is drawn, and its plain error."""
        device, count = self.made.device, len(drawn.z)
        z, parts = drawn.z.to(device).float(), drawn.parts.to(device)
        level = drawn_levels(count, SHIFTS[kind]).to(device)
        if drawn.how != "alone":
            level = level[: count // 2].repeat(2)  # both photos of a pair are as noisy
        noise, at = torch.randn_like(z), level[:, None, None, None]
        noisy, aim = (1 - at) * z + at * noise, noise - z
        if taught:
            assert self.teacher is not None
            known = (at > TAUGHT[0]) & (at < TAUGHT[1])
            with self.autocast():
                data = self.teacher.velocity(noisy, level, heard.clip)
            aim = torch.where(known, data, aim)
        error = (self.velocity(noisy, level, heard) - aim).square()
        seen = F.avg_pool2d(parts, 2) if kind == "small" else parts
        alike = each_part_alike(seen[:, 1:4])
        counts = alike if drawn.how == "instead" else 1 + self.given.subject * alike
        if drawn.how == "instead":  # who reads is judged, on the subject alone
            counts = torch.cat([torch.zeros_like(counts[: count // 2]), counts[count // 2 :]])
        counts = counts / counts.mean().clamp(min=1e-6)
        loss = (error.mean(1, keepdim=True) * counts.repeat_interleave(2, -1).repeat_interleave(2, -2)).mean()
        name = f"{kind} taught" if taught else f"{kind} {drawn.how}"
        numbers = {name: error.mean().item(), "rows": float(count)}
        if self.given.parts:
            logits = self.module.heads(self.seen.float()).log_softmax(-1)
            data = -(seen.flatten(2).transpose(1, 2) * logits).sum(-1).mean()
            numbers["parts"] = data.item()
            loss = loss + self.given.parts * data
        return loss, numbers

    @torch.no_grad()
    def draw(self, texts: list[str], kind: str, steps: int, guidance: float) -> torch.Tensor:
        """Return pictures (n, 3, side, side) in 0..1 drawn from captions by Euler's steps, on the CPU."""
        side, count, device = 32 if kind == "latents" else 16, len(texts), self.made.device
        scheduler = FlowMatchEulerDiscreteScheduler(**SCHEDULE)
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=math.log(SHIFTS[kind]))
        channels = self.held_out.tensors[0]["latents"].shape[2]
        z = torch.stack(
            [torch.randn(channels, side, side, generator=torch.Generator().manual_seed(n)) for n in range(count)]
        ).to(device)
        words, nothing = self.heard(texts), self.heard([""] * count)
        both = Heard(*(torch.cat(pair) for pair in zip(words, nothing, strict=True)))
        for now, after in zip(scheduler.sigmas[:-1].tolist(), scheduler.sigmas[1:].tolist(), strict=True):
            level = torch.full((2 * count,), now, device=device)
            data, plain = self.velocity(torch.cat([z, z]), level, both).chunk(2)
            z = z + (after - now) * (plain + guidance * (data - plain))
        pictures = [self.vae.decode(part.cpu() / self.vae.config.scaling_factor).sample for part in z.split(8)]
        return (torch.cat(pictures) / 2 + 0.5).clamp(0, 1)

    def errors(self, kind: str, count: int) -> dict[str, float]:
        """Return the error on held-out pictures, always the same, by quarters of the noise levels."""
        rng = np.random.default_rng(0)
        z, _ = self.held_out.take(kind, np.arange(count), np.zeros(count, dtype=int))
        texts = [caption(sample_spec(FIRST["held-out"] + number), rng).text for number in range(count)]
        level = torch.linspace(0.02, 0.98, count)[torch.from_numpy(rng.permutation(count))]
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        error: list[torch.Tensor] = []
        for rows in torch.arange(count).split(32):
            clean, at = z[rows].float(), level[rows][:, None, None, None]
            noisy = ((1 - at) * clean + at * noise[rows]).to(self.made.device)
            heard = self.heard([texts[row] for row in rows.tolist()])
            data = self.velocity(noisy, level[rows].to(self.made.device), heard).cpu()
            error.append((data - (noise[rows] - clean)).square().mean(dim=(1, 2, 3)))
        every = torch.cat(error)
        quarters = (level * 4).long()
        return {f"v_{quarter}": every[quarters == quarter].mean().item() for quarter in range(4)} | {
            "v": every.mean().item()
        }

    def evaluate(self, step: int) -> dict[str, float]:
        """Return held-out errors and, off `pictures` drawn from held-out captions, what the probe reads right; the
        first 16 are kept as a grid in `samples/`."""
        kind, count = self.samples.kind(max(step - 1, 0)), self.given.pictures
        found = self.errors(kind, min(128, len(self.held_out)))
        if not count:
            return found
        rng = np.random.default_rng(0)
        specs: list[Spec] = [sample_spec(HELD_OUT + number) for number in range(count)]
        data = [caption(spec, rng) for spec in specs]
        images = self.draw([each.text for each in data], kind, steps=12, guidance=3.0)
        arrays = [image.permute(1, 2, 0).mul(255).round().byte().numpy() for image in images]
        save_grid(arrays[:16], self.made.folder / "samples" / f"{step:07d}.png")
        clear = [word_margin(spec.identity.base) >= CLEAR for spec in specs]
        return found | judged(self.probe.read(arrays), [each.states for each in data], clear)


def save_grid(images: list[np.ndarray], path: Path, columns: int = 4) -> None:
    """Write pictures of one size to a grid, whole or not at all."""
    height, width = images[0].shape[:2]
    grid = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for number, image in enumerate(images):
        grid.paste(Image.fromarray(image), (number % columns * width, number // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(path.with_suffix(".part"), format="PNG")
    path.with_suffix(".part").replace(path)


def main() -> None:
    """Train; `runs/<name>/last.pt` is what resumes it and what `training.flow_export` reads."""
    made, given = recipe(
        "flow", rate=1.5e-3, batch=32, average=0.9995, width=192, blocks="3+5", text_share=0.5, animals=2.0, bare=0.3,
        words=0.3, subject=2.0, parts=0.1, small=10_000, teacher=0.0, pairs_from=0, diptychs=0.0, readings=0.0,
        pictures=48, evaluate_every=1000,
    )  # fmt: skip
    made.shares = {"text.": given.text_share}
    fitting = Fitting(made, given)
    if given.compile:
        fitting.compile()
    train(made, fitting.module, fitting.loss_at, fitting.evaluate, given.evaluate_every)


if __name__ == "__main__":
    main()
