"""A small study on the tiny model: real classes, few steps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.models.loading import load_backbone
from samecast.models.unet import UNetBackbone
from samecast.study.folder import StudyFolder
from samecast.study.grid import Grid
from samecast.study.job import prepare
from samecast.study.presets import aiku
from samecast.study.recipe import Recipe
from samecast.study.subjects import StudySubject

STEPS, SIZE = 10, 32


@pytest.fixture(scope="session")
def backbone(tiny_pipeline_dir: Path) -> UNetBackbone:
    return load_backbone(tiny_pipeline_dir)


@pytest.fixture(scope="session")
def rex(photo: Image.Image) -> StudySubject:
    return StudySubject("rex", ("a dog on the beach", "a red dog"), (photo,), "dog")


def recipe_of(backbone: UNetBackbone, grid: Grid | None = None, **others: Any) -> Recipe:
    settings = sc.RenderSettings(
        num_inference_steps=others.pop("steps", STEPS),
        init=others.pop("init", "inverted"),
        guidance_scale=others.pop("guidance_scale", 7.5),
        source_memory=others.pop("source_memory", None),
        pairing=others.pop("pairing", "matched"),
        height=SIZE,
        width=SIZE,
    )
    return Recipe(
        grid or aiku(settings.num_inference_steps),
        settings,
        str(backbone.identity.id),
        "",
        "",
        clip="diorama",
        **others,
    )


Create = Callable[..., StudyFolder]


@pytest.fixture
def create(tmp_path: Path, backbone: UNetBackbone, rex: StudySubject) -> Create:
    """Writes a study down; `grid`, `subjects`, `name` and the recipe's own."""

    def make(grid: Grid | None = None, subjects: Any = None, name: str = "study", **others: Any) -> StudyFolder:
        return prepare(tmp_path / name, recipe_of(backbone, grid, **others), subjects or [rex], backbone)[0]

    return make


class Counted:
    """Counts the rows that go through a denoiser, on the module itself, and may run out of memory."""

    def __init__(self, backbone: UNetBackbone, most: int | None = None) -> None:
        self.calls: list[int] = []
        self.most = most
        self._handle = backbone.denoiser.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: Any) -> None:
        rows = int((args[0] if args else kwargs["sample"]).shape[0])
        if self.most is not None and rows > self.most:
            raise torch.OutOfMemoryError(f"{rows} rows are more than {self.most}")
        self.calls.append(rows)

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *data: object) -> None:
        self._handle.remove()

    @property
    def total(self) -> int:
        return sum(self.calls)


def subject_of(folder: StudyFolder, name: str = "rex") -> StudySubject:
    """One of a study's subjects, as it is kept there."""
    return next(subject for subject in subjects_of(folder) if subject.name == name)


def subjects_of(folder: StudyFolder) -> list[StudySubject]:
    """All of them that can be read."""
    return [subject for subject in folder.subjects() if isinstance(subject, StudySubject)]


TOLERANCE = 1e-4
"""Of pixels, 0 to 1, in fp32 before they are quantised: batch shapes change rounding, and steps add it up."""


@torch.inference_mode()
def assert_same_picture(backbone: UNetBackbone, one: torch.Tensor, two: torch.Tensor) -> None:
    """Two latents decode to the same picture."""
    vae = backbone.pipeline.vae
    first, second = (
        vae.decode(z[None] / vae.config.scaling_factor, return_dict=False)[0] / 2 + 0.5 for z in (one, two)
    )
    torch.testing.assert_close(first.clamp(0, 1), second.clamp(0, 1), atol=TOLERANCE, rtol=0)
