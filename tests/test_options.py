"""Settings are declared once: the dataclasses and the methods' signatures are the command line."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

import samecast as sc
from samecast.checked import GROUPS, Option, Takes, Within, leaves
from samecast.checked.options import arg_docs, field_docs
from samecast.cli.options.learn import DreamboothOptions, LoraOptions
from samecast.cli.options.masks import MasksOptions
from samecast.cli.options.render import RenderOptions
from samecast.cli.parsing import COMMANDS, options_of, parse, runner_of
from samecast.cli.words import default_text, flags_of
from samecast.core.settings import RenderSettings
from samecast.engine.choices import make_rules
from samecast.errors import SamecastError
from samecast.learn.settings import default_settings


def shown_help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Help of a command as one line."""
    with pytest.raises(SystemExit):
        parse([*words, "--help"])
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


@dataclass(frozen=True)
class Inner:
    """Settings.

    Args:
        ends: how it ends,
            in two lines. Then more.
        both, named: not by itself.
    """

    share: Annotated[float, Within(0, 1)] = 0.5
    """A share."""

    ends: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    """Settings around others."""

    inner: Annotated[Inner, Takes("ends")] = Inner()
    whole: Inner = Inner(ends="b")
    name: Annotated[str, Option("output", name="title", help="A title.")] = ""


def test_leaves_are_the_fields_with_their_help() -> None:
    found = {leaf.path: leaf for leaf in leaves(Outer)}
    assert list(found) == [("inner", "ends"), ("whole", "share"), ("whole", "ends"), ("name",)]
    assert found["whole", "share"].help == "A share."
    assert found["inner", "ends"].help == "How it ends, in two lines. Then more."
    assert (found["inner", "ends"].default, found["whole", "ends"].default) == ("a", "b")
    assert (found["name",].flag, found["name",].help) == ("--title", "A title.")
    assert field_docs(Inner).keys() == {"share", "ends"}
    assert arg_docs(Inner).keys() == {"ends"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help_and_a_group(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = options_of(command)
    text = shown_help(capsys, *command.split())
    for leaf in leaves(kind):
        assert leaf.help, leaf.path
        assert leaf.option.positional or leaf.option.group in (*GROUPS, None)
    assert all(flag in text for flag in flags_of(kind))
    assert len(set(flags_of(kind))) == len(flags_of(kind))
    assert "None" not in text


def test_help_is_grouped_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown_help(capsys, "render")
    places = [text.index(f"{group} options") for group in GROUPS]
    assert places == sorted(places)
    assert text.index("--source-prompt") < text.index("method options") < text.index("--threshold")
    assert text.index("advanced options") < text.index("--source-memory")


def test_defaults_are_told_as_they_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown_help(capsys, "render")
    embedded = sc.load(device="cpu")
    assert f"{embedded.backbone.default_guidance:g} for the embedded model" in text
    assert "(default: 0.08; 0 for style-aligned, free-custom; 0.02 for consistory)" in text
    assert "(default: otsu; 0.05 for dream-matcher)" in text
    for kind, method in ((LoraOptions, "lora"), (DreamboothOptions, "dreambooth")):
        data = {leaf.path[-1]: default_text(leaf, kind) for leaf in leaves(kind)}
        own, others = (default_settings(method, embedded=of) for of in (True, False))
        assert data["learning_rate"] == f"{own.learning_rate:g}; {others.learning_rate:g} with another --model"
        assert data["weight_decay"] == "0.01"


def test_short_names_of_diffusers_names_stay() -> None:
    for words in (
        ("--steps", "7", "--guidance", "2", "--images-per-prompt", "3"),
        ("--num-inference-steps", "7", "--guidance-scale", "2", "--num-images-per-prompt", "3"),
    ):
        options = parse(["render", "a.png", "b", "--init", "noise", *words])
        assert isinstance(options, RenderOptions)
        settings = options.settings
        assert (settings.num_inference_steps, settings.guidance_scale, settings.num_images_per_prompt) == (7, 2.0, 3)


@pytest.mark.parametrize(
    ("command", "flag", "now"),
    [
        ("masks", "--words", "--map-words"),
        ("masks", "--sites", "--map-layers"),
        ("render", "--sites", "--layers"),
        ("render", "--map-sites", "--map-layers"),
        ("study", "--size", "--height and --width"),
        ("tune", "--size", "--height and --width"),
    ],
)
@pytest.mark.parametrize("equals", [True, False])
def test_a_former_option_names_the_new_one(command: str, flag: str, now: str, equals: bool) -> None:
    words = [f"{flag}=dog"] if equals else [flag, "dog"]
    with pytest.raises(SamecastError, match=f"{flag} is now {now}"):
        parse([command, "a.png", *words])


def test_a_former_command_names_the_new_one_and_living_names_are_left_alone() -> None:
    with pytest.raises(SamecastError, match="samecast sites is now samecast layers"):
        parse(["sites"])
    assert parse(["learn", "lora", "--photos", "a", "--size", "64"]).settings.size == 64  # type: ignore[attr-defined]


def test_nested_settings_take_what_was_typed_and_keep_the_rest() -> None:
    options = parse(["masks", "a.png", "--start", "0.5", "--map-words", "dog", "--height", "64"])
    assert isinstance(options, MasksOptions)
    assert (options.steps.start, options.tokens.phrase, options.tokens.threshold) == (0.5, "dog", "otsu")
    assert options.settings == RenderSettings(height=64)
    assert options.given == {
        ("references",): "a photo or prompt",
        ("tokens", "phrase"): "--map-words",
        ("steps", "start"): "--start",
        ("settings", "height"): "--height",
    }


def test_what_was_typed_is_known_even_where_it_is_the_default() -> None:
    for words, data in (
        (
            ["render", "--again", "r.json", "--steps", "50"],
            "--again takes all settings from the record: leave out --num-inference-steps",
        ),
        (
            ["study", "--resume", "s", "--photos", "first"],
            "--resume takes the settings from the folder: leave out --photos",
        ),
    ):
        options = parse(words)
        with pytest.raises(SamecastError, match=data):
            runner_of(options)(options)


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["--fit", "stretch"], "--fit must be 'keep' or 'crop' or 'pad'; got 'stretch'"),
        (["--num-inference-steps", "0"], "--num-inference-steps must be a whole number from 1 to 10,000; got 0"),
        (["--fixed-point", "99"], "--fixed-point must be a whole number from 0 to 20; got 99"),
        (["--init", "2"], "--init must be"),
        (["--guidance", "-1"], "--guidance-scale must be a number from 0 to 1,000; got -1.0"),
        (["--batch-rows", "0"], "--batch-rows must be a whole number from 1 to 10,000; got 0"),
        (["--seed", "-1"], "--seed must be"),
        (["--seed", "None"], "--seed"),
        (["--negative-promt", "x"], "did you mean --negative-prompt?"),
        (["--num-inference-step", "4"], "did you mean --num-inference-steps?"),
    ],
)
def test_a_mistaken_option_is_one_line(words: list[str], data: str) -> None:
    with pytest.raises(SamecastError, match=re.escape(data)) as caught:
        parse(["render", "a.png", "b", *words])
    assert "\n" not in str(caught.value)


