"""The source: a photo inverted, or a picture generated, once; and all that targets will read of it.

Inversion with matched pairing runs the denoiser on exactly the latents and timesteps that a source branch would have in
denoising, where it replays the inversion latent by latent. So what the controlled sites need of the source, the normed
hidden state that enters their key and value projections (half the size of both), is kept from those very evaluations,
and the source costs nothing more. Its latent ends bit-identical to the encoded reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.control.run import Advance, Run
from samecast.core import ddim
from samecast.core.branches import Branch, Branches, Group, Place
from samecast.core.settings import Pairing


@dataclass(frozen=True)
class Trajectory:
    """A source's way through the noise levels.

    Args:
        branch: the source.
        latents: level j is the input of step j; the last level is the clean end.
        kept: for each step at which it was kept, by site index, the states entering it: (row, token, channel).
        kept_rows: the row among the kept rows at which each place is found.
    """

    branch: Branch
    latents: Float[Tensor, "level channel height width"]
    kept: Mapping[int, Mapping[int, Tensor]]
    kept_rows: Mapping[Place, int]

    @property
    def clean(self) -> Float[Tensor, "channel height width"]:
        """The latent that the source ends on."""
        return self.latents[-1]


def invert_reference(
    run: Run,
    branches: Branches,
    reference: Float[Tensor, "channel height width"],
    *,
    pairing: Pairing,
    advance: Advance,
) -> Trajectory:
    """Inverts an encoded photo, without guidance, under its caption.

    Args:
        run: the render's fixed parts.
        branches: whose one source this is.
        reference: the photo's latent.
        pairing: under `masactrl` the evaluations are not those of a source pass, and nothing is kept.
        advance: called after each evaluated step.
    """
    source, schedule = branches.sources[0], run.schedule
    levels = [reference]
    kept: dict[int, Mapping[int, Tensor]] = {}
    for step in reversed(range(schedule.steps)):
        if schedule.is_identity(step):
            levels.append(levels[-1])
            continue
        # Matched: the latent we are on is the input of the step after this one.
        evaluated = step + 1 if pairing == "matched" else step
        keep = run.plan.source_sites_at(evaluated) if pairing == "matched" else frozenset[int]()
        # The caption's row moves the source; the row without is there only for targets' unconditional rows to read.
        groups: tuple[Group, ...] = branches.groups if keep else ("conditional",)
        layout = branches.layout(targets=(), sources=groups)
        timestep = schedule.evaluated_timestep(evaluated)
        prediction, states = run.evaluate(layout, {source: levels[-1]}, timestep, keep=keep)
        if keep:
            kept[evaluated] = states
        conditional = layout.gather(prediction, [source], "conditional")
        levels.append(ddim.invert(levels[-1][None], conditional, schedule, step)[0])
        advance()
    return Trajectory(source, torch.stack(levels[::-1]), kept, branches.layout(targets=()).row_of)


def generate_source(
    run: Run, branches: Branches, noise: Float[Tensor, "channel height width"], *, advance: Advance
) -> Trajectory:
    """Generates the source from its prompt, with guidance, keeping what the targets will read.

    Args:
        run: the render's fixed parts.
        branches: whose one source this is.
        noise: where it starts, and where targets may start too.
        advance: called after each evaluated step.
    """
    source, schedule = branches.sources[0], run.schedule
    layout = branches.layout(targets=())
    levels = [noise]
    kept: dict[int, Mapping[int, Tensor]] = {}
    for step in range(schedule.steps):
        if schedule.is_identity(step):
            levels.append(levels[-1])
            continue
        keep = run.plan.source_sites_at(step)
        prediction, states = run.evaluate(layout, {source: levels[-1]}, schedule.timesteps[step], keep=keep)
        if keep:
            kept[step] = states
        guided = branches.guide(layout, prediction, [source])
        levels.append(ddim.denoise(levels[-1][None], guided, schedule, step)[0])
        advance()
    return Trajectory(source, torch.stack(levels), kept, layout.row_of)
