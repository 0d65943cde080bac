"""Concepts from the command line, on a tiny model of the real classes."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import samecast as sc
from samecast.attention.methods import METHODS
from samecast.cli import main
from samecast.concepts.concept import Concept, ModifierToken
from samecast.concepts.formats import write_concept
from samecast.concepts.strength import join_strength, split_strength
from samecast.engine.checks import wanted_masks
from samecast.models.loading import load_backbone
from tests.concepts.makers import make_concept

PAGE = Path(__file__).parents[2] / "docs" / "concepts.md"
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("samecast concept ")
]


@pytest.fixture(scope="module")
def backbone(tiny_pipeline_dir: Path) -> Any:
    return load_backbone(tiny_pipeline_dir)


@pytest.fixture
def rex(tmp_path: Path, photo: Image.Image, backbone: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a photo, a mask, and two concepts."""
    photo.save(tmp_path / "rex.png")
    mask = Image.new("L", photo.size)
    mask.paste(255, (30, 20, 90, 80))
    mask.save(tmp_path / "mask.png")
    one, two = make_concept(backbone.pipeline), make_concept(backbone.pipeline, words=("<new2>",), noun="cat", seed=1)
    one.save(tmp_path / "rex.safetensors")
    two.save(tmp_path / "tom.safetensors")
    write_concept(one, tmp_path / "delta.bin", "official")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def render(model: Path, *words: str) -> int:
    return main(["render", *words, "--model", str(model), "--steps", "6"])


def pixels(folder: Path) -> list[bytes]:
    return [Image.open(path).tobytes() for path in sorted(folder.glob("[0-9]*.png"))]


