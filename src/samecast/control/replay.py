"""Real photos as the sources of a stock pipeline: inverted once, and read from memory at each step."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from PIL import Image

from samecast.backbones.base import Backbone
from samecast.control.plan import Plan
from samecast.control.run import Run
from samecast.control.session import Session
from samecast.control.source import Trajectory, invert_references
from samecast.core.branches import Branches
from samecast.core.ddim import Schedule


def trace_photos(
    backbone: Backbone,
    session: Session,
    schedule: Schedule,
    plan: Plan,
    branches: Branches,
    photos: Sequence[Image.Image],
) -> Trajectory:
    """Inverts photos and keeps what is read of them at every controlled step.

    Matched inversion never evaluates the first step's input, where our own loop would take the sources into the batch;
    a stock pipeline's batch is closed, so that step is evaluated here.

    Args:
        backbone: the pipeline.
        session: attached to it.
        schedule: its noise levels, from the first step that it runs.
        plan: who reads whom.
        branches: whose sources the photos are.
        photos: square, of the size of the pictures.
    """
    run = Run(backbone, session, schedule, plan, {"": backbone.encode_prompts([""])[0]})
    alone = Branches((), branches.sources, branches.guidance_scale)
    encoded = torch.stack([backbone.encode_image(photo) for photo in photos])
    trajectory = invert_references(run, alone, encoded, pairing="matched", advance=lambda: None)
    keep = plan.source_sites_at(0)
    if not keep:
        return trajectory
    layout = alone.layout(targets=())
    at_hand = dict(zip(alone.sources, trajectory.latents[0], strict=True))
    _, states = run.evaluate(layout, at_hand, schedule.timesteps[0], keep=keep)
    return replace(trajectory, kept={**trajectory.kept, 0: states})
