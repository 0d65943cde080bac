"""The benchmark of edits: what it measures against is what it says, and its tables add up."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import samecast as sc
from benchmarks.edit import Benchmark, as_ddim, main
from benchmarks.reference import edit

STEPS = 3


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def test_the_plain_implementation_agrees_where_there_is_no_control(model: sc.Model, photo: Image.Image) -> None:
    square = photo.crop((0, 0, 96, 96)).resize((64, 64))
    pipeline = as_ddim(model.backbone.pipeline)  # type: ignore[attr-defined]
    before = dict(pipeline.unet.attn_processors)
    plain, controlled = (
        np.asarray(edit(pipeline, square, "a dog", steps=STEPS, start=start, first_site=10), dtype=int)
        for start in (STEPS, 0)
    )
    assert {name: id(each) for name, each in before.items()} == {
        name: id(each) for name, each in pipeline.unet.attn_processors.items()
    }
    settings = sc.RenderSettings(steps=STEPS, pairing="masactrl")
    ours = model.render(sc.Subject((square,)), ["a dog"], rules=(), settings=settings).renders[0].image
    # Explicit and fused softmax round differently, which may tip an 8-bit value over.
    assert np.abs(plain - np.asarray(ours, dtype=int)).max() <= 1
    assert np.abs(plain - controlled).max() > 1


def test_the_table_holds_every_count_and_goes_into_a_file(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "edit.md"
    main(Benchmark(models=(str(tiny_pipeline_dir),), counts=(1, 2), steps=2, rounds=1, memory=False, out=out))
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == ["1", "2"]
    assert {len(row) for row in rows} == {6}
    one, two = (float(row[2]) for row in rows[2:])
    assert two == pytest.approx(2 * one, abs=0.02)  # one target at a time
