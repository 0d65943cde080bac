"""The latents' scale: `python -m training.scale` folds one into the autoencoder, channel by channel.

What a noise schedule decides when depends on how loud the latents are. Stable Diffusion's is made for 64 x 64 latents
of deviation 1; on 16 x 16, where less averages out, the same noise hides four times as much, and nothing is decided in
the first third of a run (Hoogeboom et al., 2023: schedules shift with resolution). So latents are made louder, the
quiet channels, which hold details, more than the loud ones, and centred (Karras et al., 2024, standardise theirs too).
Pictures stay the same up to rounding; the denoiser's first convolution takes the inverse, and the rest is training.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from training.data import ROOT, Pictures
from training.latents import encoder_hash
from training.loop import recipe


def gains(deviations: np.ndarray, loudness: float, power: float) -> np.ndarray:
    """Return what to multiply each channel by, so that the deviations' root mean square is `loudness` and their
    differences the `power`-th of what they were."""
    wanted = deviations**power
    wanted *= loudness / np.sqrt(np.mean(wanted**2))
    return wanted / deviations


@torch.no_grad()
def rescale(vae: AutoencoderKL, mean: torch.Tensor, gain: torch.Tensor) -> None:
    """Make an autoencoder's latents (before its scaling factor) `(latents - mean) * gain`, both of shape (channels);
    what it decodes stays what it was."""
    count = len(gain)
    into, out = vae.quant_conv, vae.post_quant_conv
    assert into is not None
    assert out is not None
    assert into.bias is not None
    assert out.bias is not None
    into.weight[:count] *= gain.view(-1, 1, 1, 1)
    into.bias[:count] = (into.bias[:count] - mean) * gain
    into.bias[count:] += 2 * gain.log()
    out.bias += out.weight[:, :, 0, 0] @ mean
    out.weight /= gain.view(1, -1, 1, 1)


def main() -> None:
    """Rescale `runs/vae/model` and the cached latents, and write the denoiser to start from to `runs/<name>/model`."""
    made, given = recipe("scale", loudness=2.0, power=0.5)
    folder, pictures = ROOT / "vae" / "model", Pictures()
    vae = AutoencoderKL.from_pretrained(folder)
    if (pictures.folder / "latents-made-by").read_text() != encoder_hash(vae):
        raise SystemExit("the cached latents are not this autoencoder's: run 'python -m training.latents' first")
    latents = np.load(pictures.folder / "latents.npy", mmap_mode="r")
    sample = latents[:4096].astype(np.float32)
    mean, deviations = sample.mean((0, 1, 3, 4)), sample.std((0, 1, 3, 4))
    gain = gains(deviations, given.loudness, given.power)
    print("mean", mean.round(2), "deviations", deviations.round(2), "->", (deviations * gain).round(2), flush=True)

    rescale(vae, torch.from_numpy(mean).float() / vae.config.scaling_factor, torch.from_numpy(gain).float())
    vae.save_pretrained(folder)
    part = pictures.folder / "latents.part.npy"
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=latents.shape)
    for start in range(0, len(latents), 2048):
        block = latents[start : start + 2048].astype(np.float32)
        out[start : start + 2048] = (block - mean.reshape(-1, 1, 1)) * gain.reshape(-1, 1, 1)
    out.flush()
    part.replace(pictures.folder / "latents.npy")
    (pictures.folder / "latents-made-by").write_text(encoder_hash(AutoencoderKL.from_pretrained(folder)))
    unet = UNet2DConditionModel.from_pretrained(made.init_from or Path(ROOT / "unet" / "model"))
    with torch.no_grad():
        unet.conv_in.weight /= torch.from_numpy(gain).float().view(1, -1, 1, 1)
    unet.save_pretrained(made.folder / "model")


if __name__ == "__main__":
    main()
