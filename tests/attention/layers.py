"""A real diffusers layer under a route, through the seam alone."""

from typing import Any

import torch
from torch import Tensor

from samecast.attention.attend import States
from samecast.attention.modes.base import Part
from samecast.attention.route import Route
from samecast.attention.seam import Catch, Task
from samecast.core.layers import Layer

LAYER = Layer("up.8", 15, "self", "up", 4, 3)
PARTS: frozenset[Part] = frozenset(("query", "key", "value", "hidden"))


def states_of(module: Any, hidden: Tensor) -> States:
    """All that can be kept of rows."""
    with Catch(LAYER, Task(keep=PARTS), hidden) as catch:
        module(hidden)
    return catch.outcome.states


def attend(module: Any, hidden: Tensor, kept: Tensor | None, route: Route) -> Tensor:
    """The output of the layer, given what enters it, what entered it in kept rows, and a route."""
    memory = {} if kept is None else states_of(module, kept)
    with Catch(LAYER, Task(route, memory), hidden) as catch:
        output = module(hidden)
    catch.check(module)
    assert isinstance(output, torch.Tensor)
    return output
