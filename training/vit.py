"""The self-supervised ViT: `python -m training.vit --minutes 30` fits a ViTModel to renders without any label.

The stand-in for DINO in image alignment. Two random crops of one picture, one seen by the student and one by its moving
average, must find each other among all others of the batch (MoCo v3; Chen, Xie and He, 2021). Colours are jittered in
brightness and contrast alone: hue is what tells subjects apart here.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from samecast.diorama.renderer import render_many
from samecast.diorama.scenes import HELD_OUT, Spec, sample_identity, sample_scene
from training.clip import MEAN, STD
from training.data import Pictures
from training.loop import recipe, train

SIZE = 64
TEMPERATURE = 0.2


def build(width: int, layers: int) -> ViTModel:
    """Return the untrained model: pictures of 64 px in patches of 8; its first token is the embedding."""
    return ViTModel(
        ViTConfig(
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            intermediate_size=4 * width,
            image_size=SIZE,
            patch_size=8,
        ),
        add_pooling_layer=False,
    )


def head(inside: int, hidden: int, outside: int) -> nn.Sequential:
    """Return a projection that is thrown away after training."""
    return nn.Sequential(
        nn.Linear(inside, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, outside, bias=False)
    )


class Twins(nn.Module):
    """The student, and the teacher that follows it."""

    def __init__(self, vit: ViTModel) -> None:
        super().__init__()
        width = vit.config.hidden_size
        self.vit, self.projector, self.predictor = vit, head(width, 512, 128), head(128, 512, 128)
        self.teacher = nn.ModuleList([copy.deepcopy(self.vit), copy.deepcopy(self.projector)]).requires_grad_(False)

    def follow(self, keep: float) -> None:
        """Move the teacher towards the student."""
        ours = [*self.vit.parameters(), *self.projector.parameters()]
        torch._foreach_lerp_(list(self.teacher.parameters()), ours, 1 - keep)

    def asked(self, x: Tensor) -> Tensor:
        """Return the student's unit vectors, (n, 128)."""
        return F.normalize(self.predictor(self.projector(self.vit(x).last_hidden_state[:, 0])), dim=-1)

    @torch.no_grad()
    def known(self, x: Tensor) -> Tensor:
        """Return the teacher's unit vectors, (n, 128)."""
        vit, projector = self.teacher
        return F.normalize(projector(vit(x).last_hidden_state[:, 0]), dim=-1)


def normal(images: Tensor) -> Tensor:
    """Normalise pictures in 0..1, (n, 3, height, width), as CLIP does."""
    return (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def distorted(images: Tensor) -> Tensor:
    """Cut a random part (a fifth to all of the area) of each picture in 0..1, at times mirrored, brighter or darker,
    more or less contrasty, blurred; returns (n, 3, 64, 64) normalised."""
    n = len(images)
    side = torch.sqrt(torch.empty(n).uniform_(0.2, 1.0))
    aspect = torch.exp(torch.empty(n).uniform_(-0.25, 0.25))
    wide, high = (side * aspect).clamp(max=1.0), (side / aspect).clamp(max=1.0)
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    boxes = torch.zeros(n, 2, 3)
    boxes[:, 0, 0], boxes[:, 0, 2] = wide * flip, (1 - wide) * torch.empty(n).uniform_(-1, 1)
    boxes[:, 1, 1], boxes[:, 1, 2] = high, (1 - high) * torch.empty(n).uniform_(-1, 1)
    soft = torch.rand(n) < 0.2
    images = torch.where(soft.view(n, 1, 1, 1), F.avg_pool2d(images, 5, 1, 2), images)
    grid = F.affine_grid(boxes, [n, 3, SIZE * 2, SIZE * 2], align_corners=False)
    cut = F.avg_pool2d(F.grid_sample(images, grid, padding_mode="reflection", align_corners=False), 2)
    mean = cut.mean(dim=(1, 2, 3), keepdim=True)
    contrast, light = torch.empty(2, n, 1, 1, 1).uniform_(0.75, 1.3)
    return normal((((cut - mean) * contrast + mean) * light).clamp(0, 1))


def pairs(count: int) -> list[Spec]:
    """Return twice as many specs: held-out subjects, each in two scenes, one after the other."""
    specs: list[Spec] = []
    for index in range(count):
        rng = np.random.default_rng((HELD_OUT, index))
        identity = sample_identity(rng)
        specs += [Spec(identity, sample_scene(rng, identity.kind)) for _ in range(2)]
    return specs


def tensor(images: np.ndarray) -> Tensor:
    """Turn uint8 pictures (n, height, width, 3) into floats in 0..1, (n, 3, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    """Train and save to `runs/<name>/model`."""
    made, given = recipe("vit", minutes=30.0, rate=1e-3, batch=128, width=128, layers=5, average=0.99)
    twins = Twins(build(given.width, given.layers)).to(made.device)
    pictures = Pictures()
    print(f"{sum(p.numel() for p in twins.vit.parameters()) / 1e6:.2f} M parameters", flush=True)
    known = normal(F.avg_pool2d(tensor(np.stack([picture.image for picture in render_many(pairs(128), 128)])), 2))

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(made.draws(step))
        images = tensor(pictures.images[np.sort(rng.integers(pictures.ready, size=made.batch))])
        views = [distorted(images).to(made.device) for _ in range(2)]
        with torch.no_grad():
            twins.follow(min(0.99, 1 - 1 / (step + 2)))
        right = torch.arange(made.batch, device=made.device)
        with torch.autocast(made.device.type, made.dtype, enabled=made.dtype != torch.float32):
            logits = [twins.asked(view) @ twins.known(other).T for view, other in (views, views[::-1])]
        loss = sum(F.cross_entropy(part.float() / TEMPERATURE, right) for part in logits) / 2
        assert isinstance(loss, Tensor)
        return loss, {"top1": (logits[0].argmax(1) == right).float().mean().item()}

    def evaluate(step: int) -> dict[str, float]:
        found = F.normalize(twins.vit(known.to(made.device)).last_hidden_state[:, 0].float(), dim=-1)
        likeness = found[::2] @ found[1::2].T
        return {"same_subject_of_128": (likeness.argmax(1) == torch.arange(128)).float().mean().item()}

    twins.load_state_dict(train(made, twins, loss_at, evaluate, evaluate_every=200))
    twins.vit.save_pretrained(made.folder / "model")
    ViTImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, image_mean=list(MEAN), image_std=list(STD)
    ).save_pretrained(made.folder / "model")


if __name__ == "__main__":
    main()