def test_the_commands_of_the_page_run(rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 9
    for line in COMMANDS:
        _, *words = shlex.split(re.sub(r"(rex|tom)/\1", r"\1", line))
        if words[1] != "show":
            words += ["--model", str(tiny_pipeline_dir)]
        assert main(words) == 0, line
    data = capsys.readouterr().out
    assert "<new1>, a dog (1 x 32 channels)" in data
    assert re.search(r"other captions +changed by [\d.]+%", data)
    assert re.search(r"other prompts +off by [\d.]+% of its change, in 3 prompts that were not constrained", data)
    assert "of the Stable Diffusion family, with text embeddings of 32 channels" in data
    assert re.search(r"error +[\d.]+% of the change; at worst", data)
    assert list(Concept.load(rex / "both.safetensors").tokens) == ["<new1>", "<new2>"]
    assert list(Concept.load(rex / "renamed.safetensors").tokens) == ["<rex>"]
    assert Concept.load(rex / "small.safetensors").size < Concept.load(rex / "rex.safetensors").size
    assert sorted(path.name for path in (rex / "rex-diffusers").iterdir()) == [
        "<new1>.safetensors",
        "pytorch_custom_diffusion_weights.safetensors",
    ]


@pytest.mark.parametrize("method", METHODS)
def test_concepts_go_with_every_method(method: str, rex: Path, backbone: Any) -> None:
    model, rules = sc.Model(backbone), METHODS[method]()
    photo, mask = Path("rex.png"), Path("mask.png")
    of_photos, of_pictures = wanted_masks(rules)
    reading = any(rule.reads_source for rule in rules)
    subject = sc.Subject((photo,), "dog", (mask,) if of_photos else ()) if reading else None
    made: list[sc.RenderResult] = []
    for strength in (0.0, 1.0):
        with sc.Concept.load("rex.safetensors").apply(model, strength=strength):
            made.append(
                model.render(
                    subject,
                    ["a <new1> dog", "a dog in snow"],
                    rules=rules,
                    settings=sc.RenderSettings(num_inference_steps=6, init="noise"),
                    target_masks=(mask,) if of_pictures else (),
                )
            )
    plain, changed = made
    assert not [warning for result in made for warning in result.warnings if "no effect" in warning]
    pairs = zip(plain.renders, changed.renders, strict=True)
    assert all(one.image.tobytes() != two.image.tobytes() for one, two in pairs)
    assert changed.provenance["rules"] == plain.provenance["rules"]
    assert changed.provenance["model"]["concepts"][0]["words"] == ("<new1>",)


def test_the_record_names_concepts_and_again_applies_them(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--concept", "rex.safetensors:0.7", "--concept", "tom.safetensors")
    assert render(tiny_pipeline_dir, "rex.png", "a <new1> dog and a <new2> cat", *words, "-o", "out") == 0
    data = json.loads((rex / "out" / "render.json").read_text())["provenance"]["model"]["concepts"]
    assert [(each["path"], each["strength"], each["words"]) for each in data] == [
        ("rex.safetensors", 0.7, ["<new1>"]),
        ("tom.safetensors", 1.0, ["<new2>"]),
    ]
    assert data[0]["revision"] == Concept.load("rex.safetensors").revision
    assert main(["render", "--again", "out"]) == 0
    assert pixels(rex / "out") == pixels(rex / "out-again")
    Concept.load("tom.safetensors").save("rex.safetensors")
    assert main(["render", "--again", "out"]) == 2
    assert "two concepts share the word <new2>" in capsys.readouterr().err


def test_a_concept_that_has_changed_is_told(
    rex: Path, backbone: Any, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a <new1> dog", "--concept", "rex.safetensors", "-o", "out") == 0
    make_concept(backbone.pipeline, seed=7).save("rex.safetensors")
    assert main(["render", "--again", "out"]) == 1
    assert "model concepts was" in capsys.readouterr().err


def test_strength_zero_leaves_the_model_and_the_word_must_be_said(
    rex: Path, tiny_pipeline_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render(tiny_pipeline_dir, "rex.png", "a dog", "-o", "plain") == 0
    assert render(tiny_pipeline_dir, "rex.png", "a dog", "--concept", "rex.safetensors:0", "-o", "zero") == 0
    assert pixels(rex / "plain") == pixels(rex / "zero")
    assert "no prompt says <new1>" in capsys.readouterr().err
    assert render(tiny_pipeline_dir, "rex.png", "a <new1> dog", "-o", "unknown") == 0
    assert "<new1> in the prompt is no word of a concept" in capsys.readouterr().err


def test_concepts_that_cannot_be_applied_are_one_line(
    rex: Path, tiny_pipeline_dir: Path, tiny_xl_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [
        (("--concept", "missing.safetensors"), "does not exist"),
        (("--concept", "delta.bin"), "samecast concept convert"),
        (("--concept", "rex.safetensors:99"), "strength"),
        (("--concept", "rex.safetensors", "--concept", "rex.safetensors"), "two concepts share the word <new1>"),
    ]
    for words, message in cases:
        assert render(tiny_pipeline_dir, "rex.png", "a <new1> dog", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert render(tiny_xl_dir, "rex.png", "a <new1> dog", "--concept", "rex.safetensors") == 2
    assert "another model" in capsys.readouterr().err


def test_commands_that_need_the_model_say_which(rex: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["merge", "rex.safetensors", "tom.safetensors"], ["compress", "rex.safetensors"]):
        assert main(["concept", *words]) == 2
        assert "give it with --model" in capsys.readouterr().err
    assert main(["concept", "convert", "rex.safetensors", "--rename", "<new1>"]) == 2
    assert "OLD=NEW" in capsys.readouterr().err


def test_the_strength_is_what_follows_the_last_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:0.5").touch()
    cases = {
        "rex.safetensors": ("rex.safetensors", 1.0),
        "rex.safetensors:0.5": ("rex.safetensors", 0.5),
        "rex.safetensors:-1": ("rex.safetensors", -1.0),
        "C:\\rex.safetensors": ("C:\\rex.safetensors", 1.0),
        "odd:0.5": ("odd:0.5", 1.0),
        "odd:0.5:0.2": ("odd:0.5", 0.2),
    }
    for word, expected in cases.items():
        assert split_strength(word) == expected
        assert split_strength(join_strength(*expected)) == expected
    assert split_strength("x" * 5000 + "\0:0.5") == ("x" * 5000 + "\0", 0.5)


def test_what_a_file_says_of_itself_does_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = ModifierToken({"text_encoder": torch.ones(1, 8)}, "dog\x1b[2J\x07")
    Concept({"<new1>": token}, training={"note": "\x1b]0;title\x07"}).save(tmp_path / "rex.safetensors")
    assert main(["concept", "show", str(tmp_path / "rex.safetensors")]) == 0
    data = capsys.readouterr().out
    assert "<new1>" in data
    assert not {"\x1b", "\x07"} & set(data)
