"""Evaluations that only take cross-attention maps: of sources, and of pictures before a step."""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from samecast.core.batch import Branch, Branches, Place
from samecast.engine.attention_store import AttentionStore
from samecast.engine.run import Advance, Run
from samecast.engine.source import Trajectory
from samecast.engine.targets import split_evenly


def map_targets(
    run: Run, store: AttentionStore, targets: Sequence[Branch], latents: Float[Tensor, "target _ _ _"], step: int
) -> None:
    """Takes the targets' maps at a step before it is taken, by rows without control; none where the store has them."""
    if all(store.has(step, target) for target in targets):
        return
    layout, maps = Branches(tuple(targets), (), 1.0).layout(), dict[int, Tensor]()
    rows = [layout.row_of[Place(target, "conditional")] for target in targets]
    at_hand = dict(zip(targets, latents, strict=True))
    run.evaluate(layout, at_hand, run.schedule.timesteps[step], map_rows=rows, maps=maps)
    store.evaluations += len(layout.rows)
    for number, target in enumerate(targets):
        store.add(step, target, target.prompt, {layer: values[number] for layer, values in maps.items()})


def map_sources(
    run: Run,
    store: AttentionStore,
    trajectory: Trajectory,
    caption: str,
    *,
    captions: Mapping[str, str] | None = None,
    rows: int,
    advance: Advance | None = None,
) -> int:
    """Takes the sources' maps where the book has none yet, by rows captioned with the words, which do nothing else.

    With an empty prompt a source has no word to look for; the rows run beside its own and are counted apart. With a
    caption its own evaluations show it already, save at steps that inversion does not evaluate, such as the first.

    Args:
        run: the render's fixed parts.
        store: what is wanted, and what is there.
        trajectory: the sources'.
        caption: which has the words.
        captions: of named subjects' photos in place of it, by name.
        rows: most in one call of the denoiser.
        advance: called after each step.

    Returns:
        How many rows that took.
    """
    taken = 0
    for step in sorted({step for map_spec in store.map_specs for step in map_spec.steps}):
        lacking = [source for source in trajectory.sources if not store.has(step, source)]
        for chunk in split_evenly(lacking, rows):
            maps: dict[int, Tensor] = {}
            texts = [(captions or {}).get(source.subject, caption) for source in chunk]
            watched = tuple(Branch("source", source.index, text) for source, text in zip(chunk, texts, strict=True))
            latents = trajectory.latents[step][[trajectory.sources.index(source) for source in chunk]]
            run.evaluate(
                Branches((), watched, 1.0).layout(),
                dict(zip(watched, latents, strict=True)),
                run.schedule.timesteps[step],
                map_rows=range(len(watched)),
                maps=maps,
            )
            taken += len(watched)
            for row, source in enumerate(chunk):
                store.add(step, source, texts[row], {layer: values[row] for layer, values in maps.items()})
        if advance is not None:
            advance()
    return taken
