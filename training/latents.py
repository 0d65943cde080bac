"""Latents, cached once: `python -m training.latents` encodes every picture and its mirror image with the trained
VAE (`--pictures mates`, `--pictures duos`: those pictures)."""

from hashlib import sha256

import numpy as np
import torch
from diffusers import AutoencoderKL

from training.data import ROOT, Pictures
from training.loop import recipe
from training.vae import tensor


def encoder_hash(vae: AutoencoderKL) -> str:
    """Return the SHA-256 of what encodes: a decoder trained on its own leaves latents as they are."""
    digest = sha256()
    for part in (vae.encoder, vae.quant_conv):
        for name, weight in part.state_dict().items():
            digest.update(name.encode())
            digest.update(weight.float().cpu().contiguous().numpy().tobytes())
    digest.update(str(vae.config.scaling_factor).encode())
    return digest.hexdigest()


def main() -> None:
    """Write `runs/data/<pictures>/latents.npy`, fp16 (count, 2, channels, 16, width): plain and mirrored, already
    scaled. Those that the same VAE has encoded before are kept; the file is whole or not there."""
    made, given = recipe("latents", batch=64, pictures="train")
    folder = ROOT / "vae" / "model"
    vae = AutoencoderKL.from_pretrained(folder).to(made.device, memory_format=torch.channels_last).eval()
    pictures = Pictures(given.pictures)
    ready = pictures.ready
    made_by = encoder_hash(vae)
    path, maker, part = (pictures.folder / name for name in ("latents.npy", "latents-made-by", "latents.part.npy"))
    shape = (ready, 2, vae.config.latent_channels, *(side // 8 for side in pictures.masks.shape[1:]))
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
    kept = 0
    if path.exists() and maker.exists() and maker.read_text() == made_by:
        before = np.load(path, mmap_mode="r")
        kept = min(len(before), ready)
        out[:kept] = before[:kept]
    with torch.no_grad():
        for start in range(kept, ready, made.batch):
            x = tensor(pictures.images[start : min(start + made.batch, ready)]).to(made.device)
            for side, view in enumerate((x, x.flip(-1))):
                with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
                    z = vae.encode(view.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
                out[start : start + len(x), side] = (z.float() * vae.config.scaling_factor).half().cpu().numpy()
    out.flush()
    part.replace(path)
    maker.write_text(made_by)
    print(f"kept {kept}", out.shape, "std per channel", out[:512].astype(np.float32).std(axis=(0, 1, 3, 4)).round(2))


if __name__ == "__main__":
    main()
