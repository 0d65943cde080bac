"""The denoising loop: targets move, the source is replayed, rules act."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from samecast.attention.plan import Masks
from samecast.core import ddim
from samecast.core.batch import Branch, Branches, Place
from samecast.engine.attention_store import AttentionStore
from samecast.engine.run import Advance, Run
from samecast.engine.source import Trajectory


def denoise_targets(
    run: Run,
    branches: Branches,
    start: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    *,
    same_start: bool,
    masks: Masks | None = None,
    store: AttentionStore | None = None,
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
        store: where rules find masks by looking: holds the sources' maps, and gathers the targets'.
        advance: called after each evaluated step.
    """
    latents, plan = start, run.plan
    for step in run.schedule.working_steps:
        # What is known before this step: its own maps are not made yet.
        known = {**(masks or {}), **(store.masks() if store is not None and step in plan.acting else {})}
        mapped = branches.targets if store is not None and store.wanted_at(step) else ()
        latents, maps = denoise_step(
            run, branches, latents, trajectory, step, same_start=same_start, masks=known, mapped=mapped
        )
        run.check(latents)
        for target, seen in maps.items():
            if store is not None:
                store.add(step, target, target.prompt, seen)
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
    mapped: Sequence[Branch] = (),
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
        mapped: targets whose cross-attention maps are wanted.

    Returns:
        The targets' latents after the step; and for those looked at, their maps by layer.
    """
    schedule, plan = run.schedule, run.plan
    at_hand = dict(zip(branches.targets, latents, strict=True))
    kept = None if trajectory is None else trajectory.kept.get(step)
    live = kept is None and bool(plan.source_layers_at(step))
    # With several sources, or rules that do more than read the one, no target's row is a source's.
    same_latent = same_start and step == 0 and len(branches.sources) == 1 and plan.merges_at(step)
    layout = branches.layout(sources=None if live else (), same_latent=same_latent)
    if trajectory is not None:
        at_hand |= dict(zip(trajectory.sources, trajectory.latents[step], strict=True))
    kept_rows = {} if trajectory is None or kept is None else trajectory.kept_rows
    routes = plan.routes(step, branches, layout, kept_rows, masks)
    map_rows = [layout.row_of[Place(target, "conditional")] for target in mapped]
    maps: dict[int, Tensor] = {}
    prediction, _ = run.evaluate(
        layout, at_hand, schedule.timesteps[step], routes=routes, kept=kept, map_rows=map_rows, maps=maps
    )
    seen = {target: {layer: values[row] for layer, values in maps.items()} for row, target in enumerate(mapped)}
    return ddim.denoise(latents, branches.guide(layout, prediction, branches.targets), schedule, step), seen
