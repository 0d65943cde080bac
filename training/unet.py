"""The denoiser: `python -m training.unet --minutes 80` fits a UNet2DConditionModel of SD 1.x's topology to cached
latents.

Epsilon prediction on SD's noise schedule; min-SNR weighting (Hang et al., 2023, gamma 5) times the square root of what
would make it the loss of v-prediction, so that large shapes, decided in much noise, are not learned last; a tenth of
the captions dropped for classifier-free guidance; the averaged weights are the ones that ship. The text encoder starts
as CLIP's and learns along; `training.clip --text` then fits CLIP's image tower to it.

With `--diptychs 0.3` three steps in ten are on canvases of twice the width: two photos of one subject side by side, as
albums and product pages of the web show them. Scenes with one subject in one picture give self-attention colours to
keep together, and little else; Stable Diffusion has seen things repeat. Each half hears its own caption, so that its
scene comes from words, and what looks its caption leaves out, from the other half. With `--duos 0.15` such a share of
the steps is on scenes with two subjects of different classes side by side, on the same wide canvas. `--subject 3` makes
tokens on the subject count four times as much as others, on average, and each of its parts the same. With `--astray
0.5` one photo of every second diptych shows, under its noise, somewhat of another subject's looks, and the noise to be
told is what leads back to the looks of the other photo: a picture that has come off its subject, as guidance makes it,
is to believe its neighbour more than itself.

With `--readings 0.45` such a share of the steps is on pairs of photos, each a picture of its own, of which the second
reads the keys and values of the first in place of its own at a run of layers (mutual self-attention; Cao et al., 2023),
and goes astray as often; it is judged on the subject alone.

With `--agree 0.25` the denoiser learns in a quarter of the steps what to say of a subject without captions from what it
says with them: in the mean that is the same aim as the noise, without the noise. Guidance multiplies what the two
differ in, also where words tell nothing new.
"""

import math
from argparse import Namespace
from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from samecast.diorama.captions import caption
from training.data import ROOT
from training.even import evening
from training.fast import compile_checked, quicken
from training.loop import Recipe, recipe, train
from training.routed import drawn_layers, route
from training.samples import Album, Drawn, Samples

