"""Shared prefixes: runs whose control histories agree are one until they part.

A run's *history* is what control does at each working step. Two runs that start from one latent under one prompt and
have agreed so far hold the same latent, so that one evaluation serves both: runs form a tree, and the work is its
nodes, not its leaves. The AIKU grid's 42 distinct runs of 50 steps are 1,474 nodes in place of 2,100.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from samecast.attention.plan import Plan
from samecast.attention.rule import Rule, Rules
from samecast.core.steps import Steps

Action = tuple[tuple[int, frozenset[Rule]], ...]
"""What control does at one step: for each controlled layer's index, the acts there."""

_Run = TypeVar("_Run", bound=Hashable)


def action_at(plan: Plan, step: int) -> Action:
    """What a run's rules do at a step, in a form that is equal where the same is done.

    Where and when a rule acts otherwise does not count: of the rule only who reads whom, and how, is left.
    """
    at_step = plan.acting.get(step, {})
    return tuple((layer, _acts(at_step[layer])) for layer in sorted(at_step))


@cache
def _acts(rules: Rules) -> frozenset[Rule]:
    return frozenset(replace(rule, layers="all", steps=Steps()) for rule in rules)


def history(plan: Plan, steps: Sequence[int]) -> tuple[Action, ...]:
    """What a run's rules do at each of some steps."""
    return tuple(action_at(plan, step) for step in steps)


def split(runs: Sequence[_Run], actions: Mapping[_Run, Action]) -> tuple[tuple[_Run, ...], ...]:
    """The runs of one node as those of its children: parted by what is done to them, in order."""
    parts: dict[Action, list[_Run]] = {}
    for run in runs:
        parts.setdefault(actions[run], []).append(run)
    return tuple(tuple(part) for part in parts.values())


@dataclass(frozen=True)
class Size:
    """How large a tree is.

    Args:
        runs: that were asked for.
        distinct: of these, with histories of their own: the leaves.
        nodes: steps to compute, each for one branch.
        widths: nodes at each working step.
    """

    runs: int
    distinct: int
    nodes: int
    widths: tuple[int, ...]

    @property
    def widest(self) -> int:
        """Most nodes at one step."""
        return max(self.widths, default=0)

    @property
    def deepest(self) -> int:
        """Working steps of one run."""
        return len(self.widths)


def measure(histories: Sequence[Sequence[Hashable]]) -> Size:
    """The size of the tree of some runs, all of one start and prompt."""
    deepest = len(histories[0]) if histories else 0
    names = [0] * len(histories)
    widths: list[int] = []
    for step in range(deepest):
        # A node is known by its parent and what is done at it.
        children: dict[tuple[int, Hashable], int] = {}
        names = [
            children.setdefault((name, data[step]), len(children)) for name, data in zip(names, histories, strict=True)
        ]
        widths.append(len(children))
    return Size(len(histories), widths[-1] if widths else 0, sum(widths), tuple(widths))
