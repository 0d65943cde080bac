"""The probe: `python -m training.probe --minutes 15` trains the judge on renders, roughened so that it also holds on
pictures that an autoencoder has blurred. It never sees a generated image.

With `--reconstructed 0.5` half of the renders come through the autoencoder, which every picture it will judge comes
through. `training.latents` must have encoded them.
"""

import json

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from samecast.diorama.colours import ciede2000
from samecast.diorama.probe import CHOICES, LAB_CENTRE, LAB_SCALE, PIXELS, ProbeNetwork, subject_logits
from samecast.diorama.scenes import HELD_OUT, Spec, sample_spec
from training.data import ROOT, Pictures
from training.fast import quicken
from training.loop import Recipe, recipe, train

ABSENT = -100


def labels(specs: list[Spec]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return the index of each attribute, (n) each with ABSENT where it does not apply, and scaled Lab (n, 2, 3)."""
    rows: dict[str, list[int]] = {name: [] for name in CHOICES}
    for spec in specs:
        words = {name: getattr(spec.identity, name, None) or getattr(spec.scene, name, "") for name in CHOICES}
        for name, word in words.items():
            rows[name].append(CHOICES[name].index(word) if word else ABSENT)
    labs = np.array([[spec.identity.base, spec.identity.second] for spec in specs])
    scaled = torch.from_numpy(((labs - LAB_CENTRE) / LAB_SCALE).astype(np.float32))
    return {name: torch.tensor(values) for name, values in rows.items()}, scaled


def roughen(x: torch.Tensor) -> torch.Tensor:
    """Blur, coarsen, bleed the colours of and grain a share of a batch (n, 3, 128, 128), as lossy codecs do."""
    n, sides = len(x), x.shape[-2:]
    side = int(torch.randint(56, 105, ()))
    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
    coarse = F.interpolate(F.interpolate(x, (side, side), mode="area"), sides, mode="bilinear")
    bled = F.interpolate(F.avg_pool2d(x, 4), sides, mode="bilinear")
    bled = bled + (x - bled).mean(1, keepdim=True)  # lightness stays sharp
    how, share = torch.rand(n, 1, 1, 1), torch.rand(n, 1, 1, 1)
    worse = torch.where(how < 0.25, blurred, torch.where(how < 0.45, coarse, bled))
    x = torch.where(how < 0.6, torch.lerp(x, worse, share.sqrt()), x)
    grain = torch.rand(n, 1, 1, 1) * 0.08 * (torch.rand(n, 1, 1, 1) < 0.5)
    return x + grain * torch.randn_like(x)


def zoomed(x: torch.Tensor, parts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a square of at least seven eighths out of half of the pictures (n, 3, 128, 128) and part maps (n, 128, 128),
    and bring it to full size."""
    n = len(x)
    side = torch.where(torch.rand(n) < 0.5, torch.empty(n).uniform_(0.875, 1.0), 1.0)
    boxes = torch.zeros(n, 2, 3)
    boxes[:, 0, 0] = boxes[:, 1, 1] = side
    boxes[:, :, 2] = (1 - side).unsqueeze(1) * torch.empty(n, 2).uniform_(-1, 1)
    grid = F.affine_grid(boxes, list(x.shape), align_corners=False)
    near = F.grid_sample(parts.float().unsqueeze(1), grid, mode="nearest", align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False), near.squeeze(1).long()


class Codec:
    """The trained autoencoder's decoder, and the latents of the training pictures."""

    def __init__(self, made: Recipe, pictures: Pictures) -> None:
        self.made = made
        self.latents = np.load(pictures.folder / "latents.npy", mmap_mode="r")
        vae = AutoencoderKL.from_pretrained(ROOT / "vae" / "model").requires_grad_(False)
        self.vae = vae.to(made.device, memory_format=torch.channels_last)

    @torch.no_grad()
    def pictures(self, picks: np.ndarray, flip: np.ndarray) -> torch.Tensor:
        """Return reconstructions (n, 3, 128, 128) of pictures, or of their mirror images where `flip` says so."""
        z = torch.from_numpy(self.latents[picks, flip.astype(int)].astype(np.float32) / self.vae.config.scaling_factor)
        z = z.to(self.made.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(z.device.type, self.made.dtype, enabled=self.made.dtype != torch.float32):
            x = self.vae.decode(z, return_dict=False)[0]
        return x.float().clamp(-1, 1).cpu()


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    made, given = recipe("probe", minutes=15.0, rate=2e-3, batch=64, widths="64,96,128", reconstructed=0.0)
    widths = [int(width) for width in given.widths.split(",")]
    network = ProbeNetwork(widths)
    if made.init_from:  # parts that have changed their shape start afresh
        held = load_file(made.init_from / "probe.safetensors")
        ours = network.state_dict()
        fits = {name: value.float() for name, value in held.items() if name in ours and ours[name].shape == value.shape}
        print(f"{len(fits)} of {len(ours)} tensors from {made.init_from}", flush=True)
        network.load_state_dict(fits, strict=False)
    network = network.to(made.device, memory_format=torch.channels_last)
    if given.compile:
        network.compile()
    else:
        quicken(network)
    pictures, unseen = Pictures(), Pictures("held-out")
    codec = Codec(made, pictures) if given.reconstructed else None
    count = len(codec.latents) if codec else len(pictures.images)
    truths = labels([sample_spec(index) for index in range(count)])
    mirrored_truths = labels([sample_spec(index).mirrored() for index in range(count)])
    held_out = labels([sample_spec(HELD_OUT + index) for index in range(512)])
    print(
        f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters, {pictures.ready} of {count} pictures",
        flush=True,
    )

    def inputs(images: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        return x / 127.5 - 1.0

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(made.draws(step))
        drawn = min(count, pictures.ready)  # more of them while they are being drawn
        picks = np.sort(rng.integers(drawn, size=made.batch))
        flip = rng.uniform(size=made.batch) < 0.5
        images = np.stack(
            [pictures.images[i][:, ::-1] if f else pictures.images[i] for i, f in zip(picks, flip, strict=True)]
        )
        parts = np.stack(
            [pictures.parts[i][:, ::-1] if f else pictures.parts[i] for i, f in zip(picks, flip, strict=True)]
        )
        x = inputs(images)
        if codec:
            through = rng.uniform(size=made.batch) < given.reconstructed
            x[torch.from_numpy(through)] = codec.pictures(picks[through], flip[through])
        x, goal = zoomed(x, torch.from_numpy(parts).clamp(max=len(PIXELS) - 1))
        x, goal = roughen(x).to(made.device, memory_format=torch.channels_last), goal.to(made.device)
        flipped = torch.from_numpy(flip)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            logits, colours, pixels = network(x)
        loss = F.cross_entropy(pixels, goal) * 6
        hits: dict[str, float] = {}
        for name, values in logits.items():
            right = torch.where(flipped, mirrored_truths[0][name][picks], truths[0][name][picks]).to(made.device)
            loss = loss + F.cross_entropy(values.float(), right)
            known = right != ABSENT
            hits[name] = (values.argmax(1) == right)[known].float().mean().item()
        labs = truths[1][picks].to(made.device)
        return loss + 3 * F.smooth_l1_loss(colours, labs, beta=0.2), hits

    def evaluate(step: int) -> dict[str, float]:
        answers = [network(inputs(unseen.images[i : i + 64]).to(made.device)) for i in range(0, 512, 64)]
        scores = {}
        for name, right in held_out[0].items():
            guess = torch.cat([answer[0][name] for answer in answers]).argmax(1).cpu()
            scores[name] = (guess == right)[right != ABSENT].float().mean().item()
        labs = torch.cat([answer[1] for answer in answers]).cpu().numpy()
        error = ciede2000(labs * LAB_SCALE + LAB_CENTRE, held_out[1].numpy() * LAB_SCALE + LAB_CENTRE)
        scores["base_error"], scores["second_error"] = float(error[:, 0].mean()), float(error[:, 1].mean())
        masks = torch.cat([subject_logits(answer[2]) for answer in answers]).cpu() > 0
        true = torch.from_numpy(unseen.masks[:512])
        scores["mask_iou"] = ((masks & true).sum((1, 2)) / (masks | true).sum((1, 2)).clamp(min=1)).mean().item()
        return scores

    weights = train(made, network, loss_at, evaluate, evaluate_every=500)
    folder = made.folder / "model"
    folder.mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in weights.items()}, folder / "probe.safetensors")
    (folder / "config.json").write_text(json.dumps({"widths": widths}))


if __name__ == "__main__":
    main()
