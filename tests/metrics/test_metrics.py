"""Every metric, held to what it says of itself: bounds, direction, needs, and a key made of all that changes scores."""

import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samecast.core.quality import peak_signal_to_noise, structural_similarity
from samecast.diorama.benchmark import Case, demo_case, find_case
from samecast.diorama.probe import judge, load_probe
from samecast.errors import SamecastError
from samecast.metrics import (
    BENCHMARK,
    DEFAULT,
    METRICS,
    Metric,
    Models,
    Truth,
    leading,
    make_metrics,
    metric_types,
    truths_among,
)
from samecast.metrics.memory import remembering

HERE = [name for name, metric in METRICS.items() if not metric().missing()]


@pytest.fixture(scope="module")
def case() -> Case:
    return demo_case()


@pytest.fixture(scope="module")
def photos(case: Case) -> list[Image.Image]:
    return [Image.fromarray(photo.image) for photo in case.photos()]


def truths(case: Case, count: int) -> list[Truth]:
    return [Truth(case.identity, task.scene) for task in case.tasks[:count]]


def noise(count: int) -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)) for _ in range(count)]


def scored(metric: Metric, case: Case, images: Sequence[Image.Image], photos: Sequence[Image.Image]) -> list[float]:
    """Told what it says that it needs, and nothing else."""
    prompts = [task.prompt for task in case.tasks[: len(images)]] if "prompt" in metric.needs else ()
    known = truths(case, len(images)) if "truth" in metric.needs else ()
    return list(metric.score(images, prompts, photos if "photos" in metric.needs else (), known))


@pytest.mark.parametrize("name", HERE)
def test_scores_lie_within_the_bounds_whatever_the_picture(name: str, case: Case, photos: list[Image.Image]) -> None:
    (metric,) = make_metrics((name,))
    flat = [Image.new("RGB", (128, 128), colour) for colour in ("black", "white")]
    images = [*noise(1), *flat, *photos[:2]]
    low, high = metric.bounds
    found = scored(metric, case, images, photos)
    assert len(found) == len(images)
    assert all(low - 1e-6 <= score <= high + 1e-6 for score in found)
    if metric.kind == "share":
        assert all(isinstance(score, bool) for score in found)


@pytest.mark.parametrize("name", [name for name in HERE if METRICS[name].about == "subject"])
def test_a_photo_of_the_subject_is_no_worse_than_noise(name: str, case: Case, photos: list[Image.Image]) -> None:
    """The direction of each metric is the one that it tells."""
    (metric,) = make_metrics((name,))
    photo, other = scored(metric, case, [photos[0], *noise(1)], photos)
    assert metric.sign() * photo >= metric.sign() * other
    assert photo != other or metric.kind == "share"


@pytest.mark.parametrize("name", HERE)
def test_a_score_does_not_depend_on_what_is_scored_beside_it(name: str, case: Case, photos: list[Image.Image]) -> None:
    (metric,) = make_metrics((name,))
    together = scored(metric, case, photos[:3], photos)
    assert scored(metric, case, photos[:1], photos) == pytest.approx(together[:1], abs=1e-5)


def test_names_columns_and_titles_are_each_metrics_own() -> None:
    for constant in ("name", "column", "title", "words"):
        data = [getattr(metric, constant) for metric in METRICS.values()]
        assert len(set(data)) == len(data)
    assert list(METRICS) == [metric.name for metric in METRICS.values()]
    assert set(DEFAULT) | set(BENCHMARK) <= set(METRICS)


def test_fidelity_is_the_mean_over_photos_brought_to_the_pictures_size(photos: list[Image.Image]) -> None:
    (psnr, ssim), image = make_metrics(("psnr", "ssim")), photos[0]
    others = photos[1:]
    assert psnr.score([image], photos=others)[0] == pytest.approx(
        np.mean([peak_signal_to_noise(photo, image) for photo in others])
    )
    assert ssim.score([image], photos=others)[0] == pytest.approx(
        np.mean([structural_similarity(photo, image) for photo in others])
    )
    assert psnr.score([image], photos=[image]) == [100.0]  # not infinite
    small = image.resize((64, 64))
    wide = image.resize((96, 64))
    assert psnr.score([small, wide], photos=[image])[1] > 20


