"""Forms are commands: what the page shows to copy makes the very pictures that its record holds."""

import shlex
from pathlib import Path

import pytest
from PIL import Image

import samecast as sc
from samecast.attention.rule_files import rules_from_data
from samecast.cli import main
from samecast.cli.parsing import parse
from samecast.cli.render import run_of
from samecast.core.layers import Layer
from samecast.errors import SamecastError
from samecast.records import pixel_hash, read_record
from samecast.ui.cells import cells_of, rules_of_cells
from samecast.ui.form import balance, command_of, read_form, values_of_rules, values_of_settings, weighted, words_of
from samecast.ui.same import python_of

REX = str(Path(__file__).parents[2] / "examples" / "rex" / "0.png")
FORMS = [
    {},
    {"--final": 0.5, "--start": "0", "--layers": "10-12,14"},
    {"--method": "masactrl-auto-masked", "--threshold": "0.3", "--map-words": "dog", "--noun": "dog"},
    {"--method": "none", "--init": "noise", "--seed": "7", "--num-images-per-prompt": "2"},
    {"--method": "free-custom", "--weight": "2.5", "--mask": [REX]},
    {"--negative-prompt": "-blurry 'quotes' \"double\"", "--guidance-scale": "1.5", "--no-replay": True},
    {"--method": "style-aligned", "--source-prompt": "a photo of a dog", "--pairing": "masactrl", "--fit": "crop"},
]
PROMPTS = ("a dog on the beach", "--final 3", 'it\'s a $HOME `dog` "here" {noun} \\n é')


@pytest.mark.parametrize("values", FORMS, ids=lambda values: " ".join(values) or "defaults")
def test_command_is_the_form(values: dict[str, object], tmp_path: Path) -> None:
    values = {"--reference": [REX], "--out": str(tmp_path / "out"), **values}
    shown = command_of(words_of("render", values, PROMPTS))
    program, *typed = shlex.split(shown)
    assert program == "samecast"
    assert run_of(parse(typed)) == run_of(read_form("render", values, PROMPTS))
    assert run_of(parse(typed)).prompts == PROMPTS


@pytest.mark.parametrize("values", FORMS, ids=lambda values: " ".join(values) or "defaults")
def test_python_calls_render_with_what_the_command_does(values: dict[str, object], tmp_path: Path) -> None:
    options = read_form("render", {"--reference": [REX], "--out": str(tmp_path / "out"), **values}, PROMPTS)
    run, calls = run_of(options), []

    class Seen:
        """Stands where the model would, to see the call; the pictures are compared in the next test."""

        def render(self, subject, prompts, *, rules, target_masks=(), **changes):
            calls.append((subject, tuple(prompts), rules, sc.RenderSettings(**changes)))
            return self

        def save(self, out):
            calls.append(out)

    text = python_of(run, options).replace("sc.load(", "load(")
    exec(compile(text, "shown", "exec"), {"load": lambda **_: Seen()})
    (subject, prompts, rules, settings), out = calls
    assert [str(photo) for photo in subject.references] == [REX]
    assert (subject.class_noun, list(map(str, subject.masks))) == (options.noun, list(map(str, options.mask)))
    assert (prompts, rules, settings) == (run.prompts, run.rules, run.settings)
    assert Path(out) == run.out


def test_command_and_python_make_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"--reference": [REX], "--noun": "dog", "--num-inference-steps": "3", "--final": "0.5", "--out": "one"}
    words = words_of("render", values, ("a {noun} at night", "a dog in the snow"))
    assert main(words) == 0
    options = parse(words)
    text = python_of(run_of(options), options).replace("'one'", "'two'")
    exec(compile(text, "shown", "exec"), {})
    one, two = read_record(tmp_path / "one"), read_record(tmp_path / "two")
    assert one.pictures == two.pictures
    assert len(set(one.pictures)) == 2


@pytest.mark.parametrize(
    "rules",
    [
        sc.none(),
        sc.masactrl(),
        sc.masactrl(0.0, 1.0),
        sc.masactrl(4, 25, 3, "encoder", 2),
        sc.masactrl_union(final=0.5),
        sc.masactrl_auto_masked(tokens=sc.SubjectTokens("red dog", threshold=0.3)),
        sc.consistory(),
        sc.dream_matcher(),
        sc.style_aligned(),
    ],
    ids=str,
)
def test_rules_of_a_record_fill_the_form_that_makes_them(rules: sc.Rules) -> None:
    values = values_of_rules(rules)
    assert values is not None
    options = read_form("render", {"--reference": [REX], **values}, ["a dog"])
    assert run_of(options).rules == rules


def test_rules_of_no_method_are_not_taken_for_one() -> None:
    assert values_of_rules((sc.Rule(layers="10", steps=sc.Steps(only=(1, 5))),)) is None
    assert values_of_rules((*sc.masactrl(0, 5), *sc.masactrl(6, layers="encoder"))) is None


def test_settings_of_a_record_fill_the_form_that_makes_them() -> None:
    settings = sc.RenderSettings(7, 3.5, seed=4, init=0.25, height=96, replay=False, fixed_point=2, negative_prompt="x")
    options = read_form("render", {"--reference": [REX], **values_of_settings(settings)}, ["a dog"])
    assert options.settings == settings


@pytest.mark.parametrize("position", [number / 20 for number in range(21)])
def test_every_place_of_the_slider_is_a_setting(position: float) -> None:
    rules = run_of(read_form("render", {"--reference": [REX], **balance(position)}, ["a dog"])).rules
    for steps in (2, 20, 50, 400):
        assert rules[0].steps.select(steps)


def test_slider_reads_more_of_the_photo_the_nearer_it_is_to_it() -> None:
    counts = [
        len(run_of(read_form("render", {"--reference": [REX], **balance(at / 20)}, ["a"])).rules[0].steps.select(50))
        for at in range(21)
    ]
    assert counts == sorted(counts)
    assert counts[0] < counts[10] < counts[20] == 50


LAYERS = tuple(Layer(f"up.{index}", index, "self", "up", 16, 4) for index in range(16))


def test_cells_and_rules_are_each_others_picture() -> None:
    for rules in (sc.masactrl(2, 7, layers="3-5,9"), sc.masactrl(skip=3, layers="10"), sc.masactrl(stride=3)):
        on = cells_of(rules, LAYERS, 20)
        again = rules_of_cells({"on": on}, rules)
        assert cells_of(again, LAYERS, 20) == on
        assert {rule.mode for rule in again} == {rules[0].mode}
    assert rules_of_cells({"on": ["000"]}, ()) == ()


@pytest.mark.parametrize(
    "value", [None, [], {}, {"on": "1"}, {"on": [1]}, {"on": ["2"]}, {"on": ["1" * 9999]}, {"on": ["1"] * 999}]
)
def test_what_is_no_picture_of_cells_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(SamecastError, match="cannot be read"):
        rules_of_cells(value, ())


def test_strengths_become_options() -> None:
    shown = lambda *parts: "/".join(("root", *parts))  # noqa: E731
    assert weighted({"a.safetensors": 1, "c/b.safetensors": 0.5, "off": 0}, shown) == [
        "root/a.safetensors",
        "root/c/b.safetensors:0.5",
    ]


def test_rules_survive_the_file_that_the_page_writes(tmp_path: Path) -> None:
    from samecast.attention.rule_files import rules_to_data

    rules = rules_of_cells({"on": ["0110", "0000", "1001"]}, sc.masactrl_union())
    assert rules_from_data(rules_to_data(rules)) == rules
    assert pixel_hash(Image.new("RGB", (2, 2))).startswith("sha256:")
