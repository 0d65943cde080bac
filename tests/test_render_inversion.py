"""Inversion: its pairings, its refinement, what it loses, and how that is told."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.plan import Plan
from samecast.attention.session import Session
from samecast.cli import main
from samecast.core import ddim
from samecast.core.batch import Branch, Branches
from samecast.core.noise import seeded_noise
from samecast.engine.denoise import reconstruct
from samecast.engine.memory import MemoryPlan
from samecast.engine.run import Run
from samecast.engine.source import Trajectory, invert_references, predict_sources
from samecast.render.quality import Fidelity, lpips_missing, measure
from samecast.render.request import Request
from samecast.render.warnings import warnings_of

STEPS = 5
QUICK = sc.RenderSettings(num_inference_steps=STEPS)
CONTROL = sc.masactrl(2)
SOURCE = Branch("source", 0, "")


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo,), "dog")


def make_run(model: sc.Model, steps: int) -> Run:
    backbone = model.backbone
    texts = {"": backbone.encode_prompts([""])[0]}
    return Run(backbone, Session(backbone), backbone.schedule(steps), Plan(), texts)


def inverted(run: Run, clean: torch.Tensor, **options: Any) -> Trajectory:
    branches = Branches((), (SOURCE,), 1.0)
    return invert_references(run, branches, clean, **{"pairing": "matched", "advance": lambda: None, **options})


@pytest.mark.parametrize(
    ("directory", "pairing"), [("tiny_pipeline_dir", "matched"), ("tiny_velocity_dir", "masactrl")]
)
def test_refinement_brings_free_denoising_back_to_the_photo(
    directory: str, pairing: str, request: pytest.FixtureRequest
) -> None:
    model = sc.load(request.getfixturevalue(directory), device="cpu")
    clean = seeded_noise((4, 16, 16), 0)[None] * 0.5
    errors: list[float] = []
    with torch.inference_mode():
        run = make_run(model, 25)
        with run.session:
            for fixed_point in (0, 3):
                start = inverted(run, clean, pairing=pairing, fixed_point=fixed_point).latents[0]
                again = reconstruct(run, (SOURCE,), start, advance=lambda: None)
                errors.append(float((again - clean).square().mean()))
    assert errors[0] > 10 * errors[1]


def test_a_refined_level_denoises_to_the_one_below(model: sc.Model) -> None:
    clean = seeded_noise((4, 16, 16), 0)[None] * 0.5
    with torch.inference_mode():
        run = make_run(model, 25)
        with run.session:
            levels = inverted(run, clean, fixed_point=6).latents
            for step in range(0, 25, 4):
                prediction = predict_sources(run, (SOURCE,), levels[step], step)
                below = ddim.denoise(levels[step], prediction, run.schedule, step)
                # Six rounds leave 1e-3; without any the largest gap is 6e-2.
                torch.testing.assert_close(below, levels[step + 1], rtol=0, atol=3e-3)


def test_masactrls_pairing_tells_the_denoiser_where_it_is_heading(model: sc.Model) -> None:
    """The first step up, by hand, under either pairing."""
    clean = seeded_noise((4, 16, 16), 0)[None] * 0.5
    backbone = model.backbone
    with torch.inference_mode():
        run = make_run(model, 4)
        schedule, text = run.schedule, backbone.encode_prompts([""])
        with run.session:
            for pairing, timestep in (("matched", schedule.clean_timestep), ("masactrl", schedule.timesteps[3])):
                expected = ddim.invert(clean, backbone.predict(clean, timestep, text), schedule, 3)
                found = inverted(run, clean, pairing=pairing).latents[3]
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("pairing", ["matched", "masactrl"])
def test_refined_sources_are_read_as_they_are_replayed(model: sc.Model, subject: sc.Subject, pairing: Any) -> None:
    """What is kept from the first guess of each level equals a source evaluated beside its targets."""
    settings = replace(QUICK, fixed_point=2, pairing=pairing)
    out = model.render(subject, ["a dog"], rules=CONTROL, settings=settings)
    live = 3 if pairing == "masactrl" else 0
    assert out.evaluations == 3 * STEPS + 2 * STEPS + live
    assert out.reference is not None
    with torch.inference_mode():
        encoded = model.backbone.decode(model.backbone.encode_image(out.reference)[None])[0]
    assert out.source is not None
    assert out.source.tobytes() == encoded.tobytes()


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 33, 60])
def test_any_number_of_steps_inverts(model: sc.Model, subject: sc.Subject, steps: int) -> None:
    out = model.render(
        subject,
        ["a dog"],
        rules=sc.masactrl(0),
        settings=sc.RenderSettings(num_inference_steps=steps, check_inversion=True),
    )
    assert out.evaluations == 3 * steps
    assert out.check_evaluations == steps
    assert np.isfinite(out.inversion[0].psnr)


def test_more_steps_than_the_schedule_holds_are_one_line(model: sc.Model, subject: sc.Subject) -> None:
    with pytest.raises(sc.SamecastError, match="steps must be below 1000 for this model's schedule; got 1000"):
        model.render(subject, ["a dog"], settings=sc.RenderSettings(num_inference_steps=1000))


def test_checking_changes_no_picture_and_is_counted_apart(model: sc.Model, subject: sc.Subject) -> None:
    plain, checked = (
        model.render(subject, ["a dog"], rules=CONTROL, settings=replace(QUICK, check_inversion=check))
        for check in (False, True)
    )
    assert plain.renders[0].image.tobytes() == checked.renders[0].image.tobytes()
    assert plain.evaluations == checked.evaluations
    assert (plain.check_evaluations, checked.check_evaluations) == (0, STEPS)
    assert plain.inversion == ()
    assert plain.autoencoder == checked.autoencoder
    data = json.loads(json.dumps(checked.provenance, allow_nan=False))
    assert data["inversion"][0]["psnr"] == checked.inversion[0].psnr
    assert data["autoencoder"][0]["ssim"] == checked.autoencoder[0].ssim


def test_the_autoencoders_quality_is_that_of_the_source(model: sc.Model, subject: sc.Subject) -> None:
    out = model.render(subject, ["a dog"], rules=CONTROL, settings=QUICK)
    assert out.autoencoder == measure(out.references, out.sources)
    assert out.source_psnr == out.autoencoder[0].psnr


@pytest.mark.parametrize(
    ("alone", "inverted", "part"),
    [(30.0, 26.0, "inversion is what limits"), (30.0, 28.0, ""), (12.0, 11.5, "at only 12.0 dB")],
)
def test_poor_quality_is_told_with_remedies(subject: sc.Subject, alone: float, inverted: float, part: str) -> None:
    request = Request(subject, ["a dog"], CONTROL, replace(QUICK, check_inversion=True, init=0.5))
    found = warnings_of(
        request,
        autoencoder=[Fidelity(35.0, 0.9, None), Fidelity(alone, 0.9, None)],
        inversion=[Fidelity(34.5, 0.9, None), Fidelity(inverted, 0.8, None)],
        changed=True,
        keeping=MemoryPlan(),
        blanks={},
    )
    assert len(found) == bool(part)
    assert all(part in line and "try" in line for line in found)


def test_asking_about_an_inversion_that_is_not_there_says_so(model: sc.Model, subject: sc.Subject) -> None:
    settings = replace(QUICK, init="noise", check_inversion=True, fixed_point=1)
    warnings = model.render(subject, ["a dog"], rules=(), settings=settings).warnings
    assert [warning.split(":")[0] for warning in warnings if "no photo is inverted" in warning] == [
        "check_inversion has no effect",
        "fixed_point has no effect",
    ]


def test_lpips_is_measured_or_said_to_be_missing(photo: Image.Image) -> None:
    found = measure([photo], [photo.rotate(180)])[0]
    assert (found.lpips is None) == bool(lpips_missing())
    assert ("LPIPS" in str(found)) == (found.lpips is not None)


def test_the_command_tells_the_quality(
    tmp_path: Path, photo: Image.Image, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "rex.png")
    words = ["render", str(tmp_path / "rex.png"), "a dog", "--steps", "5", "--model", str(tiny_pipeline_dir)]
    more = ["--check-inversion", "--fixed-point", "1", "--pairing", "masactrl", "--out", str(tmp_path / "run")]
    assert main([*words, *more]) == 0
    shown = capsys.readouterr().out
    assert "reference 1 through the autoencoder alone: PSNR" in shown
    assert "reference 1 through plain inversion: PSNR" in shown
    assert ("LPIPS was not measured" in shown) == bool(lpips_missing())
    settings = json.loads((tmp_path / "run" / "render.json").read_text())["provenance"]["settings"]
    assert (settings["pairing"], settings["fixed_point"], settings["check_inversion"]) == ("masactrl", 1, True)
