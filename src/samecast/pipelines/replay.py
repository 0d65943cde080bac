"""Real photos as the sources of a stock pipeline: inverted once, and read from memory at each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from samecast.attention.attend import States
from samecast.attention.plan import Plan
from samecast.attention.session import Session
from samecast.core.batch import Branch, Branches, Place
from samecast.core.ddim import Schedule
from samecast.engine.attention_store import AttentionStore, MapSpec, map_sources
from samecast.engine.memory import plan_memory
from samecast.engine.run import Run
from samecast.engine.source import Trajectory, invert_references
from samecast.models.base import Backbone


@dataclass(frozen=True)
class Replay:
    """Photos, inverted for the calls of one pipeline.

    Args:
        run: the fixed parts of their own evaluations.
        branches: the photos alone.
        trajectory: their way through the noise levels, with what is kept of it.
        store: their maps, where rules look for the subject.
    """

    run: Run
    branches: Branches
    trajectory: Trajectory
    store: AttentionStore | None

    @property
    def kept_rows(self) -> Mapping[Place, int]:
        """The row among the states at which each photo is found."""
        return self.trajectory.kept_rows

    def states_at(self, step: int) -> Mapping[int, States]:
        """What is read of the photos at a step, by layer: kept, or, where memory did not allow that, computed again."""
        kept = self.trajectory.kept.get(step)
        return self.evaluate(step) if kept is None else kept

    def evaluate(self, step: int) -> Mapping[int, States]:
        """What is read of the photos at a step, by a call of the denoiser for them alone; nothing if nobody reads."""
        keep = self.run.plan.kept_parts_at(step)
        if not keep:
            return {}
        at_hand = dict(zip(self.branches.sources, self.trajectory.latents[step], strict=True))
        layout = self.branches.layout(targets=())
        _, states = self.run.evaluate(layout, at_hand, self.run.schedule.timesteps[step], keep=keep)
        return states


def trace_photos(
    backbone: Backbone,
    session: Session,
    schedule: Schedule,
    plan: Plan,
    sources: tuple[Branch, ...],
    photos: Sequence[Image.Image],
    *,
    guidance_scale: float,
    memory: float | None,
    map_specs: Sequence[MapSpec],
    caption: str,
) -> Replay:
    """Inverts photos and keeps what is read of them at every controlled step, as far as memory allows.

    Matched inversion never evaluates the first step's input, where our own loop would take the sources into the batch;
    a stock pipeline's batch is closed, so that step is evaluated here.

    Args:
        backbone: the pipeline.
        session: attached to it.
        schedule: its noise levels, from the first step that it runs.
        plan: who reads whom.
        sources: one branch for each photo.
        photos: square, of the size of the pictures.
        guidance_scale: of the targets; at most 1 is without.
        memory: most GiB for what is kept; None is half of what is free.
        map_specs: what rules want to see in the photos' maps.
        caption: under which it is looked for.
    """
    alone = Branches((), sources, guidance_scale)
    keeping = plan_memory(backbone, plan, alone, size=photos[0].width, steps=range(schedule.steps), budget=memory)
    texts = {
        text: backbone.encode_prompts([text])[0] for text in dict.fromkeys(("", *((caption,) if map_specs else ())))
    }
    run = Run(backbone, session, schedule, plan, texts, keeping.recomputed)
    encoded = torch.stack([backbone.encode_image(photo) for photo in photos])
    trajectory = invert_references(run, alone, encoded, pairing="matched", advance=lambda: None)
    store = AttentionStore(map_specs, backbone) if map_specs else None
    if store is not None:
        map_sources(run, store, trajectory, caption, rows=len(sources))
    replay = Replay(run, alone, trajectory, store)
    if not run.keeps_at(0):
        return replay
    return replace(replay, trajectory=replace(trajectory, kept={**trajectory.kept, 0: replay.evaluate(0)}))
