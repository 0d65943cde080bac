"""The denoiser: `python -m training.unet --minutes 80` fits a UNet2DConditionModel of SD 1.x's topology to cached
latents.

Epsilon prediction on SD's noise schedule; min-SNR weighting (Hang et al., 2023, gamma 5) times the square root of what
would make it the loss of v-prediction, so that large shapes, decided in much noise, are not learned last; a tenth of
the captions dropped for classifier-free guidance; the averaged weights are the ones that ship.
"""

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from transformers import CLIPTextModel, CLIPTokenizer

from samecast.diorama.captions import caption
from training.clip import Specs
from training.data import ROOT, Pictures
from training.fast import compile_checked, quicken
from training.loop import recipe, train

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


def drawn_timesteps(count: int) -> torch.Tensor:
    """Return timesteps (count), half of them uniform and half logit-normal about the middle, where shapes are decided
    (Esser et al., 2024)."""
    uniform = torch.randint(0, 1000, (count,))
    middle = (torch.sigmoid(0.2 + 0.8 * torch.randn(count)) * 1000).long().clamp(max=999)
    return torch.where(torch.rand(count) < 0.5, uniform, middle)


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    made, given = recipe(
        "unet", minutes=80.0, rate=1e-3, batch=32, widths="64,96,128,128", heads=4, gamma=5.0, average=0.9995
    )
    pictures = Pictures()
    latents = np.load(pictures.folder / "latents.npy", mmap_mode="r")
    specs = Specs(0, len(latents))
    text = CLIPTextModel.from_pretrained(ROOT / "clip" / "model").to(made.device).eval()
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "tokenizer")
    widths = tuple(int(width) for width in given.widths.split(","))
    channels = latents.shape[2]
    unet = (
        UNet2DConditionModel.from_pretrained(made.init_from)
        if made.init_from
        else build(channels, widths, given.heads, text.config.hidden_size)
    )
    unet = unet.to(made.device, memory_format=torch.channels_last)
    if made.device.type == "cpu":  # fused attention's backward pass in bf16 takes half of a step there: spell it out
        unet.set_attn_processor(AttnProcessor())
        if not given.compile:
            quicken(unet)
    unet.train()
    scheduler = DDIMScheduler(**SCHEDULE)
    alphas = scheduler.alphas_cumprod.to(made.device)
    print(f"{sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M parameters, {len(latents)} latents x 2", flush=True)

    def batch(seed: tuple[int, ...], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(seed)
        picks = np.sort(rng.integers(len(latents), size=count))
        flip = rng.integers(2, size=count)
        z = torch.from_numpy(latents[picks, flip].astype(np.float32)).to(made.device)
        texts = [
            caption(specs.at(i, bool(f)), rng).text if rng.uniform() > 0.1 else ""
            for i, f in zip(picks, flip, strict=True)
        ]
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        with torch.no_grad(), torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            context = text(ids.to(made.device)).last_hidden_state.float()
        return z, context

    def predict(z: torch.Tensor, context: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        noisy = scheduler.add_noise(z, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            out = unet(noisy, timesteps, encoder_hidden_states=context, return_dict=False)[0]
        return (out.float() - noise).square().mean(dim=(1, 2, 3))

    def example_loss() -> torch.Tensor:
        torch.manual_seed(0)
        z, context = batch((made.seed, 0), made.batch)
        timesteps = torch.linspace(20, 980, made.batch, device=made.device).long()
        return predict(z, context, torch.randn_like(z), timesteps).mean()

    if given.compile:
        blocks = [part for part in unet.modules() if isinstance(part, (BasicTransformerBlock, ResnetBlock2D))]
        compile_checked(blocks, unet, example_loss)

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        z, context = batch(made.draws(step), made.batch)
        timesteps = drawn_timesteps(made.batch).to(made.device)
        error = predict(z, context, torch.randn_like(z), timesteps)
        ratio = alphas[timesteps] / (1 - alphas[timesteps])
        weight = (given.gamma / ratio).clamp(max=1.0) * (1 + 1 / ratio).sqrt()
        return (error * weight).mean(), {"eps": error.mean().item()}

    def evaluate(step: int) -> dict[str, float]:
        generator = torch.Generator(made.device).manual_seed(0)
        z, context = batch((10**6, 0), 256)
        noise = torch.randn(z.shape, generator=generator, device=made.device)
        timesteps = torch.linspace(20, 980, 256, device=made.device).long()
        parts = zip(z.split(64), context.split(64), noise.split(64), timesteps.split(64), strict=True)
        error = torch.cat([predict(*part) for part in parts])
        return {
            f"eps_{low}": error[(timesteps >= low) & (timesteps < low + 250)].mean().item()
            for low in (0, 250, 500, 750)
        }

    unet.load_state_dict(train(made, unet, loss_at, evaluate, evaluate_every=1000))
    if made.rank:
        return
    unet.save_pretrained(made.folder / "model")


if __name__ == "__main__":
    main()
