"""The benchmark of edits: what it measures against is what it says, and its tables add up."""

from pathlib import Path

import pytest
from PIL import Image

import samecast as sc
from benchmarks.edit import Benchmark, as_ddim, main
from benchmarks.reference import Control, decode, edit

STEPS = 3


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


def test_the_reference_takes_as_many_evaluations_as_it_is_said_to(model: sc.Model, photo: Image.Image) -> None:
    """300, 600 and 1,800 in 50 steps for 1, 4 and 16 targets, against 150, 450 and 1,650."""
    pipeline = as_ddim(model.backbone.pipeline)  # type: ignore[attr-defined]
    square, rows = photo.crop((0, 0, 96, 96)).resize((64, 64)), list[int]()
    before = {name: id(each) for name, each in pipeline.unet.attn_processors.items()}
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    for count in (1, 4):
        rows.clear()
        control = Control(steps=lambda step: step >= 1)
        latents = edit(pipeline, square, ["a dog"] * count, steps=STEPS, control=control)
        assert len(decode(pipeline, latents)) == 1 + count
        assert sum(rows) == 2 * STEPS + 2 * STEPS * (1 + count)
        settings = sc.RenderSettings(num_inference_steps=STEPS, guidance_scale=7.5)
        ours = model.render(sc.Subject((square,)), ["a dog"] * count, rules=sc.masactrl(1), settings=settings)
        assert ours.evaluations == STEPS + 2 * STEPS * count
    hook.remove()
    assert before == {name: id(each) for name, each in pipeline.unet.attn_processors.items()}


def test_the_table_holds_every_count_and_goes_into_a_file(tiny_pipeline_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "edit.md"
    main(Benchmark(models=(str(tiny_pipeline_dir),), counts=(1, 2), steps=2, rounds=1, memory=False, out=out))
    lines = out.read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == ["1", "2"]
    assert {len(row) for row in rows} == {8}
    one, two = (float(row[3]) for row in rows[2:])
    assert two == pytest.approx(2 * one, abs=0.02)  # one target at a time
