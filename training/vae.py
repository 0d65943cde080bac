"""The autoencoder: `python -m training.vae --minutes 30` fits an AutoencoderKL (factor 8) to 128 px renders.

Trained on 64 px crops, half of them at the subject: without attention the network is convolutional, so crops teach what
whole pictures would at a quarter of the cost, and many small steps matter more than few large ones. One step in
twenty sees whole pictures, so that borders are right. With `--hold` the latents stay about where they were, so that a
denoiser trained on them needs little to follow.
"""

import json

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from training.data import ROOT, Pictures
from training.fast import quicken
from training.loop import recipe, train


def build(latents: int, widths: tuple[int, ...]) -> AutoencoderKL:
    """Return the untrained autoencoder: four levels, so a factor of 8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latents,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )


def widened(vae: AutoencoderKL, latents: int) -> AutoencoderKL:
    """Return a copy with more latent channels: the old ones as they were, the new ones nearly silent at first."""
    old = vae.config.latent_channels
    wide = AutoencoderKL.from_config({**vae.config, "latent_channels": latents, "scaling_factor": 1.0})
    weights, held = wide.state_dict(), vae.state_dict()
    rows = torch.cat([torch.arange(old), torch.arange(old) + latents])  # means, then log-variances
    for name, value in held.items():
        if weights[name].shape == value.shape:
            weights[name] = value
            continue
        fresh = weights[name] * 0.3
        if name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
            fresh[rows] = value
        elif name == "quant_conv.weight":
            fresh[rows] = 0
            fresh[rows.unsqueeze(1), rows] = value
        elif name == "quant_conv.bias":
            fresh[rows] = value
        elif name == "post_quant_conv.weight":
            fresh[:old] = 0
            fresh[:old, :old] = value
        elif name == "post_quant_conv.bias":
            fresh[:old] = value
        else:  # the decoder's first convolution reads the latents
            fresh[:, :old] = value
        weights[name] = fresh
    wide.load_state_dict(weights)
    return wide


def revived(vae: AutoencoderKL, x: torch.Tensor) -> tuple[AutoencoderKL, torch.Tensor]:
    """Return a copy whose silent latent channels start afresh, and which channels spoke: bool (channels).

    A channel is silent where its posterior is nearly the prior's; early in training some fall so and never come back.
    """
    with torch.no_grad():
        spoke = vae.encode(x).latent_dist.std.mean(dim=(0, 2, 3)) < 0.5
    again = AutoencoderKL.from_config(vae.config)
    fresh = {name: value.clone() for name, value in again.state_dict().items()}
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    count = len(spoke)
    for channel in torch.nonzero(~spoke).flatten().tolist():
        for name in ("encoder.conv_out.weight", "encoder.conv_out.bias"):
            weights[name][channel] = fresh[name][channel]
        weights["quant_conv.weight"][:, channel] = 0
        weights["quant_conv.weight"][[channel, channel + count]] = 0
        weights["quant_conv.weight"][channel, channel] = 1
        weights["quant_conv.bias"][channel], weights["quant_conv.bias"][channel + count] = 0, -6
        weights["post_quant_conv.weight"][:, channel] = fresh["post_quant_conv.weight"][:, channel] * 0.3
    again.load_state_dict(weights)
    return again, spoke


def tensor(images: np.ndarray) -> torch.Tensor:
    """Turn uint8 pictures (n, height, width, 3) into a channels-last tensor in -1..1 (n, 3, height, width)."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1.0).permute(0, 3, 1, 2)


