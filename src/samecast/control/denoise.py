"""The denoising loop: targets move, the source is replayed, rules act."""

from jaxtyping import Float
from torch import Tensor

from samecast.control.plan import Masks
from samecast.control.run import Advance, Run
from samecast.control.source import Trajectory
from samecast.core import ddim
from samecast.core.branches import Branches


def denoise_targets(
    run: Run,
    branches: Branches,
    start: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    *,
    same_start: bool,
    masks: Masks | None = None,
    advance: Advance,
) -> Float[Tensor, "target channel height width"]:
    """Denoises one batch of targets.

    At a step where a source is read but was not kept (the first one after matched inversion, all after MasaCtrl's
    pairing) its rows join the batch, on the replayed latent.

    Args:
        run: the render's fixed parts.
        branches: the targets, and the sources they may read.
        start: where each target starts.
        trajectory: the sources'; None where nobody reads one.
        same_start: whether the targets start from the very latent that the source starts from.
        masks: where rules ask for them, of every branch.
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
        routes = plan.routes(step, branches, layout, kept_rows, masks)
        prediction, _ = run.evaluate(layout, at_hand, schedule.timesteps[step], routes=routes, kept=kept)
        latents = ddim.denoise(latents, branches.guide(layout, prediction, branches.targets), schedule, step)
        advance()
    return latents
