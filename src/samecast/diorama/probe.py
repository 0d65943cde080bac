"""The probe: an independent judge that reads words, colours and a mask from a picture of the world.

A small convolutional network trained on renders, half of them passed through the autoencoder in the last phase; it
shares nothing with CLIP and was not trained on generated images. It segments the subject's parts and reads each colour
from its own part. The model card lists its required accuracy.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from samecast.diorama.colours import WHITE, XYZ_FROM_RGB, ciede2000, colour_word
from samecast.diorama.scenes import (
    ACCESSORIES,
    ANIMALS,
    BACKGROUNDS,
    CLASSES,
    PATTERNS,
    POSES,
    VIEWS,
    Identity,
    Lab,
    Scene,
)

WEIGHTS = Path(__file__).parents[1] / "weights" / "probe"
SAME_COLOUR = 10.0
"""Two colours count as the same within this CIEDE2000 difference."""

CHOICES: dict[str, tuple[str, ...]] = {
    "kind": CLASSES,
    "pose": POSES,
    "view": VIEWS,
    "background": BACKGROUNDS,
    "pattern": PATTERNS,
    "accessory": ACCESSORIES,
}
PIXELS = ("scene", "base", "second", "accessory", "other")
"""The classes of the probe's segmentation: the scene, and the subject's parts by colour."""
LAB_CENTRE, LAB_SCALE = (50.0, 0.0, 0.0), 30.0
LINEAR_TO_XYZ = (XYZ_FROM_RGB / WHITE[:, None]).tolist()


@dataclass(frozen=True)
class Reading:
    """A reading of the probe: words, their probabilities, the two colours in Lab, and the subject's mask."""

    kind: str
    pose: str
    view: str
    background: str
    pattern: str
    accessory: str
    base: Lab
    second: Lab
    confidence: dict[str, float]
    mask: NDArray[np.bool_]

    @property
    def colour(self) -> str:
        """The colour word of the base colour."""
        return colour_word(self.base)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one picture: for the subject, whether class, pattern and accessory are correct, and both colours'
    errors (CIEDE2000); for the scene, whether pose, view and background are correct."""

    kind: bool
    pattern: bool
    accessory: bool
    base_error: float
    second_error: float
    pose: bool
    view: bool
    background: bool

    @property
    def colours(self) -> bool:
        """Whether both colours match the subject's."""
        return max(self.base_error, self.second_error) <= SAME_COLOUR

    @property
    def identity(self) -> bool:
        """Whether the picture shows the same subject."""
        return self.kind and self.pattern and self.accessory and self.colours

    @property
    def scene(self) -> bool:
        """Whether the picture shows the requested scene."""
        return self.pose and self.view and self.background

    @property
    def both(self) -> bool:
        """Whether subject and scene are correct: the main measure."""
        return self.identity and self.scene


