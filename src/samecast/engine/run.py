"""What stays the same through all passes of one render: model, schedule, plan and texts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from samecast.attention.attend import States
from samecast.attention.modes.base import Part
from samecast.attention.plan import Plan
from samecast.attention.route import Route
from samecast.attention.session import Session
from samecast.core.batch import Branch, Layout, Role
from samecast.core.ddim import Schedule
from samecast.models.base import Backbone
from samecast.models.finite import check_finite

Advance = Callable[[], None]
"""Called after each evaluated step, to tell how far a pass is."""


@dataclass(frozen=True)
class Run:
    """One render's fixed parts.

    Args:
        backbone: the model.
        session: its control, attached.
        schedule: the noise levels.
        plan: who reads whom, where and when.
        embeddings: of each text.
        recomputed: steps at which what is read of the sources is not kept of their pass, for want of memory.
        embedded: guidance scales by role, for denoisers that take them as an input; without one it is 1.
    """

    backbone: Backbone
    session: Session
    schedule: Schedule
    plan: Plan
    embeddings: Mapping[str, Any]
    recomputed: frozenset[int] = frozenset()
    embedded: Mapping[Role, float] = field(default_factory=dict[Role, float])

    def keeps_at(self, step: int) -> Mapping[int, frozenset[Part]]:
        """What is kept of the sources' evaluation at a step, by layer index."""
        return {} if step in self.recomputed else self.plan.kept_parts_at(step)

    def check(self, latents: Float[Tensor, "branch channel height width"]) -> None:
        """Refuses latents that the denoiser has made NaN or infinite.

        Raises:
            SamecastError: some are.
        """
        check_finite(latents, "denoiser", self.backbone.dtype, self.backbone.identity)

    def evaluate(
        self,
        layout: Layout,
        latents: Mapping[Branch, Float[Tensor, "channel height width"]],
        timestep: int | float,
        *,
        routes: Mapping[int, Route] | None = None,
        kept: Mapping[int, States] | None = None,
        keep: Mapping[int, frozenset[Part]] | None = None,
        map_rows: Sequence[int] = (),
        maps: dict[int, Tensor] | None = None,
    ) -> tuple[Float[Tensor, "row channel height width"], dict[int, States]]:
        """One call of the denoiser.

        Args:
            layout: the rows.
            latents: of each branch in the batch.
            timestep: of all rows.
            routes: as for `Session.call`, like the rest.
            kept: states that the routes read beyond the batch.
            keep: which parts are wanted of the batch, by layer index.
            map_rows: rows whose maps are wanted.
            maps: where these are put.

        Returns:
            The predictions of all rows, and the wanted states by layer index.
        """
        guidance = [self.embedded.get(place.branch.role, 1.0) for place in layout.rows]
        texts = self.backbone.join_texts([self.embeddings[text] for text in layout.texts], guidance)
        with self.session.call(routes=routes, kept=kept, keep=keep, map_rows=map_rows, maps=maps) as states:
            return self.backbone.predict(layout.stack(latents), timestep, texts), states
