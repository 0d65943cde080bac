"""The denoising loop: targets move, the source is replayed, rules act."""

from jaxtyping import Float
from torch import Tensor

from samecast.control.looking import MapBook
from samecast.control.plan import Masks
from samecast.control.run import Advance, Run
from samecast.control.source import Trajectory
from samecast.core import ddim
from samecast.core.branches import Branches, Place


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
    latents, schedule, plan = start, run.schedule, run.plan
    for step in schedule.working_steps:
        at_hand = dict(zip(branches.targets, latents, strict=True))
        kept = None if trajectory is None else trajectory.kept.get(step)
        live = kept is None and bool(plan.source_sites_at(step))
        # With several sources, or rules that do more than read the one, no target's row is a source's.
        same_latent = same_start and step == 0 and len(branches.sources) == 1 and plan.merges_at(step)
        layout = branches.layout(sources=None if live else (), same_latent=same_latent)
        if trajectory is not None:
            at_hand |= dict(zip(trajectory.sources, trajectory.latents[step], strict=True))
        kept_rows = {} if trajectory is None or kept is None else trajectory.kept_rows
        # What is known before this step: its own maps are not made yet.
        known = {**(masks or {}), **(book.masks() if book is not None and step in plan.acting else {})}
        routes = plan.routes(step, branches, layout, kept_rows, known)
        looking = book is not None and book.wanted_at(step)
        map_rows = [layout.row_of[Place(target, "conditional")] for target in branches.targets] if looking else []
        maps: dict[int, Tensor] = {}
        prediction, _ = run.evaluate(
            layout, at_hand, schedule.timesteps[step], routes=routes, kept=kept, map_rows=map_rows, maps=maps
        )
        if book is not None and looking:
            for row, target in enumerate(branches.targets):
                book.add(step, target, target.prompt, {site: values[row] for site, values in maps.items()})
        latents = ddim.denoise(latents, branches.guide(layout, prediction, branches.targets), schedule, step)
        advance()
    return latents