AGREEMENT, SHAPED = 3.0, 800
"""What a step of `--agree` counts, and below which timestep: above it words have yet to tell pose and place, and a
denoiser that is to agree with itself there learns not to listen to them."""
MASACTRL = range(10, 16)
"""The layers at which MasaCtrl reads a photo."""
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
    """Return the untrained denoiser: three cross-attention levels and a plain one, two layers each, 16 layers of each
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


def drawn_timesteps(count: int, middle: float) -> torch.Tensor:
    """Return timesteps (count), half of them uniform and half logit-normal about `middle` (0..1), where shapes are
    decided (Esser et al., 2024)."""
    uniform = torch.randint(0, 1000, (count,))
    shapes = (torch.sigmoid(math.log(middle / (1 - middle)) + 0.8 * torch.randn(count)) * 1000).long().clamp(max=999)
    return torch.where(torch.rand(count) < 0.5, uniform, shapes)


def led_astray(
    noise: torch.Tensor, astray: torch.Tensor, timesteps: torch.Tensor, alphas: torch.Tensor
) -> torch.Tensor:
    """Return the noise that takes latents to noisy ones that show somewhat, nothing to all, of what lies `astray`
    (n, channels, 16, width): of the same noisy latents, what is not the picture is noise. Late in a run, below timestep
    500, ever less, down to nothing at 200, where looks no longer change."""
    ratio = (alphas[timesteps] / (1 - alphas[timesteps])).sqrt()
    much = torch.rand(len(noise), device=noise.device) * ((timesteps - 200) / 300).clamp(0, 1)
    return noise + (much * ratio)[:, None, None, None] * astray


class Fitting:
    """A denoiser with what it is fitted to: its loss at every step, and how far it has come."""

    def __init__(self, made: Recipe, given: Namespace) -> None:
        self.made, self.given, self.samples = made, given, Samples(given)
        # fused attention's backward pass in bf16 takes half of a step on a CPU, so it is spelled out in both
        text = CLIPTextModel.from_pretrained(given.text, dtype=torch.float32, attn_implementation="eager")
        self.tokenizer = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
        latents, specs = self.samples.singles.latents, self.samples.specs.specs
        unet = prepared(made, given, latents.shape[2], text.config.hidden_size)
        self.alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(made.device)
        self.power = latents[:512].astype(np.float32).var().item()
        rng = np.random.default_rng(made.seed)
        ids = self.ids_of([caption(spec, rng).text for spec in specs[:512]])
        self.reading = route(unet, AttnProcessor() if made.device.type == "cpu" else AttnProcessor2_0())
        self.module = Conditioned(unet, text.to(made.device), ids, learn=given.text_share > 0).to(made.device)
        self.module.train()
        print(
            f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, {len(specs)} latents x 2", flush=True
        )

    def autocast(self) -> torch.autocast:
        """Half precision, where it is faster."""
        return torch.autocast(self.made.device.type, self.made.dtype, enabled=self.made.dtype != torch.float32)

    def ids_of(self, texts: list[str]) -> torch.Tensor:
        """Return token ids (n, 77)."""
        settings = {"padding": "max_length", "max_length": 77, "truncation": True, "return_tensors": "pt"}
        return self.tokenizer(texts, **settings).input_ids.to(self.made.device)

    def heard(self, texts: list[str], count: int) -> torch.Tensor:
        """Return what the denoiser reads of the captions of `count` canvases: (count, captions, 77, width)."""
        with self.autocast():
            return self.module.context(self.ids_of(texts)).unflatten(0, (count, -1))

    def found(
        self, z: torch.Tensor, context: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Return what is taken for noise at timesteps (n)."""
        alpha = self.alphas[timesteps][:, None, None, None]
        noisy = (alpha.sqrt() * z + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        with self.autocast():
            out = self.module.unet(noisy, timesteps, encoder_hidden_states=context.flatten(0, 1), return_dict=False)[0]
        return out.float()

    def compile(self) -> None:
        """Compile the denoiser's blocks, for single pictures and, where there are any, for wide canvases."""
        made, samples = self.made, self.samples

        def example_loss(kind: Callable[[np.random.Generator, int], Drawn], count: int) -> torch.Tensor:
            torch.manual_seed(0)
            z, _, texts, *_ = kind(np.random.default_rng((made.seed, 0)), count)
            timesteps = torch.linspace(20, 980, len(z), device=made.device).long()
            noise = torch.randn(z.shape, device=made.device)
            found = self.found(z.to(made.device), self.heard(texts, len(z)), noise, timesteps)
            return (found - noise).square().mean()

        kinds = (BasicTransformerBlock, ResnetBlock2D)
        blocks = [part for part in self.module.unet.modules() if isinstance(part, kinds)]
        compile_checked(blocks, self.module, lambda: example_loss(samples.one, made.batch))
        if self.given.diptychs:
            compile_checked([], self.module, lambda: example_loss(samples.diptychs, made.batch // 2))

    def loss_at(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """Return a step's loss, and the plain error of what it was on."""
        kind, agrees, drawn = self.samples.at(self.made, step)
        if not drawn.read:
            return self.loss_of(kind, agrees, drawn)
        rows = torch.arange(len(drawn.z), device=self.made.device) % drawn.read
        with self.reading.reading(rows, drawn_layers(np.random.default_rng((*self.made.draws(step), 1)))):
            return self.loss_of(kind, agrees, drawn)

    def loss_of(self, kind: str, agrees: bool, drawn: Drawn) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss on what is drawn, and its plain error."""
        given, device = self.given, self.made.device
        z, judged, counts = (
            part.to(device) for part in (drawn.z, drawn.judged(), drawn.counts(given.subject, agrees=agrees))
        )
        timesteps = drawn_timesteps(len(z), given.middle).to(device)
        noise = torch.randn_like(z)
        if drawn.astray is not None:
            noise = led_astray(noise, drawn.astray.to(device), timesteps, self.alphas)
        aim, heard = noise, self.heard(drawn.texts, len(z))
        if agrees:
            with torch.no_grad():
                aim = self.found(z, heard, noise, timesteps)
            heard = self.heard([""] * len(drawn.texts), len(z))
        error = (self.found(z, heard, noise, timesteps) - aim).square()
        record = (error * judged).mean().item() / judged.float().mean().item()
        places = judged * counts
        error = (error * places / places.mean()).mean(dim=(1, 2, 3))
        ratio = self.alphas[timesteps] / (1 - self.alphas[timesteps])
        weight = (given.gamma / ratio).clamp(max=1.0) * (1 + 1 / (ratio * self.power)).sqrt()
        if agrees:
            weight = AGREEMENT * weight * (timesteps < SHAPED)
        return (error * weight).mean(), {f"{kind} agreed" if agrees else kind: record}

    def away(self, z: torch.Tensor, texts: list[str], timesteps: torch.Tensor) -> torch.Tensor:
        """Return what is taken for noise less the noise, which is always the same; by 64 at once."""
        device = self.made.device
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(device)
        parts = (z.to(device), self.heard(texts, len(z)), noise, timesteps.to(device))
        found = [self.found(*held) for held in zip(*(part.split(64) for part in parts), strict=True)]
        return torch.cat(found) - noise

    def record(self, z: torch.Tensor, texts: list[str], timesteps: torch.Tensor) -> torch.Tensor:
        """Return the squared errors at fixed noise."""
        return self.away(z, texts, timesteps).square()

    def carried(self, album: Album) -> dict[str, float]:
        """Return how much better noise on a subject's parts is told beside another photo of it than beside a stranger,
        all as noisy: 1 less the quotient of the errors, on its base, second and accessory's colour."""
        timesteps = torch.linspace(400, 900, len(album.photos)).long()

        def on_parts(beside: torch.Tensor) -> torch.Tensor:
            error = self.record(torch.cat([beside, album.photos], dim=-1), album.texts, timesteps)
            right = error[..., error.shape[3] // 2 :].mean(1, keepdim=True).cpu()
            return (right * album.shares).sum(dim=(0, 2, 3))

        gain = 1 - on_parts(album.mates) / on_parts(album.strangers)
        return dict(zip(("carried_base", "carried_second", "carried_accessory"), gain.tolist(), strict=True))

    def guided_away(self, album: Album) -> dict[str, float]:
        """Return how much worse noise on a subject is told with guidance of 7.5 than without, beside another photo of
        it and as noisy (timestep 500): 56 times what the denoiser says otherwise with and without a caption, in which
        there is nothing of the subject's looks."""
        z, timesteps = torch.cat([album.mates, album.photos], dim=-1), torch.full((len(album.photos),), 500)
        record, unstated = (self.away(z, texts, timesteps) for texts in (album.texts, [""] * len(album.texts)))

        def on_subject(away: torch.Tensor) -> float:
            error = away[..., away.shape[3] // 2 :].square().mean(1, keepdim=True).cpu()
            return (error * album.shares.sum(1, keepdim=True)).sum().item()

        return {"guided_away": on_subject(unstated + 7.5 * (record - unstated)) / on_subject(record) - 1}

    def away_reading(self, photos: torch.Tensor, album: Album, timesteps: torch.Tensor) -> torch.Tensor:
        """Return what is taken for noise in photos less the noise, where they read the album's mates at MasaCtrl's
        layers; by 32 at once."""
        found: list[torch.Tensor] = []
        for some in torch.arange(len(photos)).split(32):
            with self.reading.reading(torch.arange(2 * len(some), device=self.made.device) % len(some), MASACTRL):
                texts = [""] * len(some) + [album.texts[2 * i] for i in some.tolist()]
                both = torch.cat([album.mates[some], photos[some]])
                found.append(self.away(both, texts, timesteps[some].repeat(2))[len(some) :].cpu())
        return torch.cat(found)

    def read(self, album: Album) -> dict[str, float]:
        """Return what it costs a photo to read another photo of its subject in place of itself, and what that brings:
        how much worse noise on the subject is told, and how much of a stranger's looks, where the photo half shows
        them, is taken off (0: it believes what it sees; 1: what it reads)."""
        timesteps, on_subject = torch.linspace(400, 900, len(album.photos)).long(), album.shares.sum(1, keepdim=True)
        apart = self.away(album.photos, album.texts[::2], timesteps).cpu()
        reading = self.away_reading(album.photos, album, timesteps)
        costs = (reading.square() * on_subject).sum() / (apart.square() * on_subject).sum() - 1
        alphas = self.alphas.cpu()[timesteps]
        half = (album.strays - album.photos) / 2
        shown = (alphas / (1 - alphas)).sqrt()[:, None, None, None] * half
        seen = self.away_reading(album.photos + half, album, timesteps)
        back = (seen * shown * on_subject).sum() / (shown.square() * on_subject).sum()
        return {"reading_costs": costs.item(), "reading_leads_back": back.item()}

    def weight_of_words(self) -> dict[str, float]:
        """Return how much worse noise is told under a caption with another background than under the right one, where
        noise hides all but the faintest of the picture: the quotient of the errors less 1. Near nought, the denoiser
        reads backgrounds off the latent, and pictures that start from an inverted photo keep the photo's."""
        z, right, wrong = self.samples.contradicted(128)
        timesteps = torch.full((len(z),), 980)
        errors = [self.record(z, texts, timesteps).mean() for texts in (right, wrong)]
        return {"weight_of_words": (errors[1] / errors[0] - 1).item()}

    def evaluate(self, step: int) -> dict[str, float]:
        """Return the error by how noisy pictures are, and what diptychs have taught."""
        z, _, texts, *_ = self.samples.one(np.random.default_rng((10**6, 0)), 256)
        timesteps = torch.linspace(20, 980, 256).long()
        error = self.record(z, texts, timesteps).mean(dim=(1, 2, 3)).cpu()
        found = {
            f"eps_{low}": error[(timesteps >= low) & (timesteps < low + 250)].mean().item()
            for low in (0, 250, 500, 750)
        }
        found |= self.weight_of_words()
        if not self.given.diptychs and not self.given.readings:
            return found
        album = self.samples.album(256)
        found |= self.carried(album) | self.guided_away(album)
        return found | self.read(album) if self.given.astray else found


def main() -> None:
    """Train and save to `runs/<name>/model` and `runs/<name>/text_encoder`."""
    made, given = recipe(
        "unet", minutes=80.0, rate=1e-3, batch=32, widths="64,96,128,128", heads=4, gamma=5.0, average=0.9995,
        text="runs/clip/model", text_share=0.3, animals=2.0, middle=0.7, bare=0.3, diptychs=0.0,
        words=0.5, duos=0.0, subject=0.0, astray=0.0, readings=0.0, agree=0.0,
    )  # fmt: skip
    made.shares = {"text.": given.text_share}
    fitting = Fitting(made, given)
    if given.compile:
        fitting.compile()
    weights = train(made, fitting.module, fitting.loss_at, fitting.evaluate, evaluate_every=500)
    if made.rank:
        return
    fitting.module.folded(weights).save_pretrained(made.folder / "model")
    fitting.module.text.save_pretrained(made.folder / "text_encoder")


if __name__ == "__main__":
    main()