def test_a_method_by_name_takes_its_own_arguments_alone() -> None:
    assert make_rules("dream-matcher", {"map_layers": "mid", "final": 9})[0].steps.final == 9
    assert make_rules("masactrl_union", {}) == sc.masactrl_union()
    for method, given, data in (
        ("magic", {}, "there is no method 'magic'; choose from none, masactrl"),
        ("none", {"start": 3}, "start has no effect with --method none: it is for masactrl"),
        ("consistory", {"weight": 3}, "weight has no effect with --method consistory: it is for free-custom"),
        ("masactrl", {"colour": 3}, "colour has no effect with --method masactrl: no method takes it"),
    ):
        with pytest.raises(SamecastError, match=re.escape(data)):
            make_rules(method, given)


NEW_METHOD = '''
from samecast.attention.rule import Rule
from samecast.attention.methods import METHODS

def mirror(start: int = 3, shine: float = 0.25):
    """Mirror: pictures read each other.

    Args:
        shine: how brightly.
    """
    return (Rule(sources=("targets",), layers=str(start + int(shine))),)

METHODS["mirror"] = mirror
import sys
from samecast.cli.parsing import parse
from samecast.cli.render import rules_of
print(rules_of(parse(["render", "a.png", "b", "--method", "mirror", "--shine", "4", "--start", "5"]))[0].layers)
parse(["render", "--help"])
'''


def test_a_new_method_is_an_option_without_a_line_in_the_command() -> None:
    done = subprocess.run([sys.executable, "-c", NEW_METHOD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.replace("│", " ").split())
    assert text.startswith("9 ")
    assert "mirror: Mirror: pictures read each other." in text
    assert "For mirror: how brightly. (default: 0.25)" in text


def test_importing_the_package_and_asking_for_help_bring_no_torch() -> None:
    for code in ("import samecast", "import samecast.cli.options.learn, samecast.cli.parsing"):
        check = f"import sys; {code}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_command_adds_little_to_its_settings() -> None:
    """Fields of settings are declared where the settings are, and nowhere in the command's own modules."""
    folder = Path(sys.modules["samecast.cli"].__file__ or "").parent
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    for name in (
        "guidance_rescale:",
        "num_inference_steps:",
        "learning_rate:",
        "prior_weight:",
        "dropout",
        "consistency:",
    ):
        assert name not in text
