"""The probe: `python -m training.probe --minutes 15` trains the judge on renders, roughened so that it also holds on
pictures that an autoencoder has blurred. It never sees a generated image.

With `--reconstructed 0.5` half of the renders come through the autoencoder, as every picture does that it will judge;
`training.latents` must have encoded them. `--sets train,mates` takes other renders too.
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
from training.data import ROOT, Pictures, spec_of
from training.fast import quicken
from training.loop import Recipe, recipe, train

ABSENT = -100

Words = dict[str, torch.Tensor]
"""The index of each attribute's word, (n) each with ABSENT where it does not apply."""


def labels(specs: list[Spec]) -> tuple[Words, torch.Tensor]:
    """Return what the pictures of specs show, and the two colours in scaled Lab (n, 2, 3)."""
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


class Album:
    """A set of renders with the truth about them; where an autoencoder is given, a share of them comes through it."""

    def __init__(self, name: str, made: Recipe, vae: AutoencoderKL | None, reconstructed: float) -> None:
        self.made, self.vae, self.reconstructed = made, vae, reconstructed
        self.pictures = Pictures(name)
        self.latents = np.load(self.pictures.folder / "latents.npy", mmap_mode="r") if vae else None
        self.count = len(self.pictures.images) if self.latents is None else len(self.latents)
        specs = [spec_of(name, index) for index in range(self.count)]
        self.truths = labels(specs), labels([spec.mirrored() for spec in specs])

    @property
    def ready(self) -> int:
        """How many pictures can be drawn from: more of them while they are being rendered."""
        return min(self.count, self.pictures.ready)

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, Words, torch.Tensor]:
        """Return a batch: pictures (n, 3, 128, 128) in -1..1, what their pixels show, and labels as `labels` gives
        them. Every other one is mirrored."""
        picks = np.sort(rng.integers(self.ready, size=self.made.batch))
        flip = rng.uniform(size=self.made.batch) < 0.5
        images, parts = (
            np.stack([held[i][:, ::-1] if f else held[i] for i, f in zip(picks, flip, strict=True)])
            for held in (self.pictures.images, self.pictures.parts)
        )
        x = inputs(images)
        if self.vae is not None:
            through = rng.uniform(size=self.made.batch) < self.reconstructed
            x[torch.from_numpy(through)] = self.decoded(picks[through], flip[through])
        (words, labs), (mirrored_words, _) = self.truths
        flipped = torch.from_numpy(flip)
        right: Words = {name: torch.where(flipped, mirrored_words[name][picks], words[name][picks]) for name in words}
        return x, torch.from_numpy(parts).clamp(max=len(PIXELS) - 1), right, labs[picks]

    @torch.no_grad()
    def decoded(self, picks: np.ndarray, flip: np.ndarray) -> torch.Tensor:
        """Return reconstructions of pictures, or of their mirror images where `flip` says so."""
        assert self.vae is not None
        assert self.latents is not None
        z = torch.from_numpy(self.latents[picks, flip.astype(int)].astype(np.float32) / self.vae.config.scaling_factor)
        z = z.to(self.made.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(z.device.type, self.made.dtype, enabled=self.made.dtype != torch.float32):
            x = self.vae.decode(z, return_dict=False)[0]
        return x.float().clamp(-1, 1).cpu()


def inputs(images: np.ndarray) -> torch.Tensor:
    """Turn pictures (n, height, width, 3) into the network's input."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    defaults = {"minutes": 15.0, "rate": 2e-3, "batch": 64}
    made, given = recipe("probe", **defaults, widths="64,96,128", sets="train", reconstructed=0.0)
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
    vae = None
    if given.reconstructed:
        vae = AutoencoderKL.from_pretrained(ROOT / "vae" / "model").requires_grad_(False)
        vae = vae.to(made.device, memory_format=torch.channels_last)
    albums = [Album(name, made, vae, given.reconstructed) for name in given.sets.split(",")]
    unseen, held_out = Pictures("held-out"), labels([sample_spec(HELD_OUT + index) for index in range(512)])
    shares = np.array([album.count for album in albums]) / sum(album.count for album in albums)
    print(f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)

    def loss_at(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = np.random.default_rng(made.draws(step))
        x, parts, right, labs = albums[rng.choice(len(albums), p=shares)].draw(rng)
        x, goal = zoomed(x, parts)
        x, goal = roughen(x).to(made.device, memory_format=torch.channels_last), goal.to(made.device)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            logits, colours, pixels = network(x)
        loss = F.cross_entropy(pixels, goal) * 6
        hits: dict[str, float] = {}
        for name, values in logits.items():
            goal = right[name].to(made.device)
            loss = loss + F.cross_entropy(values.float(), goal)
            hits[name] = (values.argmax(1) == goal)[goal != ABSENT].float().mean().item()
        return loss + 3 * F.smooth_l1_loss(colours, labs.to(made.device), beta=0.2), hits

    def scores(pictures: torch.Tensor) -> dict[str, float]:
        answers = [network(part.to(made.device)) for part in pictures.split(64)]
        found = {}
        for name, right in held_out[0].items():
            guess = torch.cat([answer[0][name] for answer in answers]).argmax(1).cpu()
            found[name] = (guess == right)[right != ABSENT].float().mean().item()
        labs = torch.cat([answer[1] for answer in answers]).cpu().numpy()
        error = ciede2000(labs * LAB_SCALE + LAB_CENTRE, held_out[1].numpy() * LAB_SCALE + LAB_CENTRE)
        found["base_error"], found["second_error"] = float(error[:, 0].mean()), float(error[:, 1].mean())
        masks = torch.cat([subject_logits(answer[2]) for answer in answers]).cpu() > 0
        true = torch.from_numpy(unseen.masks[:512])
        found["mask_iou"] = ((masks & true).sum((1, 2)) / (masks | true).sum((1, 2)).clamp(min=1)).mean().item()
        return found

    def evaluate(step: int) -> dict[str, float]:
        pictures = inputs(unseen.images[:512])
        if vae is None:
            return scores(pictures)
        through = [
            vae.decode(vae.encode(part.to(made.device)).latent_dist.mode()).sample for part in pictures.split(64)
        ]
        reconstructed = scores(torch.cat(through).clamp(-1, 1))
        return scores(pictures) | {f"reconstructed_{name}": value for name, value in reconstructed.items()}

    weights = train(made, network, loss_at, evaluate, evaluate_every=500)
    folder = made.folder / "model"
    folder.mkdir(exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in weights.items()}, folder / "probe.safetensors")
    (folder / "config.json").write_text(json.dumps({"widths": widths}))


if __name__ == "__main__":
    main()
