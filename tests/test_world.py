"""A photo that the embedded model does not know is told, once; what it knows is not."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageFilter

import samecast as sc
from benchmarks.world import own, textures
from samecast.core.embedded import INSTEAD, KNOWS
from samecast.diorama.scenes import CLASSES
from samecast.render.world import FOREIGN, strangeness

QUICK = {"num_inference_steps": 2, "rules": sc.masactrl(1)}


@pytest.fixture(scope="module")
def model() -> sc.Model:
    return sc.load(device="cpu")


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    """A photograph of a person that matplotlib brings along."""
    return Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB")


def test_photos_of_the_embedded_world_are_known(model: sc.Model) -> None:
    errors = [strangeness(model.backbone, image) for _, image in own(subjects=2, first=300)]
    assert len(errors) == 40
    assert max(errors) < FOREIGN


def test_what_the_model_made_is_known(model: sc.Model) -> None:
    made = model.render(None, ["a dog on the beach", "a cat at night"], rules=(), init="noise", num_inference_steps=12)
    assert max(strangeness(model.backbone, image) for image in made.images) < FOREIGN


def test_photographs_and_textures_are_not_known(model: sc.Model, hopper: Image.Image) -> None:
    blurred = [hopper.filter(ImageFilter.GaussianBlur(radius)) for radius in (4, 16, 32)]
    gradient = np.linspace(0, 255, 256, dtype=np.uint8)[None, :, None] * np.ones((256, 1, 3), np.uint8)
    others = [hopper, hopper.crop((150, 50, 350, 250)), hopper.resize((48, 56)), *blurred]
    others += [image for _, image in textures()][:4]
    assert min(strangeness(model.backbone, image) for image in others) > FOREIGN
    assert strangeness(model.backbone, Image.fromarray(gradient)) > 0  # whatever it is, it is a number


def test_rendering_a_photograph_warns_once(model: sc.Model, hopper: Image.Image, tmp_path: Path) -> None:
    hopper.save(tmp_path / "hopper.png")
    made = model.render(sc.Subject((hopper, tmp_path / "hopper.png")), ["a dog", "a cat"], **QUICK)
    data = [warning for warning in made.warnings if "embedded model" in warning]
    assert data == [f"photo 1 is unlike all that the embedded model knows: it knows {KNOWS}; {INSTEAD}"]
    assert made.provenance["warnings"] == list(made.warnings)
    known = Path(__file__).parents[1] / "examples" / "rex" / "0.png"
    mixed = model.render(sc.Subject((known, tmp_path / "hopper.png")), ["a dog"], **QUICK)
    assert "photo 2 (" in "".join(mixed.warnings)
    assert not any("embedded" in warning for warning in model.render(sc.Subject((known,)), ["a dog"], **QUICK).warnings)


def test_the_check_changes_no_count_and_no_other_model(
    model: sc.Model, hopper: Image.Image, tiny_pipeline_dir: Path
) -> None:
    made = model.render(sc.Subject((hopper,)), ["a dog"], **QUICK)
    assert made.evaluations == model.render(sc.Subject((made.images[0],)), ["a dog"], **QUICK).evaluations
    other = sc.load(tiny_pipeline_dir, device="cpu").render(sc.Subject((hopper,)), ["a dog"], **QUICK)
    assert not any("embedded" in warning for warning in other.warnings)


def test_a_photo_that_is_not_read_is_not_told_of(model: sc.Model, hopper: Image.Image) -> None:
    made = model.render(sc.Subject((hopper,)), ["a dog"], rules=(), init="noise", num_inference_steps=2)
    assert not any("embedded" in warning for warning in made.warnings)


def test_what_is_told_is_what_the_world_has() -> None:
    for kind in CLASSES:
        assert f"{kind}s" in KNOWS
    assert "GB" in INSTEAD
