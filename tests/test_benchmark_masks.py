"""The study of masks, with tiny counts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samecast as sc
from benchmarks import masks
from samecast.core.layers import select_layers


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def test_iou_counts_what_both_hold() -> None:
    one, two = np.zeros((4, 4), dtype=bool), np.zeros((4, 4), dtype=bool)
    one[:, :2], two[:, 1:3] = True, True
    assert masks.iou(one, two) == pytest.approx(4 / 12)
    assert masks.iou(one, one) == 1
    assert masks.iou(one, ~one) == 0
    assert masks.iou(np.zeros_like(one), np.zeros_like(one)) == 1


def test_the_parts_cover_encoder_and_decoder_once(model: sc.Model) -> None:
    layers = [bound.layer for bound in model.backbone.cross_attention()]
    sources = masks.sources_of(layers)
    parts = [select_layers(selector, layers) for name, selector in sources.items() if "@" in name]
    for stage in ("down", "up"):
        mine = [layer.index for part in parts for layer in part if layer.stage == stage]
        assert mine == [layer.index for layer in layers if layer.stage == stage]
    assert all(len({(layer.stage, layer.resolution) for layer in part}) == 1 for part in parts)


@pytest.mark.parametrize("steps", [1, 3, 7, 50])
def test_the_windows_cover_all_steps_once(steps: int) -> None:
    windows = masks.windows_of(steps)
    parts = [window.select(steps) for name, window in windows.items() if name != "all steps"]
    assert [step for part in parts for step in part] == list(range(steps))


def test_references_are_held_out_and_differ(model: sc.Model) -> None:
    photos = masks.references(3, 64)
    assert [photo.noun for photo in photos] == ["dog", "cat", "bear"]
    assert all(0.01 < photo.picture.mask.mean() < 0.9 for photo in photos)


def test_the_study_writes_its_page_and_picture(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    masks.main(masks.Study(model=str(tiny_pipeline_dir), count=2, steps=3, out=tmp_path))
    page = (tmp_path / "masks.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    head, body = rows[0], rows[1:]
    assert head[5:] == ["steps 0-0", "steps 1-1", "steps 2-2"]
    assert {row[0] for row in body} >= {masks.DEFAULT, "encoder", "mid", "decoder", "all"}
    everything = float(body[-1][1])
    for row in body[:-1]:
        fixed, otsu, best = (float(cell) for cell in row[1:4])
        assert min(fixed, otsu) >= 0
        # 0.1 is among the thresholds; maps as pictures have 256 levels.
        assert best >= fixed - 0.02
        assert best <= 1
    assert everything == pytest.approx(
        np.mean([photo.picture.mask.mean() for photo in masks.references(2, 64)]), abs=5e-4
    )
    with Image.open(tmp_path / "pictures" / "masks.png") as picture:
        assert picture.width > picture.height
