"""Nothing that changes a picture is missing from its key: every field of all that determines one is changed in turn.

Each dataclass is gone through field by field; a field that is new has to be given another value here, or a reason why
it changes no picture.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import samecast as sc
from samecast.attention.modes import MODES
from samecast.attention.rule import Rule
from samecast.compare.benchmark import Benchmark
from samecast.compare.methods import Method
from samecast.core.settings import RenderSettings
from samecast.core.steps import Steps
from samecast.core.tokens import SubjectTokens
from samecast.diorama.benchmark import cases
from samecast.learn.settings import LearnSettings
from samecast.models.unet import UNetBackbone
from samecast.study.recipe import Cast, Recipe, picture_key
from tests.study.conftest import recipe_of

SETTINGS: Mapping[str, Any] = {
    "num_inference_steps": 11,
    "guidance_scale": 2.0,
    "guidance_rescale": 0.5,
    "true_cfg_scale": 3.0,
    "init": "noise",
    "negative_prompt": "rain",
    "height": 128,
    "width": 128,
    "pairing": "masactrl",
    "replay": False,
    "fixed_point": 1,
}
OTHER_PICTURES: Mapping[str, Any] = {
    "seed": (1, "it is the cast's"),
    "num_images_per_prompt": (2, "a study makes one picture for each seed"),
    "fit": ("pad", "photos are known by what is read of them"),
    "source_prompt": ("a photo", "it is the cast's"),
    "check_inversion": (True, "it measures"),
    "source_memory": (1.0, "what is not kept is computed again"),
    "batch_rows": (3, "batches do not affect results"),
}
RECIPE: Mapping[str, Any] = {"revision": "sha256:1", "dtype": "float16", "lora": (("a", "sha256:2"),)}
CAST: Mapping[str, Any] = {
    "photos": ("sha256:1",),
    "prompt": "a cat",
    "seed": 1,
    "noun": "cat",
    "caption": "a photo of a dog",
}
STEPS: Mapping[str, Any] = {"start": 3, "final": 8, "skip": 2, "stride": 2, "only": (3, 4)}
TOKENS: Mapping[str, Any] = {
    "phrase": "cat",
    "layers": "decoder",
    "steps": Steps(0, 5),
    "average": "step",
    "threshold": 0.3,
}
RULE: Mapping[str, Any] = {
    "readers": (0,),
    "sources": ("source", "self"),
    "layers": "encoder",
    "steps": Steps(2),
    "mode": MODES["align"](),
}
MODE: Mapping[str, Any] = {"tokens": SubjectTokens("dog"), "weight": 2.5, "dropout": 0.25, "consistency": 0.7}
METHOD: Mapping[str, Any] = {
    "name": "another",
    "rules": sc.masactrl(2),
    "init": 0.5,
    "shuffled": True,
    "learning": LearnSettings(),
    "photos": 4,
    "drawn": True,
}


def changed(of: Any, values: Mapping[str, Any], without: Mapping[str, Any] | None = None) -> Iterator[tuple[str, Any]]:
    """The same with each field in turn at another value; fails where a field has none."""
    data = {**values, **(without or {})}
    assert sorted(data) == sorted(field.name for field in fields(of)), f"{type(of).__name__} has other fields"
    for name, value in values.items():
        assert getattr(of, name) != value, f"{name} is at that value already"
        yield name, replace(of, **{name: value})


@pytest.fixture
def recipe(backbone: UNetBackbone) -> Recipe:
    return recipe_of(backbone)


LOOKING = Rule(steps=Steps(1), mode=MODES["separate"](SubjectTokens("dog")))


def test_every_setting_is_in_a_pictures_key_or_changes_no_picture(recipe: Recipe) -> None:
    cast, rules = Cast(("sha256:0",), "a dog", 0), (LOOKING,)
    before = picture_key(recipe, cast, rules)
    for name, settings in changed(recipe.settings, SETTINGS, OTHER_PICTURES):
        assert picture_key(replace(recipe, settings=settings), cast, rules) != before, name
    for name, (value, reason) in OTHER_PICTURES.items():
        settings = replace(recipe.settings, **{name: value})
        assert picture_key(replace(recipe, settings=settings), cast, rules) == before, reason


def test_every_field_of_recipe_and_cast_is_in_a_pictures_key_or_changes_no_picture(recipe: Recipe) -> None:
    noisy = replace(recipe, settings=replace(recipe.settings, init="noise"))
    cast, rules = Cast(("sha256:0",), "a dog", 0, "dog"), (LOOKING,)
    before = picture_key(noisy, cast, rules)
    without = dict.fromkeys(("grid", "settings", "model", "photos", "seeds", "clip", "dino", "title", "metrics"))
    for name, other in changed(noisy, RECIPE, without):
        assert picture_key(other, cast, rules) != before, name
    for name, other in changed(cast, CAST):
        assert picture_key(noisy, other, rules) != before, name
    for name, value in {"model": "moved", "title": "x", "clip": "x", "dino": "x", "metrics": ("ssim",)}.items():
        assert picture_key(replace(noisy, **{name: value}), cast, rules) == before, name


def test_every_field_of_a_rule_and_of_what_is_in_it_is_in_a_pictures_key(recipe: Recipe) -> None:
    cast = Cast(("sha256:0",), "a dog", 0, "dog")

    def key(rule: Rule) -> str:
        return picture_key(recipe, cast, (rule,))

    keys = [key(Rule()), picture_key(recipe, cast, ()), picture_key(recipe, cast, (Rule(), Rule()))]
    keys += [key(rule) for _, rule in changed(Rule(), RULE)]
    keys += [key(Rule(steps=steps)) for _, steps in changed(Steps(), STEPS)]
    for tokens in (SubjectTokens(), *(tokens for _, tokens in changed(SubjectTokens(), TOKENS))):
        keys.append(key(Rule(mode=MODES["separate"](tokens))))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("name", MODES)
def test_every_field_of_every_mode_is_in_a_pictures_key(name: str, recipe: Recipe) -> None:
    cast, mode = Cast(("sha256:0",), "a dog", 0, "dog"), MODES[name]()
    sources = ("source", "self")
    values = {field.name: MODE[field.name] for field in fields(mode)}
    data = [mode, *(other for _, other in changed(mode, values))]
    keys = {picture_key(recipe, cast, (Rule(sources=sources, mode=each),)) for each in data}
    assert len(keys) == len(data)
    plain = picture_key(recipe, cast, (Rule(sources=sources, mode=MODES["read" if name != "read" else "align"]()),))
    assert plain not in keys


def test_every_field_of_a_comparisons_unit_is_in_its_key(tiny_pipeline_dir: Path) -> None:
    benchmark = Benchmark(
        sc.load(tiny_pipeline_dir), (), RenderSettings(num_inference_steps=3, source_prompt=""), prompts=2
    )
    (case, other, third), method = cases(3), Method("decoder", "in words", sc.masactrl(1))
    before = benchmark.key(case, method, other)
    keys = [before, benchmark.key(other, method, third)]
    values = {name: value for name, value in SETTINGS.items() if name != "num_inference_steps"} | {
        "num_inference_steps": 4
    }
    settings = {**values, **{name: value for name, (value, _) in OTHER_PICTURES.items()}}
    del settings["true_cfg_scale"]  # refused by a U-Net
    keys += [
        replace(benchmark, settings=each).key(case, method, other)
        for _, each in changed(benchmark.settings, settings, {"true_cfg_scale": 0})
    ]
    keys += [each.key(case, method, other) for _, each in changed(benchmark, {"prompts": 3, "hidden": True}, WITHOUT)]
    keys += [benchmark.key(case, each, other) for _, each in changed(method, METHOD, {"title": 0, "strength": 0})]
    learning = replace(method, learning=LearnSettings())
    keys += [benchmark.key(case, replace(learning, strength=0.5), other)]
    keys += [benchmark.key(case, replace(method, shuffled=True), third)]
    assert len(set(keys)) == len(keys)
    assert benchmark.key(case, replace(method, title="in other words"), other) == before


WITHOUT = {"model": "its identity is in the key", "metrics": "scores are kept beside", "settings": "above"}
LEARNING: Mapping[str, Any] = {
    "method": "lora",
    "mode": "crossattn",
    "steps": 7,
    "photos_seen": 7,
    "batch": 7,
    "accumulate": 7,
    "learning_rate": 0.5,
    "token_rate": 0.5,
    "weight_decay": 0.5,
    "prior_weight": 0.5,
    "class_images": 7,
    "augment": "none",
    "flip": False,
    "varied": True,
    "initializer": "ktn",
    "views": 7,
    "rank": 7,
    "optimizer": "adamw8bit",
    "precision": "bfloat16",
    "checkpointing": True,
    "size": 64,
    "fit": "pad",
    "seed": 7,
}


def test_every_setting_of_a_training_is_in_the_key_of_what_is_made_by_it(tiny_pipeline_dir: Path) -> None:
    benchmark = Benchmark(sc.load(tiny_pipeline_dir), (), RenderSettings(num_inference_steps=3), prompts=2)
    (case,), method = cases(1), Method("learnt", "", (), learning=LearnSettings())
    data = [LearnSettings(), *(learning for _, learning in changed(LearnSettings(), LEARNING))]
    keys = {benchmark.key(case, replace(method, learning=learning)) for learning in data}
    assert len(keys) == len(data)
