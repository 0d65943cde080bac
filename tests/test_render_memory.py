"""What is kept of the sources within a memory budget, and what is computed again beyond it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.cli import main
from samecast.engine.memory import GIB, free_memory
from samecast.render.job import Job
from samecast.render.request import Request

STEPS = 4
QUICK = sc.RenderSettings(num_inference_steps=STEPS, batch_rows=6)
PROMPTS = ["a dog running", "a dog asleep", "a dog"]  # two batches, where two photos are beside them
EVERYWHERE = sc.masactrl(0, layers="all")
# Layers come and go over the run, so that some steps take more than others: two layers at step 1, four, and two others.
UNEVEN = sc.masactrl(1, 2, layers="13-14") + sc.masactrl(2, layers="10-11")
ONE_LEVEL = 1  # a row more in a batch rounds otherwise, which may tip an 8-bit value over


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo, photo.rotate(90)), "dog")


def render(model: sc.Model, subject: sc.Subject | None, rules: sc.Rules, settings: sc.RenderSettings) -> Any:
    """The result, with the rows that really went through the denoiser."""
    rows: list[int] = []
    hook = model.backbone.denoiser.register_forward_hook(
        lambda module, args, output: rows.append(len(args[0])),
    )
    try:
        result = model.render(subject, PROMPTS, rules=rules, settings=settings)
    finally:
        hook.remove()
    assert result.evaluations == sum(rows)
    return result


def kept_bytes(model: sc.Model, subject: sc.Subject | None, rules: sc.Rules, settings: sc.RenderSettings) -> Any:
    """(what was told before the run, what the trajectory then held)."""
    job = Job(model.backbone, Request(subject, PROMPTS, rules, settings), None)
    with torch.inference_mode(), job.session:
        _, trajectory = job._make_sources()
    assert trajectory is not None
    parts = [part for layers in trajectory.kept.values() for states in layers.values() for part in states.values()]
    return job.prepared.keeping, sum(part.nbytes for part in parts)


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        (EVERYWHERE, {"height": 96, "width": 64}),
        (UNEVEN, {"source_prompt": "a dog"}),
        (UNEVEN, {"guidance_scale": 1.0}),
        (UNEVEN, {"pairing": "masactrl"}),
    ],
)
def test_memory_is_known_before_the_run(
    model: sc.Model, subject: sc.Subject, rules: sc.Rules, changes: dict[str, Any]
) -> None:
    settings = replace(QUICK, **changes)
    keeping, held = kept_bytes(model, subject, rules, settings)
    assert held == keeping.kept == keeping.wanted
    assert (held == 0) == (settings.pairing == "masactrl")
    if held:
        part = replace(settings, source_memory=0.6 * held / GIB)
        keeping, less = kept_bytes(model, subject, rules, part)
        assert 0 < less == keeping.kept <= 0.6 * held
        assert keeping.wanted == held


def test_memory_of_a_generated_source_is_known_too(model: sc.Model) -> None:
    keeping, held = kept_bytes(model, None, EVERYWHERE, replace(QUICK, source_prompt="a dog"))
    assert held == keeping.kept > 0


@pytest.mark.parametrize(
    ("rules", "changes", "rows"),
    [
        # Two photos, whose guidance rows are equal, in each of two batches at the steps that inversion could keep.
        (EVERYWHERE, {}, 2 * 2 * (STEPS - 1)),
        (sc.masactrl_union(2), {"init": "noise"}, 2 * 2 * 2),
        # Captioned, both rows of each are computed again, and inversion is spared the one without caption.
        (UNEVEN, {"source_prompt": "a dog", "batch_rows": 8}, (2 * 4 - 2) * (STEPS - 1)),
    ],
)
def test_over_budget_the_sources_are_computed_again(
    model: sc.Model, subject: sc.Subject, rules: sc.Rules, changes: dict[str, Any], rows: int
) -> None:
    settings = replace(QUICK, **changes)
    kept = render(model, subject, rules, settings)
    again = render(model, subject, rules, replace(settings, source_memory=0.0))
    assert again.evaluations == kept.evaluations + rows
    assert any("computed again" in warning for warning in again.warnings)
    assert not any("computed again" in warning for warning in kept.warnings)
    for one, other in zip(kept.renders, again.renders, strict=True):
        assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() <= ONE_LEVEL


def test_a_generated_source_is_computed_again_too(model: sc.Model) -> None:
    settings = replace(QUICK, source_prompt="a cat")
    kept, again = (render(model, None, EVERYWHERE, replace(settings, source_memory=budget)) for budget in (None, 0.0))
    # Of step 0 the source's row without a prompt is the targets', which start where it does.
    assert again.evaluations == kept.evaluations + 2 * (2 * STEPS - 1)
    for one, other in zip(kept.renders, again.renders, strict=True):
        assert np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max() <= ONE_LEVEL


def test_as_many_steps_are_kept_as_fit(model: sc.Model, subject: sc.Subject) -> None:
    whole, _ = kept_bytes(model, subject, UNEVEN, QUICK)
    steps: list[int] = []
    for share in (0.0, 0.2, 0.5, 1.0):
        settings = replace(QUICK, source_memory=share * whole.wanted / GIB)
        steps.append(
            len(Job(model.backbone, Request(subject, PROMPTS, UNEVEN, settings), None).prepared.keeping.recomputed)
        )
    assert steps == [3, 2, 1, 0]


def test_a_record_repeats_what_memory_allowed(
    model: sc.Model, subject: sc.Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = kept_bytes(model, subject, EVERYWHERE, QUICK)
    with monkeypatch.context() as scarce:
        scarce.setattr("samecast.engine.memory.free_memory", lambda device: whole.wanted)  # of which half is taken
        first = render(model, subject, EVERYWHERE, QUICK)
    assert first.provenance["settings"]["source_memory"] == pytest.approx(
        whole.wanted / 3 / GIB
    )  # of three steps one fits
    settings = sc.RenderSettings(**json.loads(json.dumps(first.provenance))["settings"])
    assert render(model, subject, EVERYWHERE, settings).provenance == first.provenance


def test_free_memory_is_what_the_machine_says() -> None:
    import psutil

    assert 0 < free_memory(torch.device("cpu")) <= psutil.virtual_memory().total


def test_the_command_line_tells_and_limits_it(
    tiny_pipeline_dir: Path, photo: Image.Image, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "dog.png")
    words = ["render", str(tmp_path / "dog.png"), "a dog", "--model", str(tiny_pipeline_dir), "--steps", "5"]
    words += ["--device", "cpu", "-v", "--source-memory", "0", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    data = " ".join(capfd.readouterr().err.split())
    assert "of the sources kept; computed again at 4 steps" in data
    assert main([*words[:-3], "-1", *words[-2:]]) == 2
    assert "--source-memory must be a number from 0" in " ".join(capfd.readouterr().err.split())
