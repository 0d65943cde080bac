"""Masks of photos from cross-attention maps: the library call and `samecast masks`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.cli import main
from samecast.render.found import overlay

STEPS = 5
QUICK = sc.RenderSettings(num_inference_steps=STEPS)


@pytest.fixture(scope="module")
def model(tiny_pipeline_dir: Path) -> sc.Model:
    return sc.load(tiny_pipeline_dir, device="cpu")


@pytest.fixture(scope="module")
def subject(photo: Image.Image) -> sc.Subject:
    return sc.Subject((photo, photo.rotate(180)), "dog")


def test_each_photo_takes_a_row_to_invert_and_one_for_each_step_with_maps(model: sc.Model, subject: sc.Subject) -> None:
    data: list[tuple[str, int, int]] = []
    search = model.find_masks(subject, settings=QUICK, progress=lambda *stage: data.append(stage))
    assert search.evaluations == 2 * (STEPS + STEPS)
    assert data[-1] == ("look", STEPS, STEPS)
    few = sc.SubjectTokens(steps=sc.Steps(start=3))
    assert model.find_masks(subject, few, settings=QUICK).evaluations == 2 * (STEPS + 2)


def test_it_finds_what_rendering_finds(model: sc.Model, subject: sc.Subject) -> None:
    tokens = sc.SubjectTokens(layers="decoder", threshold="otsu")
    search = model.find_masks(subject, tokens, settings=QUICK)
    out = model.render(subject, ["a dog"], rules=sc.masactrl_auto_masked(2, tokens=tokens), settings=QUICK)
    rendered = [found for found in out.found_masks if found.of == "reference"]
    assert [np.asarray(found.map).tolist() for found in search.masks] == [
        np.asarray(found.map).tolist() for found in rendered
    ]


def test_the_map_is_the_softmax_over_the_caption(model: sc.Model, photo: Image.Image) -> None:
    """One step, one layer: the map against attention computed by hand on the layer's own input."""
    seen: dict[str, torch.Tensor] = {}
    module = model.backbone.cross_attention()[15].module
    hook = module.register_forward_pre_hook(  # type: ignore[attr-defined]
        lambda module, args, kwargs: seen.update(x=args[0], text=kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    tokens = sc.SubjectTokens(layers="15", steps=sc.Steps(only=(4,)), threshold=0.1)
    found = model.find_masks(sc.Subject((photo,), "dog"), tokens, settings=QUICK).masks[0]
    hook.remove()
    with torch.inference_mode():
        query, key = module.to_q(seen["x"])[0], module.to_k(seen["text"])[0]
    width = query.shape[-1] // module.heads
    columns = model.backbone.find_words("a photo of a dog", "dog")
    total = torch.zeros(len(query))
    for head in range(module.heads):
        part = slice(head * width, (head + 1) * width)
        weight = (query[:, part] @ key[:, part].T / width**0.5).softmax(-1)
        total += weight[:, list(columns)].mean(1)
    values = (total - total.min()) / (total.max() - total.min())
    assert found.coverage == pytest.approx(float((values >= 0.1).float().mean()), abs=1 / len(values))


def test_several_questions_cost_no_more_than_one(model: sc.Model, subject: sc.Subject) -> None:
    questions = [sc.SubjectTokens(layers=layers) for layers in ("encoder", "mid", "decoder")]
    search = model.find_masks(subject, questions, settings=QUICK)
    assert search.evaluations == 2 * 2 * STEPS
    assert [(found.number, found.tokens.layers) for found in search.masks] == [
        (number, layers) for number in (1, 2) for layers in ("encoder", "mid", "decoder")
    ]
    maps = {np.asarray(found.map).tobytes() for found in search.masks}
    assert len(maps) == 6
    alone = model.find_masks(subject, questions[1], settings=QUICK)
    assert np.array_equal(np.asarray(alone.masks[0].map), np.asarray(search.masks[1].map))


def test_chunks_do_not_change_the_masks(model: sc.Model, subject: sc.Subject) -> None:
    apart = model.find_masks(subject, settings=sc.RenderSettings(num_inference_steps=STEPS, batch_rows=1))
    together = model.find_masks(subject, settings=QUICK)
    for one, two in zip(apart.masks, together.masks, strict=True):
        gap = np.asarray(one.map, dtype=int) - np.asarray(two.map, dtype=int)
        assert np.abs(gap).max() <= 1  # batch shape changes rounding


def test_a_mask_of_nearly_nothing_or_everything_is_a_warning(model: sc.Model, photo: Image.Image) -> None:
    subject = sc.Subject((photo,), "dog")
    few, much = (
        model.find_masks(subject, sc.SubjectTokens(threshold=threshold), settings=QUICK) for threshold in (0.999, 0.001)
    )
    assert "almost empty" in few.warnings[0]
    assert "almost full" in much.warnings[0]
    assert len(few.warnings) == len(much.warnings) == 1


def test_an_overlay_keeps_the_inside_and_greys_the_rest() -> None:
    picture = Image.new("RGB", (20, 20), (10, 200, 30))
    mask = Image.new("L", (20, 20), 0)
    mask.paste(255, (5, 5, 15, 15))
    shown = overlay(picture, mask)
    assert shown.getpixel((10, 10)) == (10, 200, 30)
    assert shown.getpixel((5, 5)) == (214, 39, 40)
    red, green, blue = shown.getpixel((1, 1))  # type: ignore[misc]
    assert red == green == blue > 140


def test_the_command_writes_map_mask_and_overlay(
    tmp_path: Path, photo: Image.Image, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo.save(tmp_path / "rex.png")
    words = ["masks", str(tmp_path / "rex.png"), "--noun", "dog", "--map-layers", "decoder", "--threshold", "otsu"]
    out = tmp_path / "out"
    assert main([*words, "--model", str(tiny_pipeline_dir), "--steps", "4", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {
        "reference.png",
        "map.png",
        "mask.png",
        "overlay.png",
        "masks.json",
    }
    shown = capsys.readouterr().out
    assert "rex.png: 'dog' covers" in shown
    assert "(8 evaluations)" in shown
    data = json.loads((out / "masks.json").read_text())
    assert data["caption"] == "a photo of a dog"
    white = float((np.asarray(Image.open(out / "mask.png")) == 255).mean())
    assert white == pytest.approx(data["masks"][0]["coverage"], abs=0.1)
    # What was found may be given.
    given = ["render", str(out / "reference.png"), "a dog", "--method", "free-custom", "--mask", str(out / "mask.png")]
    model = ["--model", str(tiny_pipeline_dir), "--steps", "2", "--out", str(tmp_path / "run")]
    assert main([*given, *model]) == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "name the subject: --noun"),
        (["--noun", "dog", "--map-words", "cat"], "the word 'cat' is not in the prompt 'a photo of a dog'"),
        (["--map-words", "cat", "--source-prompt", "a dog"], "the word 'cat' is not in the prompt 'a dog'"),
        (["--noun", "dog", "--map-layers", "@5"], "'@5' match nothing"),
        (["--noun", "dog", "--start", "9"], "beyond the last step"),
        (["--noun", "dog", "--threshold", "1.5"], "threshold must be between 0 and 1"),
        (["--noun", "dog", "--width", "65"], "multiple"),
        (["--noun", "dog", "--source-prompt", "a {nou} dog", "--steps", "0"], "steps must be a whole number from 1"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path,
    photo: Image.Image,
    tiny_pipeline_dir: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    part: str,
) -> None:
    photo.save(tmp_path / "rex.png")
    out = tmp_path / "out"
    asked = ["masks", str(tmp_path / "rex.png"), "--model", str(tiny_pipeline_dir), "--steps", "4", "--out", str(out)]
    assert main([*asked, *words]) == 2
    line = capsys.readouterr().err
    assert part in line
    assert line.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("words", [["masks"], ["masks", "no.png", "--noun", "dog"]])
def test_a_photo_is_needed(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
