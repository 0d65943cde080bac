"""The command line: help for newcomers, one line and code 2 for mistakes, and what an option comes to."""

import dataclasses
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import samecast
from samecast.attention.methods import METHODS
from samecast.checked import leaves
from samecast.cli import main
from samecast.cli.options.diorama import SheetOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.parsing import parse
from samecast.cli.render import rules_of
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError
from tests.conftest import make_tiny_pipeline


@pytest.fixture
def photo_path(tmp_path: Path, photo: Image.Image) -> str:
    path = tmp_path / "rex.png"
    photo.save(path)
    return str(path)


def mistake(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line that these words are refused with."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err
    assert line.startswith("samecast: ")
    assert line.count("\n") == 1
    assert line.endswith("\n")
    return line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["render", "demo", "diorama", "samecast render photo.png"]),
        (["--help"], ["render", "demo", "diorama", "samecast render photo.png"]),
        (["render", "--help"], ["--method", "--again", 'samecast render rex.png "a dog running on the beach"']),
        (["diorama", "sheet", "--help"], ["--seed", "samecast diorama sheet"]),
        (["demo", "--help"], ["--out"]),
        (["masks", "--help"], ["--noun", "samecast masks rex.png --noun dog"]),
    ],
)
def test_help_says_what_to_type(capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for text in expected:
        assert text in shown


@pytest.mark.parametrize("module", [True, False])
def test_help_answers_at_once(module: bool) -> None:
    """Counted in processor time, which a busy machine does not change; torch alone takes several seconds."""
    script = Path(sys.executable).with_name("samecast")
    command = [sys.executable, "-m", "samecast"] if module else [str(script)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "usage: samecast" in done.stdout
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.5


@pytest.mark.parametrize(
    "words", [["--help"], ["render", "--help"], ["render", "a", "b", "--fot"], ["render", "no.png", "a"]]
)
def test_help_and_common_mistakes_do_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys; from samecast.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, *words], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (
            ["rendr"],
            "did you mean samecast render?; the commands are render, learn, masks, study, tune, ui, demo, layers",
        ),
        (["render", "a.png", "b", "--fot", "pad"], "did you mean --fit?"),
        (["render", "a.png", "b", "--steps", "many"], "--steps"),
        (["render", "a.png", "b", "--method", "magic"], "--method must be 'none' or 'masactrl' or 'masactrl-union' or"),
        (["render", "a.png", "b", "--init", "blue"], "{inverted,noise}|FLOAT"),
        (["render", "a.png", "b", "--seed"], "--seed"),
        (["diorama"], "sheet"),
        (["demo", "extra"], "extra"),
        (["render"], "photo.png"),
        (["render", "a dog on the beach"], "give a photo"),
        (["render", "rex.png"], "give a prompt"),
        (["render", "no-such-photo.png", "a dog"], "does not exist"),
        (["render", ".", "a dog"], "folder"),
        (["render", "--again", "no-such-record.json"], "does not exist"),
        (
            ["render", "--again", "r.json", "--steps", "20", "a.png"],
            "leave out a photo or prompt, --num-inference-steps",
        ),
    ],
)
def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    assert part in mistake(capsys, *words)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["a dog", ""], "prompt 2 is empty"),
        (["  \n"], "prompt 1 is empty"),
        (["a dog", "--start", "9", "--final", "4"], "start"),
        (["a dog", "--skip", "12"], "skip"),
        (["a dog", "--method", "none", "--final", "9"], "--final has no effect"),
        (["a dog", "--threshold", "otsu"], "--threshold has no effect with --method masactrl"),
        (["a dog", "--method", "none", "--map-words", "dog"], "--map-words has no effect with --method none"),
        (["a dog", "--method", "masactrl-auto-masked", "--threshold", "2"], "threshold must be between 0 and 1"),
        (["a dog", "--method", "dream-matcher", "--threshold", "-1"], "threshold must be between 0 and 1"),
        (["a dog", "--guidance", "nan"], "guidance"),
        (["a dog", "--steps", "0"], "steps"),
        (["a dog", "--height", "0"], "height"),
        (["a dog", "--init", "1.5"], "init"),
        (["a dog", "--seed", "-1"], "seed"),
        (["a dog", "--model", "no/such/model/here"], "model"),
        (["a dog", "--device", "abacus"], "device"),
        (["a dog", "--mask", "no.png"], "'no.png' does not exist"),
        (["a dog", "--target-mask", "no.png"], "'no.png' does not exist"),
        (["other.png"], "give a prompt after them"),
    ],
)
def test_a_mistake_about_a_good_photo_is_one_line(
    capsys: pytest.CaptureFixture[str], photo_path: str, words: list[str], part: str
) -> None:
    assert part in mistake(capsys, "render", photo_path, *words)


