"""The sources of a render: photos inverted, in chunks that memory allows, or a picture generated."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.core.batch import Branch, Branches
from samecast.core.noise import seeded_noise
from samecast.core.settings import RenderSettings
from samecast.engine.attention_store import AttentionStore
from samecast.engine.prepare import kept_steps
from samecast.engine.run import Advance, Run
from samecast.engine.source import (
    Level,
    Note,
    Trajectory,
    generate_sources,
    invert_references,
    join_trajectories,
    mix_references,
)
from samecast.engine.targets import split_evenly
from samecast.render.result import Progress

Counter = Callable[[str, int], Advance]
"""Given a stage and how many passes it takes, what is to be called after each step of these."""


def make_counter(progress: Progress | None, run: Run) -> Counter:
    """Counts evaluated steps, and tells `progress`."""

    def counter(stage: str, rounds: int) -> Advance:
        done, total = count(1), rounds * len(run.schedule.working_steps)

        def advance() -> None:
            if progress is not None:
                progress(stage, next(done), total)

        return advance

    return counter


def invert(
    run: Run,
    sources: Sequence[Branch],
    encoded: Float[Tensor, "source channel height width"],
    settings: RenderSettings,
    *,
    rows: int,
    counter: Counter,
    store: AttentionStore | None = None,
    begun: Sequence[Level] = (),
    note: Note | None = None,
) -> Trajectory:
    """Inverts photos, however many, and denoises them freely where they are not replayed.

    Args:
        run: the render's fixed parts.
        sources: one for each photo.
        encoded: their latents.
        settings: how to invert.
        rows: most in one call of the denoiser.
        counter: as for `generate`.
        store: takes the maps of the sources' own evaluations, where their caption has the words.
        begun: what was noted of it before it was interrupted, if that took one batch.
        note: called after each step, if all go in one batch.
    """
    # Where states are kept, a photo with a caption has a row without it beside it.
    if settings.pairing == "straight":
        return _mixed(run, sources, encoded, settings, rows=rows, counter=counter, store=store)
    assert settings.pairing is not None  # the settings of a run are settled
    keeps = any(run.keeps_at(step) for step in kept_steps(settings)) or not settings.replay
    of_one = len(Branches((), (sources[0],), settings.guidance if keeps else 1.0).layout(targets=()).rows)
    chunks = split_evenly(sources, max(1, rows // of_one))
    advance = counter("invert", len(chunks) * (1 if settings.replay else 2))
    parts: list[Trajectory] = []
    for chunk in chunks:
        branches = Branches((), chunk, settings.guidance)
        latents = encoded[[branch.index for branch in chunk]]
        inverted = invert_references(
            run,
            branches,
            latents,
            pairing=settings.pairing,
            keeps=settings.replay,
            fixed_point=settings.fixed_point,
            store=store if settings.replay else None,
            begun=begun if len(chunks) == 1 else (),
            note=note if len(chunks) == 1 else None,
            advance=advance,
        )
        if not settings.replay:
            branches = replace(branches, guidance_rescale=settings.guidance_rescale)
            inverted = generate_sources(run, branches, inverted.latents[0], store=store, advance=advance)
        parts.append(inverted)
    return join_trajectories(parts)


def _mixed(
    run: Run,
    sources: Sequence[Branch],
    encoded: Float[Tensor, "source channel height width"],
    settings: RenderSettings,
    *,
    rows: int,
    counter: Counter,
    store: AttentionStore | None,
) -> Trajectory:
    """Photos mixed with noise; reference n has the seed after that of reference n - 1."""
    of_one = len(Branches((), (sources[0],), settings.guidance).layout(targets=()).rows)
    chunks = split_evenly(sources, max(1, rows // of_one))
    advance = counter("mix", len(chunks))
    parts: list[Trajectory] = []
    for chunk in chunks:
        latents = encoded[[branch.index for branch in chunk]]
        shape = (latents.shape[1], latents.shape[2], latents.shape[3])
        noise = torch.stack([seeded_noise(shape, settings.first_seed + branch.index) for branch in chunk])
        branches = Branches((), chunk, settings.guidance)
        parts.append(mix_references(run, branches, latents, noise.to(latents), store=store, advance=advance))
    return join_trajectories(parts)


def generate(
    run: Run,
    source: Branch,
    settings: RenderSettings,
    shape: tuple[int, int, int],
    *,
    counter: Counter,
    store: AttentionStore | None = None,
) -> Trajectory:
    """Generates the source from its prompt.

    Args:
        run: the render's fixed parts.
        source: what is to be generated.
        settings: how; the seed is that of its noise.
        shape: (channel, height, width) of a latent.
        counter: told how far the work is.
        store: takes the maps of these evaluations, where the prompt has the words.
    """
    branches = Branches((), (source,), settings.guidance, settings.guidance_rescale)
    noise = seeded_noise(shape, settings.first_seed).to(run.backbone.device)
    return generate_sources(run, branches, noise[None], store=store, advance=counter("source", 1))
