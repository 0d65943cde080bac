"""Latents, cached once: `python -m training.latents` encodes every picture and its mirror image with the trained
VAE."""

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.data import ROOT, Pictures
from training.loop import recipe
from training.vae import tensor


def main() -> None:
    """Write `runs/data/train/latents.npy`, fp16 (count, 2, channels, 16, 16): plain and mirrored, already scaled;
    `latents-ready` says how many are done, so that training can begin before the last."""
    made, _ = recipe("latents", batch=64)
    vae = (
        AutoencoderKL.from_pretrained(ROOT / "vae" / "model").to(made.device, memory_format=torch.channels_last).eval()
    )
    pictures = Pictures()
    ready = pictures.ready
    shape = (ready, 2, vae.config.latent_channels, 16, 16)
    out = np.lib.format.open_memmap(pictures.folder / "latents.npy", mode="w+", dtype=np.float16, shape=shape)
    with torch.no_grad():
        for start in range(0, ready, made.batch):
            x = tensor(pictures.images[start : min(start + made.batch, ready)]).to(made.device)
            for side, view in enumerate((x, x.flip(-1))):
                with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
                    z = vae.encode(view.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
                out[start : start + len(x), side] = (z.float() * vae.config.scaling_factor).half().cpu().numpy()
            (pictures.folder / "latents-ready").write_text(str(start + len(x)))
    print(out.shape, "std per channel", out[:512].astype(np.float32).std(axis=(0, 1, 3, 4)).round(2))


if __name__ == "__main__":
    main()
