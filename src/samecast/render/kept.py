"""The sources of the last render, kept so that other prompts on the same photos invert nothing again."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from samecast.attention.modes.base import Part
from samecast.engine.run import Run
from samecast.engine.source import Trajectory
from samecast.models.base import ModelIdentity
from samecast.render.request import Pictures, Request

Sources = tuple[Tensor | None, Trajectory | None]
_Wanted = Mapping[int, Mapping[int, frozenset[Part]]]


@dataclass(frozen=True)
class _Entry:
    """Sources, and what making them took.

    Args:
        key: of all that they depend on, but for what is read of them.
        wanted: what was kept of them, by step and layer.
        sources: themselves.
        evaluations: that they took.
        batch_shapes: of these evaluations.
    """

    key: Hashable
    wanted: _Wanted
    sources: Sources
    evaluations: int
    batch_shapes: Mapping[int, int]


class KeptSources:
    """Holds the sources of one render at a time: `model.kept = KeptSources()` switches it on.

    A render that takes its sources from here makes the very pictures that it would have made alone, and its record
    counts what it takes to repeat it; `RenderResult.reused_evaluations` are those of them that were not done again.
    """

    def __init__(self) -> None:
        self._entry: _Entry | None = None

    def forget(self, key: Hashable = None) -> None:
        """Drops what is kept, unless it is of this key: before memory is planned for something else."""
        if self._entry is not None and self._entry.key != key:
            self._entry = None

    def sources(self, key: Hashable, run: Run, make: Callable[[], Sources]) -> tuple[Sources, int]:
        """The sources of a run, and how many evaluations of them were done before.

        Args:
            key: of all that they depend on, but for what is read of them; a text that is not empty counts for that.
            run: whose session counts evaluations.
            make: makes them anew.
        """
        session, entry = run.session, self._entry
        wanted = {step: run.keeps_at(step) for step in range(run.schedule.steps) if run.keeps_at(step)}
        if entry is not None and entry.key == key and _suffices(entry.wanted, wanted):
            latents, trajectory = entry.sources
            session.evaluations += entry.evaluations
            for rows, calls in entry.batch_shapes.items():
                session.batch_shapes[rows] = session.batch_shapes.get(rows, 0) + calls
            return (latents, trajectory and _as_read(trajectory, wanted)), entry.evaluations
        self._entry = None
        evaluations, shapes = session.evaluations, dict(session.batch_shapes)
        made = make()
        new = {rows: calls - shapes.get(rows, 0) for rows, calls in session.batch_shapes.items()}
        self._entry = _Entry(key, wanted, made, session.evaluations - evaluations, {n: c for n, c in new.items() if c})
        return made, 0


def sources_key(request: Request, pictures: Pictures, identity: ModelIdentity) -> Hashable:
    """All that the sources of a render depend on, but for what is read of them.

    Args:
        request: what was asked for, its settings settled.
        pictures: that came with it, as they are used.
        identity: of the model, with what is applied to it.
    """
    settings = request.settings
    alike = ("num_inference_steps", "pairing", "replay", "fixed_point", "guidance_rescale", "batch_rows")
    photos = tuple((photo.size, photo.tobytes()) for photo in pictures.references)
    return (
        *(getattr(settings, name) for name in alike),
        *(settings.guidance, settings.first_seed if request.generated else None),
        *(pictures.height, pictures.width, photos, request.sources(), request.inverts, identity),
    )


def _suffices(kept: _Wanted, wanted: _Wanted) -> bool:
    return all(
        parts <= kept.get(step, {}).get(layer, frozenset())
        for step, layers in wanted.items()
        for layer, parts in layers.items()
    )


def _as_read(trajectory: Trajectory, wanted: _Wanted) -> Trajectory:
    """The trajectory with no more steps kept than this run would have, so that its batches are those of a run alone."""
    return replace(trajectory, kept={step: states for step, states in trajectory.kept.items() if step in wanted})
