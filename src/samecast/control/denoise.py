"""The denoising loop: targets move, the source is replayed, rules act."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.backbones.base import Backbone
from samecast.control.plan import Plan
from samecast.control.session import Session
from samecast.control.source import Advance, Trajectory
from samecast.core import ddim
from samecast.core.branches import Branches
from samecast.core.ddim import Schedule


def denoise_targets(
    backbone: Backbone,
    session: Session,
    schedule: Schedule,
    plan: Plan,
    branches: Branches,
    embeddings: Mapping[str, Float[Tensor, "token channel_text"]],
    start: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    *,
    same_start: bool,
    advance: Advance,
) -> Float[Tensor, "target channel height width"]:
    """Denoises one batch of targets.

    At a step where a source is read but was not kept (the first one after matched inversion, all after MasaCtrl's
    pairing) its rows join the batch, on the replayed latent.

    Args:
        start: where each target starts.
        trajectory: the source; None where nobody reads one.
        same_start: whether the targets start from the very latent that the source starts from.
        advance: called after each evaluated step.
    """
    latents = start
    for step in schedule.working_steps:
        kept = trajectory.kept.get(step) if trajectory is not None else None
        live = trajectory is not None and kept is None and plan.reads_source_at(step)
        layout = branches.layout(sources=None if live else (), same_latent=same_start and step == 0)
        at_hand = dict(zip(branches.targets, latents, strict=True))
        if live and trajectory is not None:
            at_hand[trajectory.branch] = trajectory.latents[step]
        kept_rows = trajectory.kept_rows if trajectory is not None and kept is not None else {}
        with session.call(routes=plan.routes(step, branches, layout, kept_rows), kept=kept):
            prediction = backbone.predict(
                layout.stack(at_hand),
                schedule.timesteps[step],
                torch.stack([embeddings[text] for text in layout.texts]),
            )
        latents = ddim.denoise(latents, branches.guide(layout, prediction, branches.targets), schedule, step)
        advance()
    return latents
