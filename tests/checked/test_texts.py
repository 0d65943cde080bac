"""Bytes that are no text, wherever a text is given: told before a model is loaded, and never when all is done."""

import os
from pathlib import Path

import pytest
from jaxtyping import config
from PIL import Image

import samecast as sc
from samecast.cli import main
from samecast.core.settings import RenderSettings
from samecast.engine.targets import make_targets
from samecast.errors import SamecastError

ODD = os.fsdecode(b"a d\xe9g")


@pytest.mark.parametrize("prompt", [ODD, "a\0dog", "x" * 100_001, 3, None])
def test_a_prompt_that_is_no_text_is_refused(prompt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    with pytest.raises(SamecastError, match="prompt 2"):
        make_targets(["a dog", prompt], RenderSettings(), noun="")


@pytest.mark.parametrize(
    "words",
    [
        ["render", "{photo}", ODD],
        ["render", "{photo}", "a {{noun}}", "--noun", ODD],
        ["render", "{photo}", "a dog", "--negative-prompt", ODD],
        ["render", "{photo}", "a dog", "--source-prompt", ODD],
        ["render", "{photo}", "a dog", "--method", "masactrl-auto-masked", "--map-words", ODD],
        ["render", "{photo}", "a dog", "--layers", ODD],
        ["render", "{photo}", "a dog", "--model", ODD],
        ["render", "{photo}", "a dog", "--model", "no/such", "--concept", ODD],
        ["render", "{photo}", "a dog", "--rules", ODD],
        ["render", "--again", ODD],
        ["tune", "{photo}", ODD],
        ["tune", "{photo}", "a dog", "--axis", ODD],
        ["tune", "{photo}", "a dog", "--noun", ODD],
        ["masks", "{photo}", "--noun", ODD],
        ["masks", "{photo}", "--noun", "dog", "--words", ODD],
        ["study", ODD],
        ["study", "--axis", f"layers={ODD}"],
        ["study", "--config", ODD],
        ["learn", "lora", "--photos", "{folder}", "--noun", ODD],
        ["learn", "lora", "--photos", "{folder}", "--noun", "dog", "--token", f"<{ODD.replace(' ', '')}>"],
        ["learn", "lora", "--photos", "{folder}", "--noun", "dog", "--initializer", ODD],
        ["learn", "lora", "--list", ODD],
        ["compare", "--methods", ODD],
        ["diorama", "benchmark", "--methods", ODD],
        ["concept", "show", ODD],
        ["layers", "--model", ODD],
    ],
)
def test_words_that_are_no_text_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Image.Image, words: list[str]
) -> None:
    photo.save(tmp_path / "rex.png")
    data = [word.format(photo=tmp_path / "rex.png", folder=tmp_path) if "{" in word else word for word in words]
    assert main(data) == 2
    err = capsys.readouterr().err
    assert err.startswith("samecast: ")
    assert err.count("\n") == 1
    err.encode()


def test_a_photo_may_be_called_in_bytes_that_are_no_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo: Image.Image, tiny_pipeline_dir: Path
) -> None:
    name = str(tmp_path / os.fsdecode(b"r\xe9x.png"))
    photo.save(tmp_path / "rex.png")
    (tmp_path / "rex.png").rename(name)
    more = ["--model", str(tiny_pipeline_dir), "--steps", "2", "--start", "1", "--out", str(tmp_path / "out")]
    assert main(["render", name, "a dog", *more]) == 0
    assert main(["render", "--again", str(tmp_path / "out"), "--out", str(tmp_path / "again")]) == 0
    capsys.readouterr().out.encode()
    assert main(["masks", name, "--noun", "dog", *more[:4], "--out", str(tmp_path / "masks")]) == 0
    assert main(["render", "--reference", name, "a dog", *more[:6]]) == 0


def test_a_subject_of_bytes_that_are_no_text_is_refused(photo: Image.Image) -> None:
    with pytest.raises(SamecastError, match="class_noun is not UTF-8 text"):
        sc.Subject((photo,), ODD)
