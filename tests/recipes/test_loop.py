"""The training loop: an interrupted run ends where an unbroken one does; the fast normalisation is the slow one."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from training import loop
from training.fast import quicken

KILLED_AT = 7


class Killed(Exception):
    """Stands for the machine going away."""


def recipe(name, steps=12):
    return loop.Recipe(name, steps, 1e9, 1e-2, 4, 0, torch.device("cpu"), torch.float32, None, warmup=2)


def fit(name, monkeypatch, kill_at=None, save_always=False):
    torch.manual_seed(1)
    module = nn.Linear(3, 1)
    if save_always:
        clock = iter(range(0, 10**6, 1000))
        monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(clock)))

    def loss_at(step):
        if step == kill_at:
            raise Killed
        x = torch.randn(4, 3)
        return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}

    def evaluate(step):
        x = torch.ones(1, 3)
        return {"error": (module(x) - 3).abs().item()}

    return loop.train(recipe(name), module, loss_at, evaluate, evaluate_every=5)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "ROOT", tmp_path)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    unbroken = fit("unbroken", monkeypatch, save_always=True)
    with pytest.raises(Killed):
        fit("broken", monkeypatch, kill_at=KILLED_AT, save_always=True)
    assert torch.load(tmp_path / "broken" / "last.pt", weights_only=True)["step"] == KILLED_AT
    resumed = fit("broken", monkeypatch, save_always=True)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_a_finished_run_states_its_facts_and_leaves_no_partial_file(tmp_path, monkeypatch):
    fit("done", monkeypatch)
    facts = json.loads((tmp_path / "done" / "facts.json").read_text())
    assert facts["steps"] == 12
    assert facts["seed"] == 0
    assert facts["held_out"]["error"] < 3
    assert not list(Path(tmp_path / "done").glob("*.part"))


def test_evaluation_sees_the_average_and_training_goes_on_with_its_own_weights():
    module = nn.Linear(2, 1)
    average = loop.Average(module, 0.5)
    with torch.no_grad():
        module.weight += 1
    before = module.weight.detach().clone()
    seen = loop.evaluated(module, average, lambda step: {"weight": module.weight.sum().item()}, 0)
    assert seen["weight"] == pytest.approx((before - 1).sum().item(), abs=1e-6)
    assert torch.equal(module.weight, before)
    assert module.training


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_fast_group_normalisation_is_group_normalisation(groups):
    torch.manual_seed(0)
    plain = nn.GroupNorm(groups, 16)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    fast = quicken(nn.GroupNorm(groups, 16))
    fast.load_state_dict(plain.state_dict())
    x = (torch.randn(3, 16, 5, 4) * 2 + 1).to(memory_format=torch.channels_last)
    weight = torch.randn(3, 16, 5, 4)
    results = []
    for norm in (plain, fast):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = norm(leaf)
        (out * weight).sum().backward()
        results.append((out.detach(), leaf.grad, norm.weight.grad, norm.bias.grad))
    for expected, got in zip(*results, strict=True):
        assert torch.allclose(expected, got, atol=2e-5)  # sums in another order, float32
