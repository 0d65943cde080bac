"""The denoising loop: targets move, the source is replayed, rules act."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from samecast.control.looking import MapBook
from samecast.control.plan import Masks
from samecast.control.run import Advance, Run
from samecast.control.source import Trajectory
from samecast.core import ddim
from samecast.core.branches import Branch, Branches, Place


def denoise_targets(
    run: Run,
    branches: Branches,
    start: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    *,
    same_start: bool,
    masks: Masks | None = None,
    book: MapBook | None = None,
    advance: Advance,
) -> Float[Tensor, "target channel height width"]:
    """Denoises one batch of targets.

    At a step where a source is read but was not kept (the first one after matched inversion, all after MasaCtrl's
    pairing, and those that memory did not allow) its rows join the batch, on the replayed latent.

    Args:
        run: the render's fixed parts.
        branches: the targets, and the sources they may read.
        start: where each target starts.
        trajectory: the sources'; None where nobody reads one.
        same_start: whether the targets start from the very latent that the source starts from.
        masks: those that were given.
        book: where rules find masks by looking: holds the sources' maps, and gathers the targets'.
        advance: called after each evaluated step.
    """
    latents, plan = start, run.plan
    for step in run.schedule.working_steps:
        # What is known before this step: its own maps are not made yet.
        known = {**(masks or {}), **(book.masks() if book is not None and step in plan.acting else {})}
        looked_at = branches.targets if book is not None and book.wanted_at(step) else ()
        latents, maps = denoise_step(
            run, branches, latents, trajectory, step, same_start=same_start, masks=known, looked_at=looked_at
        )
        run.check(latents)
        for target, seen in maps.items():
            if book is not None:
                book.add(step, target, target.prompt, seen)
        advance()
    return latents


def denoise_step(
    run: Run,
    branches: Branches,
    latents: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    step: int,
    *,
    same_start: bool,
    masks: Masks,
    looked_at: Sequence[Branch] = (),
) -> tuple[Float[Tensor, "target channel height width"], dict[Branch, dict[int, Tensor]]]:
    """One step of one batch of targets.

    Args:
        run: the render's fixed parts.
        branches: the targets, and the sources they may read.
        latents: of the targets, as the step takes them.
        trajectory: the sources'; None where nobody reads one.
        step: which.
        same_start: whether the targets started from the very latent that the source starts from.
        masks: all that the step's rules ask for.
        looked_at: targets whose cross-attention maps are wanted.

    Returns:
        The targets' latents after the step; and for those looked at, their maps by site.
    """
    schedule, plan = run.schedule, run.plan
    at_hand = dict(zip(branches.targets, latents, strict=True))
    kept = None if trajectory is None else trajectory.kept.get(step)
    live = kept is None and bool(plan.source_sites_at(step))
    # With several sources, or rules that do more than read the one, no target's row is a source's.
    same_latent = same_start and step == 0 and len(branches.sources) == 1 and plan.merges_at(step)
    layout = branches.layout(sources=None if live else (), same_latent=same_latent)
    if trajectory is not None:
        at_hand |= dict(zip(trajectory.sources, trajectory.latents[step], strict=True))
    kept_rows = {} if trajectory is None or kept is None else trajectory.kept_rows
    routes = plan.routes(step, branches, layout, kept_rows, masks)
    map_rows = [layout.row_of[Place(target, "conditional")] for target in looked_at]
    maps: dict[int, Tensor] = {}
    prediction, _ = run.evaluate(
        layout, at_hand, schedule.timesteps[step], routes=routes, kept=kept, map_rows=map_rows, maps=maps
    )
    seen = {target: {site: values[row] for site, values in maps.items()} for row, target in enumerate(looked_at)}
    return ddim.denoise(latents, branches.guide(layout, prediction, branches.targets), schedule, step), seen
