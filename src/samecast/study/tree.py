"""Shared prefixes: runs are computed once as long as their control histories agree.

A run's *history* is what control does at each working step. Two runs with the same initial latent, prompt and history
so far have the same latent, so that one evaluation serves both: runs form a tree, and the number of evaluations is that
of its nodes. The AIKU grid's 42 distinct runs of 50 steps have 1,474 nodes instead of 2,100.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from samecast.attention.plan import Plan
from samecast.attention.rule import Rule, Rules
from samecast.core.steps import Steps

Action = tuple[tuple[int, frozenset[Rule]], ...]
"""What control does at one step: the acts at each controlled layer, by its index."""

_Run = TypeVar("_Run", bound=Hashable)


def action_at(plan: Plan, step: int) -> Action:
    """What a run's rules do at a step, in a form that compares equal for equal effects.

    A rule's other layers and steps do not matter: only its sources, targets and mode are kept.
    """
    at_step = plan.acting.get(step, {})
    return tuple((layer, _acts(at_step[layer])) for layer in sorted(at_step))


@cache
def _acts(rules: Rules) -> frozenset[Rule]:
    return frozenset(replace(rule, layers="all", steps=Steps()) for rule in rules)


def history(plan: Plan, steps: Sequence[int]) -> tuple[Action, ...]:
    """What a run's rules do at each of several steps."""
    return tuple(action_at(plan, step) for step in steps)


def split(runs: Sequence[_Run], actions: Mapping[_Run, Action]) -> tuple[tuple[_Run, ...], ...]:
    """The runs of one node split into those of its children, by what the rules do, in order."""
    parts: dict[Action, list[_Run]] = {}
    for run in runs:
        parts.setdefault(actions[run], []).append(run)
    return tuple(tuple(part) for part in parts.values())


@dataclass(frozen=True)
class Size:
    """The size of a tree.

    Args:
        runs: number of requested runs.
        distinct: number of distinct histories among them, the leaves.
        nodes: number of steps to compute, each for one branch.
        widths: number of nodes at each working step.
    """

    runs: int
    distinct: int
    nodes: int
    widths: tuple[int, ...]

    @property
    def widest(self) -> int:
        """Largest number of nodes at one step."""
        return max(self.widths, default=0)

    @property
    def deepest(self) -> int:
        """Number of working steps of one run."""
        return len(self.widths)


def measure(histories: Sequence[Sequence[Hashable]]) -> Size:
    """The size of the tree of some runs with the same initial latent and prompt."""
    deepest = len(histories[0]) if histories else 0
    names = [0] * len(histories)
    widths: list[int] = []
    for step in range(deepest):
        # A node is identified by its parent and what is done at it.
        children: dict[tuple[int, Hashable], int] = {}
        names = [
            children.setdefault((name, data[step]), len(children)) for name, data in zip(names, histories, strict=True)
        ]
        widths.append(len(children))
    return Size(len(histories), widths[-1] if widths else 0, sum(widths), tuple(widths))
