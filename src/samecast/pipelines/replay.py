"""Real photos as the sources of a stock pipeline: inverted once, and read from memory at each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from samecast.attention.attend import States
from samecast.core.batch import Branches, Place
from samecast.core.noise import seeded_noise
from samecast.engine.attention_store import AttentionStore
from samecast.engine.map_passes import map_sources
from samecast.engine.prepare import Prepared
from samecast.engine.run import Run
from samecast.engine.source import Trajectory, encode_photos, invert_references, mix_references


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


def trace_photos(prepared: Prepared, photos: Sequence[Image.Image], branches: Branches) -> Replay:
    """Inverts photos and keeps what is read of them at every controlled step, as far as memory allows. For models
    distilled to a few steps photos are mixed with noise instead.

    Matched inversion never evaluates the first step's input, where our own loop would take the sources into the batch;
    a stock pipeline's batch is closed, so that step is evaluated here.

    Args:
        prepared: the set-up, whose session is attached to the pipeline.
        photos: of the size of the pictures.
        branches: one source for each photo, and no targets.
    """
    run, store = prepared.run, prepared.store()
    encoded = encode_photos(run.backbone, photos)
    if run.backbone.default_pairing == "straight":
        channels, height, width = encoded.shape[1:]
        noise = torch.stack([seeded_noise((channels, height, width), branch.index) for branch in branches.sources])
        trajectory = mix_references(run, branches, encoded, noise.to(encoded), advance=lambda: None)
    else:
        trajectory = invert_references(run, branches, encoded, pairing="matched", advance=lambda: None)
    if store is not None:
        map_sources(run, store, trajectory, prepared.caption, captions=prepared.captions, rows=len(photos))
    replay = Replay(run, branches, trajectory, store)
    if not run.keeps_at(0) or 0 in trajectory.kept:
        return replay
    return replace(replay, trajectory=replace(trajectory, kept={**trajectory.kept, 0: replay.evaluate(0)}))
