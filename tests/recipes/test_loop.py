"""The training loop: an interrupted run ends where an unbroken one does; the fast normalisation is the slow one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from training import loop
from training.fast import compile_checked, quicken
from training.muon import Muon, orthogonal, split

KILLED_AT = 7


class Killed(Exception):
    """Stands for the machine going away."""


def recipe(name, steps=12, **others):
    return loop.Recipe(name, steps, 1e9, 1e-2, 4, 0, torch.device("cpu"), torch.float32, None, warmup=2, **others)


def fit(name, monkeypatch, kill_at=None, save_always=False, optimiser="adamw"):
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

    return loop.train(recipe(name, optimiser=optimiser), module, loss_at, evaluate, evaluate_every=5)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "ROOT", tmp_path)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch, optimiser):
    unbroken = fit("unbroken", monkeypatch, save_always=True, optimiser=optimiser)
    with pytest.raises(Killed):
        fit("broken", monkeypatch, kill_at=KILLED_AT, save_always=True, optimiser=optimiser)
    assert torch.load(tmp_path / "broken" / "last.pt", weights_only=True)["step"] == KILLED_AT
    resumed = fit("broken", monkeypatch, save_always=True, optimiser=optimiser)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def seeded_module():
    torch.manual_seed(1)
    return nn.Linear(3, 1)


ONE_OF_TWO = """
import sys
from pathlib import Path
import torch
from training import loop

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
loop.ROOT = folder
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
device = torch.device("cpu")
made = loop.Recipe("two", 12, 1e9, 1e-2, 4, 0, device, torch.float32, None, warmup=2, rank=rank, world=2)
torch.manual_seed(1)
module = torch.nn.Linear(3, 1)


def loss_at(step):
    x = torch.randn(4, 3)
    return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}


torch.save(loop.train(made, module, loss_at, lambda step: {}), folder / f"{rank}.pt")
"""


def test_two_processes_train_as_one_would_on_both_their_batches(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(("src", "."))}
    both = [
        subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(rank), str(tmp_path)], env=environment)
        for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    module = seeded_module()

    def loss_at(step):
        drawn = []
        for rank in (0, 1):
            torch.manual_seed(2 * step + rank)
            drawn.append(torch.randn(4, 3))
        x = torch.cat(drawn)
        return (module(x) - x.sum(1, keepdim=True)).square().mean(), {}

    alone = loop.train(recipe("one"), module, loss_at, lambda step: {})
    for name, value in alone.items():
        assert torch.equal(first[name], second[name])
        assert torch.allclose(value, first[name], atol=1e-6)
    assert json.loads((tmp_path / "two" / "facts.json").read_text())["batch"] == 8


@pytest.mark.parametrize("shape", [(64, 200), (200, 64), (32, 32)])
def test_muon_steps_by_matrices_whose_singular_values_are_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, *shape), rounds=5))
    assert values.min() > 0.3 or shape == (32, 32)  # a square matrix has singular values near nought
    assert values.max() < 1.3


def test_muon_takes_matrices_inside_and_leaves_the_rest():
    module = nn.ModuleDict({"conv_in": nn.Conv2d(3, 8, 3), "inside": nn.Conv2d(8, 8, 3), "norm": nn.GroupNorm(2, 8)})
    inner, outer = split(module)
    assert inner == [module["inside"].weight]
    assert len(outer) == 5
    for weight in module.parameters():
        weight.grad = torch.randn_like(weight)
    before = [weight.clone() for weight in module.parameters()]
    Muon(inner, lr=0.1).step()
    changed = [not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True)]
    assert changed == [weight is inner[0] for weight in module.parameters()]


def test_a_finished_run_states_its_facts_and_leaves_no_partial_file(tmp_path, monkeypatch):
    fit("done", monkeypatch)
    facts = json.loads((tmp_path / "done" / "facts.json").read_text())
    assert facts["steps"] == 12
    assert facts["seed"] == 0
    assert facts["held_out"]["error"] < 3
    assert not list(Path(tmp_path / "done").glob("*.part"))


def test_a_steady_rate_falls_in_the_rest_of_the_run_alone():
    plain, steady = recipe("plain"), recipe("steady", steady=0.75)
    assert [steady.rate_at(99, progress) for progress in (0, 0.5, 0.75)] == pytest.approx([1e-2] * 3)
    for progress in (0.0, 0.4, 1.0):
        assert steady.rate_at(99, 0.75 + 0.25 * progress) == pytest.approx(plain.rate_at(99, progress))
    assert plain.rate_at(99, 1.0) == pytest.approx(2e-4)
    assert plain.rate_at(0, 0.0) == pytest.approx(5e-3)


def test_the_curve_is_kept_over_kills(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        fit("broken", monkeypatch, kill_at=KILLED_AT, save_always=True)
    fit("broken", monkeypatch, save_always=True)
    rows = [line.split(",") for line in (tmp_path / "broken" / "curve.csv").read_text().splitlines()]
    assert rows[0] == ["step", "minutes", "name", "value"]
    assert [int(row[0]) for row in rows[1:] if row[2] == "loss"] == list(range(1, 13))
    assert [int(row[0]) for row in rows[1:] if row[2] == "held-out/error"] == [5, 10, 12]


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


class Forgetful(nn.Module):
    """What a faulty compiler makes of a layer: the same output, no gradient."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        with torch.set_grad_enabled(not torch.compiler.is_compiling()):
            return self.inner(x)


@pytest.mark.parametrize(("part", "trusted"), [(nn.Linear(8, 8), True), (Forgetful(), False)])
def test_a_module_is_compiled_only_where_its_gradients_stay_what_they_are(part, trusted, capsys):
    module = nn.Sequential(part, nn.SiLU(), nn.Linear(8, 1))
    x = torch.randn(5, 8)
    try:
        compile_checked([part], module, lambda: module(x).square().mean())
        assert ("gradients are wrong" in capsys.readouterr().out) != trusted
        assert all(weight.grad is None for weight in module.parameters())
        module(x).square().mean().backward()
        assert all(weight.grad.abs().sum() > 0 for weight in module.parameters())
    finally:
        torch.compiler.set_stance("default")


def test_parts_of_a_module_learn_at_a_share_of_the_rate_or_not_at_all():
    torch.manual_seed(0)
    module = nn.ModuleDict({"slow": nn.Linear(3, 3), "fast": nn.Linear(3, 3), "still": nn.Linear(3, 3)})
    module["still"].requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def loss_at(step):
        x = torch.randn(4, 3)
        return sum(part(x).square().mean() for part in module.values()), {}

    made = recipe("shares", steps=1, optimiser="muon", shares={"slow.": 0.1})
    loop.Training(made, module).advance(loss_at)
    moved = {name: (value - before[name]).norm() for name, value in module.state_dict().items()}
    assert moved["still.weight"] == moved["still.bias"] == 0
    for kind in ("weight", "bias"):  # Muon's and AdamW's
        assert moved[f"slow.{kind}"] / moved[f"fast.{kind}"] == pytest.approx(0.1, rel=0.1)
