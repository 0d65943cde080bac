"""The denoising loop, as a generator of its states: targets move, the source is replayed, rules act.

Whoever runs the loop sees each state, may put other latents in the place of its own, and ends it where it likes:
rendering, a caller's callback, checkpoints and previews all read the same states.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.attention.plan import Masks, Plan
from samecast.core import ddim
from samecast.core.batch import Branch, Branches, Place
from samecast.engine.attention_store import AttentionStore
from samecast.engine.map_passes import map_targets
from samecast.engine.preview import preview
from samecast.engine.run import Advance, Run
from samecast.engine.source import Trajectory
from samecast.errors import SamecastError

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, eq=False)
class State:
    """One batch of pictures after one step.

    Args:
        run: model and schedule.
        branches: whose pictures these are.
        step: that was taken, from 0.
        latents: after it.
        before: latents that the step took.
        prediction: of the denoiser on these, guided.
        maps: cross-attention maps of the step by layer, of those pictures whose maps were wanted.
    """

    run: Run
    branches: tuple[Branch, ...]
    step: int
    latents: Float[Tensor, "target channel height width"]
    before: Float[Tensor, "target channel height width"]
    prediction: Float[Tensor, "target channel height width"]
    maps: Mapping[Branch, Mapping[int, Tensor]] = field(default_factory=dict[Branch, Mapping[int, Tensor]])

    @property
    def timestep(self) -> int | float:
        """At which the step was evaluated."""
        return self.run.schedule.timesteps[self.step]

    @property
    def clean(self) -> Float[Tensor, "target channel height width"]:
        """x0: the pictures' latents as the denoiser sees them at this step."""
        return ddim.clean_part(self.before, self.prediction, self.run.schedule, self.step)

    def preview(self) -> list[Image.Image]:
        """What the pictures are going to be, as RGB pictures of their size with the detail of the latents.

        That is `clean` under one linear map from a latent's channels to colours; see `samecast.engine.preview`.
        """
        return preview(self.run.backbone, self.clean)


States = Generator[State, Tensor | None, Outcome]
"""States one after another. What is sent takes the place of the state's latents; what is returned is what all came to.
Closing it ends the work, and takes all control off the model."""


def outcome(states: Generator[State, Any, Outcome]) -> Outcome:
    """What states come to, run to the end."""
    while True:
        try:
            next(states)
        except StopIteration as end:
            return end.value


def never() -> bool:
    """Nobody asks to stop."""
    return False


def denoise_targets(
    run: Run,
    branches: Branches,
    start: Float[Tensor, "target channel height width"],
    trajectory: Trajectory | None,
    *,
    same_start: bool,
    masks: Masks | None = None,
    store: AttentionStore | None = None,
    stop: Callable[[], bool] = never,
    advance: Advance,
) -> States[Tensor]:
    """Denoises one batch of targets, step by step.

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
        stop: asked after each step whether to leave out the rest.
        advance: called after each evaluated step.

    Yields:
        The state after each step that changes anything; latents of its shape may be sent in place of its own.

    Raises:
        SamecastError: latents become NaN or infinite, or what is sent is no tensor of their shape.

    Returns:
        The latents (target, channel, height, width) of the last step that was taken.
    """
    latents, plan = start, run.plan
    for step in run.schedule.working_steps:
        # What is known before this step: its own maps are not made yet.
        known = {**(masks or {}), **(store.masks(step) if store is not None and step in plan.acting else {})}
        if store is not None and store.is_current_at(step):
            map_targets(run, store, branches.targets, latents, step)
            known |= {key: mask for key, mask in store.masks(step).items() if key not in known}
        wanted = store is not None and store.wanted_at(step)
        mapped = [target for target in branches.targets if wanted and store is not None and not store.has(step, target)]
        state = denoise_step(
            run, branches, latents, trajectory, step, same_start=same_start, masks=known, mapped=mapped
        )
        run.check(state.latents)
        for target, seen in state.maps.items():
            if store is not None:
                store.add(step, target, target.prompt, seen)
        advance()
        replaced = yield state
        latents = state.latents if replaced is None else _replacement(replaced, state.latents)
        if stop():
            break
    return latents


def _replacement(given: Any, latents: Tensor) -> Tensor:
    """What a caller put in the place of latents, in their precision and on their device."""
    if not isinstance(given, Tensor) or given.shape != latents.shape:
        came = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise SamecastError(f"latents must be replaced by a tensor of their shape {tuple(latents.shape)}; got {came}")
    return given.to(latents)


def reconstruct(
    run: Run,
    sources: tuple[Branch, ...],
    latents: Float[Tensor, "source channel height width"],
    *,
    advance: Advance,
) -> Float[Tensor, "source channel height width"]:
    """Plain inversion's reconstruction: denoises the inverted latents freely, without guidance, control or replay.

    What it misses of the sources is the error of the inversion, which replay keeps from the sources but which targets
    that start from the inverted latent inherit.
    """
    plain, alone = replace(run, plan=Plan()), Branches(sources, (), 1.0)
    return outcome(denoise_targets(plain, alone, latents, None, same_start=False, advance=advance))


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
) -> State:
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
    guided = branches.guide(layout, prediction, branches.targets, run.backbone.rescale_guided)
    after = ddim.denoise(latents, guided, schedule, step)
    return State(run, branches.targets, step, after, latents, guided, seen)
