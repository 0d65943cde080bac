"""Scores against their definitions: cosines of unit features, means over photos, the probe's verdicts."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from samecast.core.settings import RenderSettings
from samecast.diorama.benchmark import case
from samecast.errors import SamecastError
from samecast.metrics import Metric, Models, make_metrics
from samecast.metrics.alignment import clip_of, load_clip, load_vit
from samecast.metrics.models import locate
from samecast.study.grid import Grid, Variant
from samecast.study.recipe import Cast, Recipe
from samecast.study.scoring import Judged, metrics_of, score, score_key, settle_scoring
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
ALL = ("clip-text", "clip-image", "dino", "identity", "scene", "both")


def scored(metrics: Sequence[Metric], subject: StudySubject, wanted: list[Judged]) -> dict[str, dict[str, Any]]:
    """Scores by columns."""
    columns = {metric.key: metric.column for metric in metrics}
    parts = score(metrics, subject, wanted, {})
    return {key: {columns[name]: value for name, value in of.items()} for part in parts for key, of in part.items()}


def recipe(**others: Any) -> Recipe:
    data = {"model": "sd", "revision": "", "dtype": "", **others}
    return Recipe(Grid((Variant("a", {}, ()),), ()), RenderSettings(), **data)


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(count)]


def test_alignment_is_the_mean_cosine_over_photos(dino_dir: Path) -> None:
    one, two, photo, other = pictures(4)
    metrics = make_metrics(ALL, Models(dino=str(dino_dir)))
    subject = StudySubject("x", ("a dog", "a cat"), (photo, other))
    found = scored(metrics, subject, [("a", "a dog", one), ("b", "a cat", two), ("c", "a cat", one)])
    clip, dino = load_clip(), load_vit(dino_dir)
    assert found["a"]["text_alignment"] == pytest.approx(clip.text_alignment([one], ["a dog"])[0], abs=1e-5)
    assert found["b"]["image_alignment"] == pytest.approx(clip.image_alignment([two], [photo, other])[0], abs=1e-5)
    seen, photos = dino.embed_images([one]), dino.embed_images([photo, other])
    assert found["c"]["dino_alignment"] == pytest.approx(float((seen @ photos.T).mean()), abs=1e-5)
    assert found["a"]["identity"] is None
    assert dino.embed_images([one, one]).norm(dim=-1).tolist() == pytest.approx([1, 1])


def test_each_distinct_picture_is_looked_at_once() -> None:
    metrics, seen = make_metrics(("clip-text", "clip-image")), list[int]()
    handle = clip_of("diorama", "cpu").model.vision_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    one, two, photo = pictures(3, seed=1)
    wanted = [(str(n), "a dog", (one, two)[n % 2]) for n in range(150)]  # more than are looked at together
    assert len(scored(metrics, StudySubject("x", ("a dog",), (photo,)), wanted)) == 150
    handle.remove()
    assert seen == [2, 1]  # two distinct pictures in one batch, and the photo


def test_the_truth_is_the_probes_and_hidden_photos_are_judged_by_whole_ones() -> None:
    whole, partly = bundled(128, subjects=1, prompts=2, hidden=True)
    data = case(0)
    right = whole.judged[0]  # a render of the subject: identity right, whatever the scene
    found = scored(make_metrics(ALL), partly, [("a", data.tasks[0].prompt, right)])["a"]
    assert found["identity"] is True
    assert found["both"] == (found["identity"] and found["scene"])
    assert found["image_alignment"] == pytest.approx(1, abs=1e-5)
    assert score_key(whole, CAST) == score_key(partly, CAST)


def test_what_is_known_is_not_scored_again() -> None:
    one, two, photo = pictures(3)
    subject, metrics = StudySubject("x", ("a dog",), (photo,)), make_metrics(("clip-text", "ssim"))
    text, ssim = (metric.key for metric in metrics)
    known = {"a": {text: 0.5}, "b": {text: 0.5, ssim: 0.25}}
    (found,) = score(metrics, subject, [("a", "a dog", one), ("b", "a dog", two)], known)
    assert {key: set(of) for key, of in found.items()} == {"a": {ssim}, "b": set()}


def test_another_scorer_has_keys_of_its_own(dino_dir: Path, tmp_path: Path) -> None:
    (subject,) = bundled(32, subjects=1)
    (one,), (two,) = make_metrics(("dino",)), make_metrics(("dino",), Models(dino=str(dino_dir)))
    assert one.key != two.key
    shutil.copytree(dino_dir, tmp_path / "moved")
    (moved,) = make_metrics(("dino",), Models(dino=str(tmp_path / "moved"), device="elsewhere"))
    assert moved.key == two.key  # by content, not by place
    assert len({metric.key for metric in make_metrics(ALL)}) == len(ALL)
    for other in (replace(CAST, prompt="a cat"), replace(CAST, photos=("b",)), replace(CAST, seed=1)):
        assert score_key(subject, other) != score_key(subject, CAST)
    assert "image_mean" in str(one.identity()["preprocessing"])


def test_who_scores_by_default() -> None:
    def settled(**data: Any) -> tuple[str, str, tuple[str, ...]]:
        found = settle_scoring(recipe(**data))
        return found.clip, found.dino, found.metrics

    without = tuple(name for name in ALL if name != "dino")
    assert settled(model="diorama") == settled(model="diorama", clip="diorama") == ("diorama", "diorama", ALL)
    assert settled() == ("openai/clip-vit-large-patch14", "facebook/dino-vits16", ALL)
    assert settled(clip="path/to/clip") == ("path/to/clip", "none", without)
    assert settled(clip="path/to/clip", dino="none") == ("path/to/clip", "none", without)
    assert settled(clip="x", metrics=("clip-text", "dino")) == ("x", "facebook/dino-vits16", ("clip-text", "dino"))
    again = settle_scoring(recipe(clip="x"))
    assert settle_scoring(again) == again
    assert [metric.name for metric in metrics_of(recipe(clip="diorama"))] == list(without)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"metrics": ("clip-text", "fid")}, "no metric is called 'fid'; choose from clip-text, clip-image"),
        ({"metrics": ("clip-text",)}, "a metric of the subject: add clip-image or dino"),
        ({"metrics": ("dino", "lpips")}, "a metric of the prompt: add clip-text"),
        ({"metrics": ("identity", "scene")}, "a metric of the prompt: add clip-text"),
        ({"metrics": ("clip-text", "dino"), "dino": "none"}, "metric dino cannot be measured here"),
    ],
)
def test_metrics_that_do_not_do_are_told_in_one_line(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(SamecastError) as caught:
        metrics_of(recipe(**data))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_that_are_not_there_are_told_in_one_line(tmp_path: Path) -> None:
    gone = make_metrics(("clip-text",), Models(clip="gone"))[0]
    for call in (lambda: locate(tmp_path / "gone"), lambda: load_vit(tmp_path), gone.identity):
        with pytest.raises(SamecastError) as caught:
            call()
        assert "\n" not in str(caught.value)
