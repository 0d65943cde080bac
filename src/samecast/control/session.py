"""The one mutable object in denoising: it owns the processors while it is attached, and is told each step.

Attaching binds every self-attention site or raises; detaching puts back the very processors that were there, also after
an exception. Sessions nest: an inner one hands over to the outer one wherever it has nothing to say, and both may not
speak at once. They may end in any order.
"""

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from samecast.backbones.base import Backbone, BoundSite
from samecast.control.processors import MapProcessor, RoutedProcessor
from samecast.core.routing import Route
from samecast.core.sites import Site
from samecast.errors import SamecastError

# Processors that compute plain attention, whose place can be taken without losing anything.
PLAIN_PROCESSORS = {
    "AttnProcessor",
    "AttnProcessor2_0",
    "SlicedAttnProcessor",
    "XFormersAttnProcessor",
    "RoutedProcessor",
    "MapProcessor",
}

_ROUNDING = 1e-5  # of sums in another order, in float32, as a share of the largest value


@dataclass(frozen=True)
class Orders:
    """What a call of the denoiser is to do: by default nothing of its own.

    Args:
        routes: for each controlled site's index, who reads whom.
        kept: for each such site's index, the states of the rows that follow the batch in the pool.
        keep: indices of the sites whose states are wanted.
        states: where these are put, by site index.
        map_rows: the batch rows whose cross-attention maps are wanted.
        maps: where these are put, by site index, as (row, pixel, text): each pixel's sum to 1.
    """

    routes: Mapping[int, Route] = field(default_factory=dict[int, Route])
    kept: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    keep: Set[int] = frozenset()
    states: dict[int, Tensor] = field(default_factory=dict[int, Tensor])
    map_rows: Sequence[int] = ()
    maps: dict[int, Tensor] = field(default_factory=dict[int, Tensor])


class Session:
    """Control of one denoiser's self-attention, as a context manager.

    Args:
        backbone: the model to attach to.
        map_sites: indices of the cross-attention sites whose maps will be wanted; no other is touched.

    Attributes:
        evaluations: rows that went through the denoiser while attached, counted by a forward hook on it.
        orders: what the calls of the denoiser are to do; `call` gives them and takes them back.
        batch_shapes: for each number of rows in a call, how many calls had it.
        changed: whether control has made any difference to what a site puts out, beyond rounding.
    """

    def __init__(self, backbone: Backbone, map_sites: Set[int] = frozenset()) -> None:
        self._backbone = backbone
        self._map_sites = map_sites
        self._bound: tuple[BoundSite, ...] = ()
        self._installed: list[tuple[BoundSite, RoutedProcessor | MapProcessor]] = []
        self._hook: Any = None
        self.orders = Orders()
        self.evaluations = 0
        self.batch_shapes: dict[int, int] = {}
        self.changed = False

    @property
    def sites(self) -> tuple[Site, ...]:
        """The model's self-attention sites, in execution order."""
        return tuple(bound.site for bound in self._backbone.self_attention())

    def __enter__(self) -> "Session":
        if self._hook is not None:
            raise SamecastError("this session is attached already; make a new one for each use")
        bound = self._backbone.self_attention()
        looked_at = [site for site in self._backbone.cross_attention() if site.site.index in self._map_sites]
        for site in (*bound, *looked_at):
            _check_layer(site)
        for site in looked_at:
            self._install(site, MapProcessor(site.site, site.layer.processor, self))
        for site in bound:
            self._install(site, RoutedProcessor(site.site, site.layer.processor, self))
        self._hook = self._backbone.denoiser.register_forward_hook(self._count, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for site, processor in self._installed:
            _remove(site, processor)
        self._installed.clear()
        self._hook.remove()
        self._hook = None

    def _install(self, site: BoundSite, processor: RoutedProcessor | MapProcessor) -> None:
        self._installed.append((site, processor))
        site.layer.set_processor(processor)

    @contextmanager
    def call(
        self,
        *,
        routes: Mapping[int, Route] | None = None,
        kept: Mapping[int, Float[Tensor, "kept token channel"]] | None = None,
        keep: Set[int] = frozenset(),
        map_rows: Sequence[int] = (),
        maps: dict[int, Tensor] | None = None,
    ) -> Generator[dict[int, Tensor]]:
        """Tells what the next call of the denoiser is to do; afterwards the session is silent again.

        Arguments as for `Orders`.

        Yields:
            The wanted states by site index, filled by the call.
        """
        self.orders = Orders(routes or {}, kept or {}, keep, {}, map_rows, {} if maps is None else maps)
        try:
            yield self.orders.states
        finally:
            self.orders = Orders()

    def route_at(self, site: Site) -> Route | None:
        """The route at a site in this call, if it is controlled."""
        return self.orders.routes.get(site.index)

    def kept_at(self, site: Site) -> Float[Tensor, "kept token channel"] | None:
        """The states of the kept rows at a site, if there are any."""
        return self.orders.kept.get(site.index)

    def keep_states(self, site: Site, hidden_states: Float[Tensor, "row token channel"]) -> None:
        """Stores what enters a site, where it is wanted."""
        if site.index in self.orders.keep:
            self.orders.states[site.index] = hidden_states

    def note_effect(self, output: Float[Tensor, "row token channel"], plain: Callable[[], Tensor]) -> None:
        """Compares a controlled output with the plain one until a difference is seen: mostly once in a run."""
        if not self.changed:
            without = plain()
            rounding = max(_ROUNDING, 2 * torch.finfo(output.dtype).eps)
            self.changed = bool((output - without).abs().max() > rounding * without.abs().max())

    @property
    def map_rows(self) -> Sequence[int]:
        """The batch rows whose maps are wanted in this call."""
        return self.orders.map_rows

    def keep_maps(self, site: Site, maps: Float[Tensor, "row pixel text"]) -> None:
        """Stores the maps of those rows at a site."""
        self.orders.maps[site.index] = maps

    def _count(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        rows = int((args[0] if args else kwargs["sample"]).shape[0])
        self.evaluations += rows
        self.batch_shapes[rows] = self.batch_shapes.get(rows, 0) + 1


def _remove(site: BoundSite, processor: RoutedProcessor | MapProcessor) -> None:
    """Takes a processor off its layer, also from beneath those of sessions that were entered later and are still on."""
    above = site.layer.processor
    while above is not processor and isinstance(above, (RoutedProcessor, MapProcessor)):
        if above.original is processor:
            above.original = processor.original
            return
        above = above.original
    site.layer.set_processor(processor.original)


def _check_layer(bound: BoundSite) -> None:
    """Refuses a layer whose attention is more than projections and a softmax, rather than computing something else."""
    layer: Any = bound.layer
    name = type(layer.processor).__name__
    if getattr(layer, "fused_projections", False):
        raise SamecastError(
            f"site {bound.site.name} has fused projections; call pipeline.unfuse_qkv_projections() first"
        )
    if name not in PLAIN_PROCESSORS:
        raise SamecastError(
            f"site {bound.site.name} has a {name}, whose work would be lost; unload what installed it first"
        )
    extras = ("norm_cross", "group_norm", "spatial_norm", "norm_q", "norm_k")
    present = [extra for extra in extras if getattr(layer, extra, None) is not None]
    if present or layer.residual_connection or layer.rescale_output_factor != 1:
        raise SamecastError(
            f"site {bound.site.name} has attention of another kind ({', '.join(present) or 'residual'})"
        )
