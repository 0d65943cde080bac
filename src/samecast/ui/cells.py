"""Rules as a picture: which layers read the photo at which steps, and rules of what was clicked there."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, cast

from samecast.attention.methods import masactrl
from samecast.attention.rule import Rule, Rules
from samecast.core.steps import Steps
from samecast.errors import SamecastError

MOST_LAYERS, MOST_STEPS = 200, 200


def cells_of(rules: Rules, layers: Sequence[Any], steps: int) -> list[str]:
    """A line for each layer with a character for each step: 1 where a rule acts.

    Args:
        rules: what acts.
        layers: the model's self-attention layers.
        steps: of the run.

    Raises:
        SamecastError: a rule selects no layer or step of these.
    """
    from samecast.attention.plan import select_rule_layers

    lit = [[False] * steps for _ in layers]
    for rule in rules:
        at = rule.steps.select(steps)
        for layer in select_rule_layers(rule, layers):
            for step in at:
                lit[layer.index][step] = True
    return ["".join("01"[each] for each in row) for row in lit]


def rules_of_cells(value: Any, base: Rules) -> Rules:
    """The rules of clicked cells: one for each set of steps, in the attention mode of a method.

    Args:
        value: of the widget, as it came from the browser.
        base: the method's own rules; the first says what is read and how. None of them is MasaCtrl's.

    Raises:
        SamecastError: the value is no such picture.
    """
    given: Any = cast(Mapping[str, Any], value).get("on") if isinstance(value, Mapping) else None
    rows: list[Any] = given if isinstance(given, list) else []
    if not 0 < len(rows) <= MOST_LAYERS or not all(
        isinstance(row, str) and len(row) <= MOST_STEPS and set(row) <= {"0", "1"} for row in rows
    ):
        raise SamecastError("the picture of layers and steps cannot be read: choose the method again")
    like: Rule = (base or masactrl())[0]
    found: list[Rule] = []
    lit = [(row, layer) for layer, row in enumerate(rows) if "1" in row]
    for row, group in groupby(sorted(lit), key=lambda pair: pair[0]):
        layers = ",".join(str(layer) for _, layer in group)
        found.append(replace(like, layers=layers, steps=_steps(row)))
    return tuple(found)


def _steps(row: str) -> Steps:
    at = tuple(step for step, each in enumerate(row) if each == "1")
    return Steps(at[0], at[-1]) if at[-1] - at[0] == len(at) - 1 else Steps(only=at)
