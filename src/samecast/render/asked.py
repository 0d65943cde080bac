"""How a call of `Model.render` says its settings: an object, diffusers' arguments beside it, and generators."""

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, cast, get_args

import torch

from samecast.checked import shown
from samecast.core.settings import RENAMED, RenderSettings
from samecast.errors import SamecastError, SamecastWarning
from samecast.render.result import OutputType

Generators = torch.Generator | Sequence[torch.Generator]


def settings_of(
    settings: RenderSettings | None, changes: Mapping[str, Any], generator: Generators | None
) -> RenderSettings:
    """The settings of a call.

    Args:
        settings: as an object; None is the defaults.
        changes: fields of it by name.
        generator: whose seed is taken; of several one for each picture.

    Raises:
        SamecastError: there is no such setting, its value is refused, or a seed is told twice.
    """
    known = [field.name for field in fields(RenderSettings)]
    for name in changes:
        if name in RENAMED:
            now = RENAMED[name]
            raise SamecastError(f"{name} is called {now if isinstance(now, str) else ' and '.join(now)} now")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise SamecastError(f"render has no setting {name!r}; {hint}")
    asked = replace(settings or RenderSettings(), **changes)
    if generator is None:
        return asked
    if asked.seed is not None:
        raise SamecastError("a seed and a generator are given: leave one of them out")
    return replace(asked, seed=_seed(generator))


def output_type_of(asked: object) -> OutputType:
    """The form of the result's pictures.

    Raises:
        SamecastError: there is no such form.
    """
    for known in get_args(OutputType):
        if asked == known:
            return known
    raise SamecastError(f"output_type must be {', '.join(get_args(OutputType))}; got {shown(asked)}")


def _seed(generator: object) -> int | tuple[int, ...]:
    if isinstance(generator, torch.Generator):
        return _initial(generator)
    several = cast(Sequence[object], generator if isinstance(generator, list | tuple) else ())
    seeds = tuple(_initial(each) for each in several if isinstance(each, torch.Generator))
    if not seeds or len(seeds) < len(several):
        raise SamecastError(f"generator must be a torch.Generator, or a list of them; got {shown(generator)}")
    return seeds


def _initial(generator: torch.Generator) -> int:
    """The seed that a generator was made with; its state is neither used nor changed."""
    seed = generator.initial_seed()
    fresh = torch.Generator(generator.device).manual_seed(seed)
    if not torch.equal(fresh.get_state(), generator.get_state()):
        warnings.warn(
            f"the generator has been drawn from already; render starts again from its seed {seed}",
            SamecastWarning,
            stacklevel=4,
        )
    return seed