def judge(reading: Reading, identity: Identity, scene: Scene) -> Verdict:
    """Compare a reading with the expected identity and scene; attributes that a scene leaves open count as correct."""
    base, second = ciede2000([reading.base, reading.second], [identity.base, identity.second])
    return Verdict(
        kind=reading.kind == identity.kind,
        pattern=reading.pattern == identity.pattern,
        accessory=reading.accessory == identity.accessory,
        base_error=float(base),
        second_error=float(second),
        pose=not scene.pose or reading.pose == scene.pose,
        view=not scene.view or reading.view == scene.view,
        background=not scene.background or reading.background == scene.background,
    )


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class ProbeNetwork(nn.Module):
    """Pictures (n, 3, 128, 128) in -1..1 to logits per attribute, Lab colours (n, 2, 3) and segmentation logits (n, 5,
    128, 128) over `PIXELS`.

    The input is unshuffled from 4 x 4 pixels to 48 channels, and the segmentation shuffled back, so that it is sharp at
    a quarter of the resolution's cost. Colours are averaged over the pixels of their part, then corrected for the
    light.
    """

    def __init__(self, widths: Sequence[int] = (64, 96, 128)) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.stem = nn.Conv2d(48, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList([nn.Sequential(_Block(width), _Block(width)) for width in widths])
        self.downs = nn.ModuleList([nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths)])
        self.ups = nn.ModuleList([nn.Conv2d(b + a, a, 3, padding=1) for a, b in pairwise(widths)])
        self.parts = nn.Conv2d(widths[0], 16 * len(PIXELS), 3, padding=1)
        pooled = sum(widths) + 3 * widths[0] + widths[-1] * 5 + len(PIXELS)
        self.trunk = nn.Sequential(nn.LayerNorm(pooled), nn.Linear(pooled, 256), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(words)) for name, words in CHOICES.items()})
        self.colours = nn.Sequential(nn.Linear(256 + 12, 128), nn.SiLU(), nn.Linear(128, 6))

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Evaluates a batch."""
        levels = [self.blocks[0](self.stem(F.pixel_unshuffle(x, 4)))]
        for down, block in zip(self.downs, list(self.blocks)[1:], strict=True):
            levels.append(block(down(levels[-1])))
        y = levels[-1]
        for level, up in reversed(list(zip(levels[:-1], self.ups, strict=True))):
            y = F.silu(up(torch.cat([F.interpolate(y, scale_factor=2.0), level], dim=1)))
        parts = F.pixel_shuffle(self.parts(y).float(), 4)
        shares = parts.detach().softmax(1)
        subject = 1.0 - shares[:, :1]
        pooled = [_under(level, subject) for level in (y, *levels[1:])]  # features on the subject, at every scale
        pooled += [_under(y, shares[:, part : part + 1]) for part in (1, 2, 3)]
        pooled += [levels[-1].mean((2, 3)), F.adaptive_max_pool2d(levels[-1], (2, 2)).flatten(1)]
        pooled.append((shares.mean((2, 3)) + 1e-5).log())  # size of each part
        features = self.trunk(torch.cat([part.float() for part in pooled], dim=1))
        words = {name: head(features).float() for name, head in self.heads.items()}
        with torch.autocast(x.device.type, enabled=False):  # colours are computed in full precision, also in training
            lab = pixel_lab(x).flatten(2).transpose(1, 2)
            weights = shares[:, 1:3].flatten(2).float() + 1e-7
            weights = weights / weights.sum(-1, keepdim=True)
            seen = weights @ lab
            spread = ((weights @ lab.square()) - seen.square()).clamp(min=1e-8).sqrt()
            data = torch.cat([features.float(), seen.flatten(1), spread.flatten(1)], dim=1)
            colours = self.colours(data) + seen.flatten(1)
        return words, colours.view(-1, 2, 3), parts


def _under(level: Tensor, share: Tensor) -> Tensor:
    """Average features (n, c, h, w) weighted by a share (n, 1, height, width): (n, c)."""
    weight = F.adaptive_avg_pool2d(share, (level.shape[-2], level.shape[-1])) + 1e-5
    return (level * weight).sum((2, 3)) / weight.sum((2, 3))


def subject_logits(parts: Tensor) -> Tensor:
    """Turn logits of parts (n, 5, height, width) into logits of the whole subject (n, height, width)."""
    return parts[:, 1:].logsumexp(1) - parts[:, 0]


SIZE = 128


def pixel_lab(x: Tensor) -> Tensor:
    """Turn pictures (n, 3, height, width) in -1..1 into Lab, centred and scaled like the network's colours."""
    srgb = ((x.float() + 1) / 2).clamp(0, 1)
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    ratio = torch.einsum("ij,njhw->nihw", torch.tensor(LINEAR_TO_XYZ, dtype=x.dtype, device=x.device).float(), linear)
    f = torch.where(ratio > 0.008856, ratio.clamp(min=1e-6) ** (1 / 3), 7.787 * ratio + 4 / 29)
    lab = torch.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], dim=1)
    return (lab - torch.tensor(LAB_CENTRE, device=x.device).view(1, 3, 1, 1)) / LAB_SCALE


def prepare(images: Sequence[Image.Image | NDArray[np.uint8]]) -> Tensor:
    """Turn square pictures of any size into the network's input, (n, 3, 128, 128) in -1..1."""
    ready: list[NDArray[np.float32]] = []
    for image in images:
        picture = (image if isinstance(image, Image.Image) else Image.fromarray(image)).convert("RGB")
        if picture.size != (SIZE, SIZE):
            picture = picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        ready.append(np.asarray(picture, dtype=np.float32) / 127.5 - 1.0)
    return torch.from_numpy(np.stack(ready)).permute(0, 3, 1, 2)


class Probe:
    """The trained probe."""

    def __init__(self, network: ProbeNetwork) -> None:
        self.network = network.float().eval().requires_grad_(False)

    def read(self, images: Sequence[Image.Image | NDArray[np.uint8]], batch: int = 64) -> list[Reading]:
        """Read square pictures of any size; a thing's pose is an empty string. Masks have the first picture's size."""
        readings: list[Reading] = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            first = part[0]
            size = first.size[0] if isinstance(first, Image.Image) else first.shape[0]
            logits, colours, parts = self.network(prepare(part))
            masks = F.interpolate(subject_logits(parts).unsqueeze(1), (size, size), mode="bilinear").squeeze(1) > 0
            labs = colours.numpy() * LAB_SCALE + np.array(LAB_CENTRE)
            chances = {name: values.softmax(1) for name, values in logits.items()}
            for index in range(len(part)):
                words = {name: CHOICES[name][int(values[index].argmax())] for name, values in chances.items()}
                if words["kind"] not in ANIMALS:
                    words |= {"pose": "", "accessory": "none"}
                sure = {name: float(values[index].max()) for name, values in chances.items()}
                base, second = ((float(lab[0]), float(lab[1]), float(lab[2])) for lab in labs[index])
                mask = masks[index].numpy()
                readings.append(Reading(**words, base=base, second=second, confidence=sure, mask=mask))
        return readings


def load_probe(folder: Path = WEIGHTS) -> Probe:
    """Load the probe from a folder with `config.json` and `probe.safetensors`."""
    network = ProbeNetwork(**json.loads((folder / "config.json").read_text()))
    network.load_state_dict({name: value.float() for name, value in load_file(folder / "probe.safetensors").items()})
    return Probe(network)
