"""What the flow transformer learns from, drawn and encoded ahead: `python -m training.flow_data --count 16384`.

Pictures are drawn once at 256 px and encoded with the shipped autoencoder, plain and mirrored, at 256 px and, halved by
area, at 128 px. A shard holds 256 of them and is written whole or not at all; a killed run goes on with the first shard
that is missing, a larger `--count` adds to what is there, and training reads the shards that exist. `--name mates`
draws a second photo of each subject, `--name held-out` the pictures that measure the loss.
"""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from samecast.diorama.renderer import PARTS, Picture, render
from samecast.diorama.scenes import HELD_OUT
from training.data import ROOT, spec_of
from training.latents import encoder_hash
from training.loop import fast_dtype
from training.ship import WEIGHTS

SIZE, SHARD, TOKENS = 256, 256, 16
"""Pixels of a side, pictures of a shard, and tokens of a side at 256 px."""
FIRST = {"held-out": HELD_OUT + 2_000_000}
LOUDNESS = 0.5
"""What the shipped autoencoder's scaling factor is multiplied by. The U-Net's schedule wanted latents of deviation 2
(`training.scale`); a flow, which mixes latents and noise in equal parts, wants 1."""


def shipped_vae() -> AutoencoderKL:
    """Return the shipped autoencoder in float32, its weights as they are, its scaling factor the flow's."""
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "diorama" / "vae", torch_dtype=torch.float32).eval()
    vae.requires_grad_(False)
    vae.register_to_config(scaling_factor=vae.config.scaling_factor * LOUDNESS, shift_factor=0.0)  # FLUX adds the shift
    return vae


@torch.no_grad()
def encoded(vae: AutoencoderKL, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the latents of pictures (n, 3, side, side) in -1..1, plain and mirrored: fp16 (n, 2, channels, side / 8,
    side / 8)."""
    sides = []
    for view in (images, images.flip(-1)):
        with torch.autocast(view.device.type, dtype, enabled=dtype != torch.float32):
            z = vae.encode(view.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        sides.append((z.float() * vae.config.scaling_factor).half().cpu())
    return torch.stack(sides, dim=1)


def shares(parts: np.ndarray) -> torch.Tensor:
    """Return how much of each token shows each of `renderer.PARTS`, of parts uint8 (n, side, side): uint8
    (n, len(PARTS), 16, 16), 255 is all of it."""
    seen = torch.from_numpy(parts).long()
    one_hot = F.one_hot(seen, len(PARTS)).permute(0, 3, 1, 2).float()
    return (F.avg_pool2d(one_hot, parts.shape[-1] // TOKENS) * 255).round().byte().contiguous()


def folder_of(name: str) -> Path:
    """Return where a set's shards lie."""
    return ROOT / "flow-data" / name


def shard_of(
    vae: AutoencoderKL, pictures: list[Picture], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Encode pictures drawn at 256 px: `latents` (n, 2, 12, 32, 32), `small` (n, 2, 12, 16, 16), `parts`."""
    large, small = list[torch.Tensor](), list[torch.Tensor]()
    for start in range(0, len(pictures), 16):
        stack = np.stack([each.image for each in pictures[start : start + 16]])
        x = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        large.append(encoded(vae, x, dtype))
        small.append(encoded(vae, F.avg_pool2d(x, 2), dtype))
    return {
        "latents": torch.cat(large),
        "small": torch.cat(small),
        "parts": shares(np.stack([each.parts for each in pictures])),
    }


def draw(
    name: str, count: int, device: torch.device, threads: int | None, shard: int = SHARD, size: int = SIZE
) -> None:
    """Draw and encode the first `count` pictures of a set, rounded up to whole shards; shards that exist are kept.

    Raises:
        SystemExit: shards of another autoencoder lie there.
    """
    folder, vae = folder_of(name), shipped_vae().to(device, memory_format=torch.channels_last)
    folder.mkdir(parents=True, exist_ok=True)
    made_by, maker, dtype = encoder_hash(vae), folder / "made-by.json", fast_dtype(device)
    if maker.exists() and json.loads(maker.read_text())["encoder"] != made_by:
        raise SystemExit(f"{folder} was encoded by another autoencoder: delete it and draw again")
    maker.with_suffix(".part").write_text(json.dumps({"encoder": made_by, "scaling_factor": vae.config.scaling_factor}))
    maker.with_suffix(".part").replace(maker)
    first, began, drawn = FIRST.get(name, 0), time.monotonic(), 0
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for index in range(-(-count // shard)):
            path = folder / f"{index:05d}.safetensors"
            if path.exists():
                continue
            numbers = range(first + index * shard, first + (index + 1) * shard)
            pictures = list(pool.map(lambda number: render(spec_of(name, number), size), numbers))
            part = path.with_suffix(".part")
            save_file(shard_of(vae, pictures, device, dtype), part)
            part.replace(path)
            drawn += shard
            print(f"{name}: shard {index}, {drawn / (time.monotonic() - began):.1f} pictures/s", flush=True)


class Shards:
    """A set's shards as they are now, mapped into memory: rows by their number."""

    def __init__(self, name: str) -> None:
        self.name, self.tensors = name, list[dict[str, torch.Tensor]]()
        self.refresh()
        if not self.tensors:
            raise SystemExit(
                f"no pictures in {folder_of(name)}: run 'python -m training.flow_data --name {name}' first"
            )
        self.shard = len(self.tensors[0]["parts"])

    def refresh(self) -> None:
        """Take in shards that have been finished since."""
        while (path := folder_of(self.name) / f"{len(self.tensors):05d}.safetensors").exists():
            with safe_open(path, "pt") as file:
                self.tensors.append({name: file.get_tensor(name) for name in ("latents", "small", "parts")})

    def __len__(self) -> int:
        return sum(len(held["parts"]) for held in self.tensors)

    def take(self, kind: str, picks: np.ndarray, flip: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents of a kind (`latents` or `small`) (n, channels, height, width) and the shares of parts in 0..1
        (n, parts, 16, 16), mirrored where `flip` is 1; fp16 as they are held, and float32."""
        z, seen = list[torch.Tensor](), list[torch.Tensor]()
        for pick, mirrored in zip(picks.tolist(), flip.tolist(), strict=True):
            held, row = self.tensors[pick // self.shard], pick % self.shard
            z.append(held[kind][row, mirrored])
            seen.append(held["parts"][row].flip(-1) if mirrored else held["parts"][row])
        return torch.stack(z), torch.stack(seen).float() / 255


def main() -> None:
    """Draw a set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", choices=("train", "mates", "held-out"), default="train")
    parser.add_argument("--count", type=int, default=16_384)
    parser.add_argument("--threads", type=int, help="that draw (all cores)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args()
    draw(given.name, given.count, torch.device(given.device), given.threads)


if __name__ == "__main__":
    main()