def crops(pictures: Pictures, count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut random squares, most of them about a point of the subject, half of them mirrored; and the subject's mask."""
    cut, masks = [], []
    for index in np.sort(rng.integers(pictures.ready, size=count)):
        image = pictures.images[index]
        top, left = rng.integers(0, 128 - size + 1, size=2)
        if size < 128 and rng.uniform() < 0.75:
            rows, columns = np.nonzero(pictures.masks[index])
            if len(rows):
                pick = rng.integers(len(rows))
                top = int(np.clip(rows[pick] - size // 2 + rng.integers(-8, 9), 0, 128 - size))
                left = int(np.clip(columns[pick] - size // 2 + rng.integers(-8, 9), 0, 128 - size))
        turn = slice(None, None, -1 if rng.uniform() < 0.5 else 1)
        cut.append(image[top : top + size, left : left + size][:, turn])
        masks.append(pictures.masks[index][top : top + size, left : left + size][:, turn])
    return np.stack(cut), np.stack(masks)


def weights_of(masks: np.ndarray, subject: float) -> torch.Tensor:
    """Return what each pixel counts, (n, 1, height, width), 1 in the mean: one of the subject `1 + subject` times one
    of the background."""
    weights = 1 + subject * torch.from_numpy(masks.astype(np.float32)).unsqueeze(1)
    return weights / weights.mean()


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    made, given = recipe(
        "vae", minutes=30.0, rate=2e-3, batch=16, latents=8, widths="16,32,64,64", kl=1e-6, hold=0.0,
        squared=2.0, decoder_only=False, subject=0.0,
    )  # fmt: skip
    widths = tuple(int(width) for width in given.widths.split(","))
    vae = AutoencoderKL.from_pretrained(made.init_from) if made.init_from else build(given.latents, widths)
    if vae.config.latent_channels != given.latents:
        vae = widened(vae, given.latents)
    pictures, held_out = Pictures(), Pictures("held-out")
    before, scale = vae, vae.config.scaling_factor
    if given.hold:
        vae, spoke = revived(vae, tensor(pictures.images[:64]))
        print(f"silent channels, revived: {torch.nonzero(~spoke).flatten().tolist()}", flush=True)
        before = before.to(made.device, memory_format=torch.channels_last).eval().requires_grad_(False)
    vae = vae.to(made.device, memory_format=torch.channels_last)
    if given.decoder_only:  # the latents stay what they are, to the bit
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    quicken(vae)
    print(f"{sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M parameters", flush=True)

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(made.draws(step))
        size, count = (128, max(made.batch // 4, 1)) if step % 20 == 19 else (64, made.batch)
        images, masks = crops(pictures, count, size, rng)
        x = tensor(images).to(made.device, memory_format=torch.channels_last)
        each = weights_of(masks, given.subject).to(made.device)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            with torch.set_grad_enabled(not given.decoder_only):
                posterior = vae.encode(x).latent_dist
            y = vae.decode(posterior.sample()).sample.float()
        error = y - x
        across, down = error.diff(dim=-1).abs() * each[..., 1:], error.diff(dim=-2).abs() * each[..., 1:, :]
        edges = (across.mean() + down.mean()) / 2
        squared = (error.square() * each).mean()
        tint = (
            F.avg_pool2d(error, 4).abs() * F.avg_pool2d(each, 4)
        ).mean()  # merged colours cost more than blurred edges
        plain = (error.abs() * each).mean()
        loss = plain + 0.5 * edges + tint + given.squared * squared + given.kl * posterior.kl().mean()
        numbers = {"psnr": -10 * np.log10(error.detach().square().mean().item() / 4)}
        if given.hold and step % 4 == 0:
            with torch.no_grad(), torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
                old = before.encode(x).latent_dist.mode()[:, spoke].float()
            moved = (posterior.mode()[:, spoke].float() - old).square().mean() / old.var()
            loss, numbers["moved"] = loss + 4 * given.hold * moved, moved.sqrt().item()
        return loss, numbers

    def evaluate(step: int) -> dict[str, float]:
        scores, subjects = [], []
        for start in range(0, 128, 32):
            x = tensor(held_out.images[start : start + 32]).to(made.device, memory_format=torch.channels_last)
            y = vae.decode(vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
            error = (y - x).square().mean(dim=1) / 4
            masks = torch.from_numpy(held_out.masks[start : start + 32]).to(made.device)
            scores.append(-10 * torch.log10(error.mean(dim=(1, 2))))
            subjects.append(-10 * torch.log10((error * masks).sum((1, 2)) / masks.sum((1, 2)).clamp(min=1)))
        return {"psnr": torch.cat(scores).mean().item(), "subject_psnr": torch.cat(subjects).mean().item()}

    weights = train(made, vae, loss_at, evaluate, evaluate_every=1000)
    vae.load_state_dict(weights)
    vae.eval()
    with torch.no_grad():
        x = tensor(pictures.images[:512]).to(made.device)
        deviation = torch.cat([vae.encode(part).latent_dist.mode() for part in x.split(32)]).std().item()
    vae.register_to_config(scaling_factor=scale if given.hold or given.decoder_only else 1 / deviation)
    vae.save_pretrained(made.folder / "model")
    print(json.dumps({"latent_std": deviation}), f"saved to {ROOT / made.name / 'model'}")


if __name__ == "__main__":
    main()
