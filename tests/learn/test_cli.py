"""`samecast learn` and `samecast diorama photos` as people call them."""

import json
import shlex
from pathlib import Path

import pytest

from samecast.cli import main
from samecast.cli.learn import settings_of
from samecast.cli.options.learn import LearnOptions
from samecast.cli.parsing import parse
from samecast.concepts.concept import Concept
from samecast.learn.settings import default_settings


def test_learning_leaves_a_concept_and_says_how_to_use_it(
    photos_dir: Path, tiny_pipeline_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "learn", "textual-inversion", "--photos", str(photos_dir), "--noun", "dog", "--model", str(tiny_pipeline_dir),
        "--out", str(tmp_path / "rex"), "--steps", "1", "--show-every", "0", "--device", "cpu",
    )  # fmt: skip
    assert main(words) == 0
    out = capsys.readouterr().out
    file = tmp_path / "rex" / "rex.safetensors"
    assert str(file) in out
    line = next(line for line in out.splitlines() if line.startswith("samecast render"))
    assert f"--concept {file}" in line
    more = ("--steps", "2", "--out", str(tmp_path / "beach"))
    assert main([*shlex.split(line)[1:], *more]) == 0
    assert (tmp_path / "beach" / "render.json").is_file()
    assert "no effect" not in capsys.readouterr().err
    assert set(Concept.load(file).tokens) == {"<new1>"}
    assert main(words) == 0
    assert "nothing was done" in capsys.readouterr().err


def test_options_become_settings() -> None:
    def of(*words: str) -> LearnOptions:
        options = parse(["learn", *words, "--photos", "x"])
        assert isinstance(options, LearnOptions)
        return options

    assert settings_of(of("lora")) == default_settings("lora", embedded=True)
    assert settings_of(of("lora", "--model", "sd")) == default_settings("lora", embedded=False)
    data = settings_of(of("custom-diffusion", "--mode", "crossattn", "--batch", "4", "--no-flip", "--augment", "none"))
    assert (data.mode, data.batch, data.flip, data.augment) == ("crossattn", 4, False, "none")
    assert settings_of(of("textual-inversion")).varied
    assert settings_of(of("lora", "--varied", "--rank", "8")).rank == 8


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (("lora",), "either --photos"),
        (("lora", "--photos", "nowhere", "--noun", "dog"), "not a folder"),
        (("lora", "--photos", "{photos}"), "--noun dog"),
        (("lora", "--photos", "{photos}", "--list", "x.json"), "either --photos"),
        (("lora", "--list", "nowhere.json"), "'nowhere.json' does not exist"),
        (("lora", "--list", "x.json", "--noun", "dog"), "leave out --noun"),
        (("lora", "--photos", "{photos}", "--noun", "dog", "--entry", "2"), "--entry goes with --list"),
        (("lora", "--photos", "{photos}", "--noun", "dog", "--token", "dog"), "angle brackets"),
        (("lora", "--photos", "{photos}", "--noun", "dog", "--steps", "0"), "steps must be a whole number from 1"),
        (("custom-diffusion", "--photos", "{photos}", "--mode", "q"), "--mode"),
        (
            ("lora", "--photos", "{photos}", "--noun", "dog", "--class-photos", "{photos}"),
            "--class-photos has no effect",
        ),
        (("lora", "--photos", "{photos}", "--noun", "dog", "--class-images", "8"), "--class-images has no effect"),
        (("dreambooth", "--photos", "{photos}", "--noun", "dog", "--views", "8"), "--views has no effect"),
        (
            ("textual-inversion", "--photos", "{photos}", "--noun", "dog", "--weight-decay", "1"),
            "--weight-decay has no",
        ),
        (("lora", "--photos", "{photos}", "--noun", "dog", "--show", ""), "is empty"),
        (("lora", "--photos", "x" * 300), "too long"),
        (("hypernetwork",), "hypernetwork"),
    ],
)
def test_mistakes_are_one_line(
    words: tuple[str, ...], data: str, photos_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("learn", *(word.format(photos=photos_dir) for word in words))) == 2
    err = capsys.readouterr().err
    assert data in err
    assert err.count("\n") == 1


def test_the_bundled_photos_are_what_the_command_draws(tmp_path: Path) -> None:
    assert main(("diorama", "photos", "--out", str(tmp_path / "rex"))) == 0
    bundled = Path(__file__).parents[2] / "examples" / "rex"
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "rex").iterdir()}
    assert {path.name for path in bundled.iterdir()} == set(drawn)
    assert json.loads(drawn["subject.json"])["class_noun"] == "dog"
    from PIL import Image, ImageChops

    for name in ("0.png", "1.png", "2.png", "3.png"):
        pictures = [Image.open(folder / name) for folder in (bundled, tmp_path / "rex")]
        # Other processors round otherwise, by a grey level.
        assert max(high for _, high in ImageChops.difference(*pictures).getextrema()) <= 2