def test_the_truth_is_the_probes(case: Case, photos: list[Image.Image]) -> None:
    names = ("identity", "scene", "both", "class", "base-error")
    verdicts = [
        judge(reading, case.identity, task.scene)
        for reading, task in zip(load_probe().read(photos), case.tasks, strict=False)
    ]
    for metric in make_metrics(names):
        expected = [getattr(verdict, metric.column) for verdict in verdicts]
        assert list(metric.score(photos, truths=truths(case, len(photos)))) == pytest.approx(expected, abs=1e-3)


def test_cases_are_found_by_number_and_by_name() -> None:
    assert find_case("demo") == demo_case()
    assert find_case(3).name == "03-duck"


def test_lpips_says_in_one_line_what_it_lacks() -> None:
    (lpips,) = metric_types(("lpips",))
    lacking = lpips().missing()
    if not lacking:  # with the extra and AlexNet's weights, which no test may download
        assert len(make_metrics(("clip-text", "lpips"))) == 2
        return
    with pytest.raises(SamecastError, match="metric lpips cannot be measured here: ") as caught:
        make_metrics(("clip-text", "lpips"))
    assert lacking in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_is_made_of_version_and_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    (text, image, ssim) = make_metrics(("clip-text", "clip-image", "ssim"))
    assert len({text.key, image.key, ssim.key}) == 3
    assert type(text)(Models(device="cuda:7")).key == text.key
    monkeypatch.setattr(type(ssim), "version", 2)
    assert type(ssim)().key != ssim.key
    monkeypatch.setattr(type(text), "identity", lambda self: {"revision": "another"})
    assert type(text)().key != text.key
    json.dumps({metric.name: dict(metric.identity()) for metric in make_metrics(HERE)}, allow_nan=False)
    with pytest.raises(FrozenInstanceError):
        text.models = Models()  # type: ignore[misc]


def test_names_are_checked_and_taken_once() -> None:
    assert [metric.name for metric in make_metrics(("dino", "dino", "ssim"))] == ["dino", "ssim"]
    for name in ("clip", "CLIP-TEXT", "", "text_alignment"):
        with pytest.raises(SamecastError, match=r"no metric is called .*; choose from clip-text, clip-image, dino"):
            metric_types((name,))


def test_the_first_of_each_kind_leads_and_truths_are_told_apart() -> None:
    types = metric_types(("ssim", "identity", "scene", "dino", "clip-text", "both", "class"))
    assert [metric.name for metric in leading(types)] == ["clip-text", "ssim"]
    data = {about: [metric.name for metric in truths_among(types, about)] for about in ("subject", "prompt", "picture")}
    assert data == {"subject": ["identity"], "prompt": ["scene"], "picture": ["both"]}


def test_what_was_seen_is_remembered_up_to_so_many() -> None:
    seen: list[int] = []

    def measure(images: Sequence[Image.Image]) -> list[Any]:
        seen.append(len(images))
        return [image.getpixel((0, 0)) for image in images]

    remembered, images = remembering(measure, most=3), noise(5)
    assert remembered([images[0], images[1], images[0]]) == measure([images[0], images[1], images[0]])
    assert remembered(images[:2]) == measure(images[:2])
    assert seen == [2, 3, 2]
    assert remembered(images) == measure(images)  # more at once than are remembered
    assert remembered(images[2:]) == measure(images[2:])
    assert seen == [2, 3, 2, 3, 5, 3]
    grey = images[4].convert("L")
    assert remembered([grey]) == measure([grey])  # the same size, another mode


def test_models_are_told_by_place_and_known_by_content(tmp_path: Path) -> None:
    (dino,) = make_metrics(("dino",))
    assert dino.facts() == {"dino": "diorama", "dino_revision": dino.identity()["revision"]}
    gone = replace(dino, models=Models(dino=str(tmp_path / "gone")))
    with pytest.raises(SamecastError, match="does not exist"):
        gone.identity()
