"""Probing for vital layers, where it is known which they are: a layer that puts out nothing cannot be missed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import samecast as sc
from samecast.attention.rule_files import read_rules
from samecast.cli import main
from samecast.render.probe import probe_layers, vital_layers

QUICK = sc.RenderSettings(num_inference_steps=2, height=32, width=32, seed=1)


@pytest.mark.parametrize(("family", "idle", "loud"), [("flux", 3, 4), ("sd35", 3, 0), ("qwen", 2, 0), ("pixart", 0, 3)])
def test_the_probe_finds_what_is_known(family: str, idle: int, loud: int, model: sc.Model) -> None:
    """One layer's values are made zero, another's twenty times as large."""
    modules: list[Any] = [bound.module for bound in model.backbone.self_attention()]
    weights = [part for at in (idle, loud) for part in _values(modules[at])]
    before = [weight.clone() for weight in weights]
    with torch.no_grad():
        for weight in _values(modules[idle]):
            weight.zero_()
        for weight in _values(modules[loud]):
            weight.mul_(20)
    try:
        probed = probe_layers(model, ["a dog"], QUICK)
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
    assert [each.layer.index for each in probed] == list(range(len(modules)))
    changes = [each.change for each in probed]
    assert changes[idle] == min(changes)
    assert changes[loud] == max(changes)
    assert vital_layers(probed, 1) == (probed[loud].layer,)
    assert not any(module._forward_hooks for module in modules)


def _values(module: Any) -> list[torch.Tensor]:
    """All that makes the values of a layer."""
    parts = [module.to_v, getattr(module, "add_v_proj", None)]
    return [weight for part in parts if part is not None for weight in part.parameters()]


def test_the_command_writes_rules(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny("flux").save_pretrained(tmp_path / "model")
    words = ["layers", "--model", str(tmp_path / "model"), "--probe", "--steps", "1", "--height", "32", "--width", "32"]
    out = tmp_path / "vital.json"
    assert main([*words, "--vital", "2", "--device", "cpu", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("vital\n") == 2
    (rule,) = read_rules(out)
    assert rule.layers in printed
    assert len(json.loads(out.read_text())["why"]["change"]) == 6


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "x.json"], "--out would have no effect without --probe"),
        (["--vital", "3"], "--vital would have no effect without --probe"),
        (["--steps", "3"], "a setting of the render would have no effect without --probe"),
        (["--probe", "--vital", "99", "--steps", "1"], "must be 1 to 16"),
    ],
)
def test_options_without_effect_are_refused(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layers", *words]) == 2
    assert expected in capsys.readouterr().err
