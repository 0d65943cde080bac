"""Photos to learn from, and short runs on the tiny models."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samecast as sc
from samecast.learn.lists import ToLearn, from_folder
from samecast.learn.settings import LearnSettings


@pytest.fixture(scope="session")
def photos_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three colourful photos that differ."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(1)
    for number in range(3):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((80, 72), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def class_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of the class."""
    folder = tmp_path_factory.mktemp("class")
    generator = np.random.default_rng(2)
    for number in range(2):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def subject(photos_dir: Path, class_dir: Path) -> ToLearn:
    return from_folder(photos_dir, "dog", class_folder=class_dir)


@pytest.fixture
def three(subject: ToLearn) -> list[ToLearn]:
    """Three subjects, each with its token."""
    return [
        replace(subject, token=token, noun=noun, caption=f"a photo of a {token} {noun}")
        for token, noun in (("<new1>", "dog"), ("<new2>", "cat"), ("<new3>", "mug"))
    ]


@pytest.fixture(scope="session")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir)


@pytest.fixture(scope="session")
def short() -> LearnSettings:
    """Four steps at a rate that shows."""
    return LearnSettings(steps=4, batch=2, learning_rate=1e-3, token_rate=1e-2, class_images=2)