@pytest.mark.parametrize("content", [b"a dog, believe me", b"", b"\xff\xd8\xff\xe0\0\x10JFIF"])
def test_a_file_that_is_no_photo_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "rex.png").write_bytes(content)
    assert "rex.png" in mistake(capsys, "render", str(tmp_path / "rex.png"), "a dog")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["rendr", "a.png", "b"], "did you mean samecast render?"),
        (["Render"], "did you mean samecast render?"),
        (["leran", "lora"], "did you mean samecast learn?"),
        (["concpt", "show", "x"], "did you mean samecast concept?"),
        (["study", "statu", "x"], "did you mean samecast study status?"),
        (["study", "reprot"], "did you mean samecast study report?"),
        (["concept", "shw", "x"], "did you mean samecast concept show?"),
        (["learn", "custom-difusion"], "did you mean samecast learn custom-diffusion?"),
        (["learn", "dreambooth-lora"], "did you mean samecast learn dreambooth?"),
        (["diorama", "bench"], "did you mean samecast diorama benchmark?"),
        (["xyz"], "unknown command 'xyz'; the commands are render, learn"),
        (["concept", "xyz"], "unknown command 'concept xyz'; there are concept show, concept merge"),
    ],
)
def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str], words: list[str], part: str) -> None:
    assert part in mistake(capsys, *words)


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_told_by_the_command_and_by_the_package(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main([flag])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"samecast {samecast.__version__}\n"
    assert samecast.__version__ == version("samecast")
    with pytest.raises(AttributeError):
        _ = samecast.__versions__  # type: ignore[attr-defined]


def test_layers_lists_every_layer(capsys: pytest.CaptureFixture[str], tiny_pipeline_dir: Path) -> None:
    assert main(["layers", "--model", str(tiny_pipeline_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["index", "name", "stage", "resolution", "heads"]
    assert lines[1].split() == ["0", "down.0", "encoder", "16x16", "2"]
    assert lines[7].split() == ["6", "mid.0", "mid", "2x2", "2"]
    assert lines[16].split() == ["15", "up.8", "decoder", "16x16", "2"]
    assert len(lines) == 17


def test_layers_lists_the_second_familys_layers_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_tiny_pipeline(tmp_path, prediction_type="v_prediction", second_family=True).save_pretrained(folder)
    assert main(["layers", "--model", str(folder)]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [int(row[0]) for row in table] == list(range(16))
    assert [int(row[4]) for row in table] == [1, 1, 2, 2, 4, 4, 4, 4, 4, 4, 2, 2, 2, 1, 1, 1]


def test_an_output_that_cannot_be_is_found_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, photo_path: str
) -> None:
    (tmp_path / "file").write_text("")
    assert "not a folder" in mistake(capsys, "render", photo_path, "a dog", "--out", str(tmp_path / "file" / "out"))


def test_markup_in_a_prompt_is_shown_as_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "[red]dog[/red].png" in mistake(capsys, "render", "[red]dog[/red].png", "a dog")


def test_every_setting_is_an_option_with_the_same_default() -> None:
    options = parse(["render", "a.png", "b"])
    assert isinstance(options, RenderOptions)
    assert options.settings == RenderSettings()
    paths = {leaf.path for leaf in leaves(RenderOptions)}
    for setting in dataclasses.fields(RenderSettings):
        assert ("settings", setting.name) in paths
    assert all(leaf.help for leaf in leaves(RenderOptions))


def test_options_and_prompts_may_mix() -> None:
    options = parse(["render", "a.png", "b", "--seed", "3", "--lora", "x", "--lora", "y", "--init", "0.3", "-v"])
    assert isinstance(options, RenderOptions)
    assert options.inputs == ("a.png", "b")
    assert options.lora == ("x", "y")
    assert (options.settings.seed, options.settings.init, options.verbose) == (3, 0.3, True)


def test_nested_commands_are_found() -> None:
    assert parse(["diorama", "sheet", "--seed", "4"]) == SheetOptions(seed=4)


def test_parsing_raises_rather_than_exits() -> None:
    with pytest.raises(SamecastError, match="unrecognized"):
        parse(["render", "--nonsense"])


@pytest.mark.parametrize(
    ("method", "flag", "value"),
    [
        ("free-custom", "weight", 2.0),
        ("consistory", "dropout", 0.25),
        ("style-aligned", "anchor", 1),
        ("dream-matcher", "consistency", 0.7),
    ],
)
def test_what_a_method_takes_can_be_said_and_nothing_else(method: str, flag: str, value: float) -> None:
    options = parse(["render", "a.png", "b", "--method", method, f"--{flag}", str(value)])
    assert isinstance(options, RenderOptions)
    assert rules_of(options) == METHODS[method.replace("-", "_")](**{flag: value})
    assert rules_of(options) != METHODS[method.replace("-", "_")]()
    with pytest.raises(SamecastError, match=f"--{flag} has no effect with --method masactrl: it is for {method}"):
        rules_of(parse(["render", "a.png", "b", f"--{flag}", str(value)]))


def test_a_photo_may_be_named_whatever_its_name_looks_like() -> None:
    words = ["render", "--concept", "rex.safetensors", "--reference", "rex.png", "--method", "masactrl"]
    options = parse([*words, "a <new1> dog running on the beach"])
    assert isinstance(options, RenderOptions)
    assert options.reference == (Path("rex.png"),)
    assert options.inputs == ("a <new1> dog running on the beach",)


def test_a_choice_about_maps_leaves_the_methods_other_choices() -> None:
    options = parse(["render", "a.png", "b", "--method", "dream-matcher", "--map-layers", "mid"])
    assert isinstance(options, RenderOptions)
    tokens = rules_of(options)[0].tokens
    assert isinstance(tokens, SubjectTokens)
    assert (tokens.layers, tokens.threshold) == ("mid", 0.05)
