"""Scores against their definitions: cosines of unit features, means over photos, the probe's verdicts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samecast.diorama.benchmark import case
from samecast.errors import SamecastError
from samecast.score.alignment import load_clip, load_vit
from samecast.score.models import locate
from samecast.study.recipe import Cast
from samecast.study.scoring import Judged, Scorers, default_clip, default_dino, load_scorers, score_key
from samecast.study.subjects import StudySubject, bundled


@pytest.fixture(scope="module")
def dino_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT of the class that DINO's weights have."""
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


CAST = Cast(("a",), "a dog", 0)


def scored(scorers: Scorers, subject: StudySubject, wanted: list[Judged]) -> dict[str, dict[str, Any]]:
    return {key: data for part in scorers.score(subject, wanted) for key, data in part.items()}


def pictures(count: int) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(count)]


def test_alignment_is_the_mean_cosine_over_photos(dino_dir: Path) -> None:
    one, two, photo, other = pictures(4)
    scorers = load_scorers("diorama", str(dino_dir))
    subject = StudySubject("x", ("a dog", "a cat"), (photo, other))
    found = scored(scorers, subject, [("a", "a dog", one), ("b", "a cat", two), ("c", "a cat", one)])
    clip, dino = load_clip(), load_vit(dino_dir)
    assert found["a"]["text_alignment"] == pytest.approx(clip.text_alignment([one], ["a dog"])[0], abs=1e-5)
    assert found["b"]["image_alignment"] == pytest.approx(clip.image_alignment([two], [photo, other])[0], abs=1e-5)
    seen, photos = dino.embed_images([one]), dino.embed_images([photo, other])
    assert found["c"]["dino_alignment"] == pytest.approx(float((seen @ photos.T).mean()), abs=1e-5)
    assert found["a"]["identity"] is None
    assert dino.embed_images([one, one]).norm(dim=-1).tolist() == pytest.approx([1, 1])


def test_each_distinct_picture_is_looked_at_once() -> None:
    scorers = load_scorers("diorama", "")
    seen: list[int] = []
    handle = scorers.clip.model.vision_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    one, two, photo = pictures(3)
    wanted = [(str(n), "a dog", (one, two)[n % 2]) for n in range(150)]  # more than are looked at together
    assert len(scored(scorers, StudySubject("x", ("a dog",), (photo,)), wanted)) == 150
    handle.remove()
    assert seen == [1, 2]  # the photo, and two distinct pictures in one batch


def test_the_truth_is_the_probes_and_hidden_photos_are_judged_by_whole_ones() -> None:
    whole, partly = bundled(128, subjects=1, prompts=2, hidden=True)
    scorers = load_scorers("diorama", "")
    data = case(0)
    right = whole.judged[0]  # a render of the subject: identity right, whatever the scene
    found = scored(scorers, partly, [("a", data.tasks[0].prompt, right)])["a"]
    assert found["identity"] is True
    assert found["both"] == (found["identity"] and found["scene"])
    assert found["image_alignment"] == pytest.approx(1, abs=1e-5)
    assert score_key(scorers.facts, whole, CAST) == score_key(scorers.facts, partly, CAST)


def test_another_scorer_has_keys_of_its_own(dino_dir: Path) -> None:
    (subject,) = bundled(32, subjects=1)
    one, two = load_scorers("diorama", ""), load_scorers("diorama", str(dino_dir))
    assert score_key(one.facts, subject, CAST) != score_key(two.facts, subject, CAST)
    moved = {**one.facts, "clip": {**one.facts["clip"], "id": "elsewhere"}}
    assert score_key(moved, subject, CAST) == score_key(one.facts, subject, CAST)
    for other in (replace(CAST, prompt="a cat"), replace(CAST, photos=("b",)), replace(CAST, seed=1)):
        assert score_key(one.facts, subject, other) != score_key(one.facts, subject, CAST)
    assert one.facts["clip"]["scale"] == "cosine"
    assert "image_mean" in str(one.facts["clip"]["preprocessing"])


def test_who_judges_unless_somebody_says_otherwise() -> None:
    assert (default_clip("diorama"), default_dino("diorama", "x")) == ("diorama", "diorama")
    assert default_dino("sd", default_clip("sd")) == "facebook/dino-vits16"
    assert default_dino("sd", "path/to/clip") == "none"
    assert load_scorers("diorama", "none").dino is None


def test_models_that_are_not_there_are_told_in_one_line(tmp_path: Path) -> None:
    for call in (lambda: locate(tmp_path / "gone"), lambda: load_vit(tmp_path), lambda: load_scorers("gone", "")):
        with pytest.raises(SamecastError) as caught:
            call()
        assert "\n" not in str(caught.value)
