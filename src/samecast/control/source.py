"""The source: a photo inverted, or a picture generated, once; and all that targets will read of it.

Inversion with matched pairing runs the denoiser on exactly the latents and timesteps that a source branch would have in
denoising, where it replays the inversion latent by latent. So what the controlled sites need of the source, the normed
hidden state that enters their key and value projections (half the size of both), is kept from those very evaluations, and
the source costs nothing more. Its latent ends bit-identical to the encoded reference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.backbones.base import Backbone
from samecast.control.plan import Plan
from samecast.control.session import Session
from samecast.core import ddim
from samecast.core.branches import Branch, Branches, Group, Place
from samecast.core.ddim import Schedule
from samecast.core.settings import Pairing

Advance = Callable[[], None]


@dataclass(frozen=True)
class Trajectory:
    """A source's way through the noise levels.

    Args:
        branch: the source.
        latents: level j is the input of step j; the last level is the clean end.
        kept: for each step at which it was kept, by site index, the states entering the site: (kept row, token, channel).
        kept_rows: the row among the kept rows at which each place is found.
    """

    branch: Branch
    latents: Float[Tensor, "level channel height width"]
    kept: Mapping[int, Mapping[int, Tensor]]
    kept_rows: Mapping[Place, int]

    @property
    def clean(self) -> Float[Tensor, "channel height width"]:
        return self.latents[-1]


def invert_reference(
    backbone: Backbone,
    session: Session,
    schedule: Schedule,
    plan: Plan,
    branches: Branches,
    embeddings: Mapping[str, Float[Tensor, "token channel_text"]],
    reference: Float[Tensor, "channel height width"],
    *,
    pairing: Pairing,
    advance: Advance,
) -> Trajectory:
    """Inverts an encoded photo, without guidance, under its caption.

    Args:
        reference: the photo's latent.
        pairing: under `masactrl` the evaluations are not those of a source pass, and nothing is kept.
        advance: called after each evaluated step.
    """
    source = branches.sources[0]
    levels = [reference]
    kept: dict[int, Mapping[int, Tensor]] = {}
    all_rows = branches.layout(targets=())
    for step in reversed(range(schedule.steps)):
        if schedule.is_identity(step):
            levels.append(levels[-1])
            continue
        # Matched: the latent we are on is the input of the step after this one.
        evaluated = step + 1 if pairing == "matched" else step
        keep = (
            plan.sites_at(evaluated) if pairing == "matched" and plan.reads_source_at(evaluated) else frozenset[int]()
        )
        groups: tuple[Group, ...] = branches.groups if keep else ("conditional",)
        layout = branches.layout(targets=(), sources=groups)
        with session.call(keep=keep) as states:
            prediction = backbone.predict(
                layout.stack({source: levels[-1]}),
                schedule.evaluated_timestep(evaluated),
                torch.stack([embeddings[text] for text in layout.texts]),
            )
            if keep:
                kept[evaluated] = dict(states)
        conditional = layout.gather(prediction, [source], "conditional")
        levels.append(ddim.invert(levels[-1][None], conditional, schedule, step)[0])
        advance()
    return Trajectory(source, torch.stack(levels[::-1]), kept, all_rows.row_of)


def generate_source(
    backbone: Backbone,
    session: Session,
    schedule: Schedule,
    plan: Plan,
    branches: Branches,
    embeddings: Mapping[str, Float[Tensor, "token channel_text"]],
    noise: Float[Tensor, "channel height width"],
    *,
    advance: Advance,
) -> Trajectory:
    """Generates the source from its prompt, with guidance, keeping what the targets will read.

    Args:
        noise: where it starts, and where targets may start too.
        advance: called after each evaluated step.
    """
    source = branches.sources[0]
    layout = branches.layout(targets=())
    text = torch.stack([embeddings[text] for text in layout.texts])
    levels = [noise]
    kept: dict[int, Mapping[int, Tensor]] = {}
    for step in range(schedule.steps):
        if schedule.is_identity(step):
            levels.append(levels[-1])
            continue
        keep = plan.sites_at(step) if plan.reads_source_at(step) else frozenset[int]()
        with session.call(keep=keep) as states:
            prediction = backbone.predict(layout.stack({source: levels[-1]}), schedule.timesteps[step], text)
            if keep:
                kept[step] = dict(states)
        guided = branches.guide(layout, prediction, [source])
        levels.append(ddim.denoise(levels[-1][None], guided, schedule, step)[0])
        advance()
    return Trajectory(source, torch.stack(levels), kept, layout.row_of)
