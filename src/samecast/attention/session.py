"""The one mutable object in denoising: it is attached to a denoiser's layers, and is told what each call is to do.

Attaching puts hooks on every layer or raises; detaching takes them off and puts back the very processors that were
there, also after an exception. Between its hooks a layer that has something to do computes under `Catch`; one that has
not is left alone, so that an attached model without control is exactly the model. Sessions nest, and may end in any
order; both may not control one layer in one call.
"""

from collections.abc import Callable, Generator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor

from samecast.attention.attend import States
from samecast.attention.modes.base import Part
from samecast.attention.route import Route
from samecast.attention.seam import Catch, Task, first_argument, plain_processor
from samecast.core.layers import Layer
from samecast.core.spans import Spans
from samecast.errors import SamecastError
from samecast.models.base import Backbone, BoundLayer

_ROUNDING = 1e-5  # of sums in another order, in float32, as a share of the largest value
_routed: set[int] = set()
"""The layers that are computing under a route, of any session, by the module's id."""


@dataclass(frozen=True)
class CallPlan:
    """What a call of the denoiser is to do: by default nothing of its own.

    Args:
        routes: for each controlled layer's index, who reads whom.
        kept: for each such layer's index, what follows the batch in the pool.
        keep: for layers' indices, which parts are wanted of the batch.
        states: where these are put, by layer index.
        map_rows: the batch rows whose cross-attention maps are wanted.
        maps: where these are put, by layer index, as (row, pixel, text): each pixel's sum to 1.
    """

    routes: Mapping[int, Route] = field(default_factory=dict[int, Route])
    kept: Mapping[int, States] = field(default_factory=dict[int, States])
    keep: Mapping[int, frozenset[Part]] = field(default_factory=dict[int, frozenset[Part]])
    states: dict[int, States] = field(default_factory=dict[int, States])
    map_rows: Sequence[int] = ()
    maps: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    def task(self, layer: Layer, *, mapped: bool) -> Task | None:
        """What a layer has to do; None where nothing.

        Args:
            layer: which.
            mapped: whether its maps are taken, where maps are.
        """
        map_rows = self.map_rows if mapped else ()
        if layer.kind == "cross":
            return Task(map_rows=map_rows) if map_rows else None
        route, keep = self.routes.get(layer.index), self.keep.get(layer.index, frozenset())
        if route is None and not keep and not map_rows:
            return None
        return Task(route, self.kept.get(layer.index, {}), keep, map_rows)


class Session:
    """Control of one denoiser's attention, as a context manager.

    Args:
        backbone: the model to attach to.
        map_layers: indices of the cross-attention layers whose maps will be wanted; no other is touched. Layers of
            joint attention are both kinds at once.

    Attributes:
        evaluations: rows that went through the denoiser while attached, counted by a forward hook on it.
        call_plan: what the calls of the denoiser are to do; `call` gives them and takes them back.
        batch_shapes: for each number of rows in a call, how many calls had it.
        changed: whether control has made any difference to what a layer puts out, beyond rounding.
    """

    def __init__(self, backbone: Backbone, map_layers: Set[int] = frozenset()) -> None:
        self._backbone = backbone
        self._map_layers = map_layers
        self._undo: list[Callable[[], None]] = []
        self._open: list[tuple[Any, Catch]] = []
        self._spans: list[Spans | None] = []  # of the calls that are going on: one may begin within another
        self.call_plan = CallPlan()
        self.evaluations = 0
        self.batch_shapes: dict[int, int] = {}
        self.changed = False

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The model's self-attention layers, in execution order."""
        return tuple(bound.layer for bound in self._backbone.self_attention())

    def __enter__(self) -> "Session":
        if self._undo:
            raise SamecastError("this session is attached already; make a new one for each use")
        mapped = [bound for bound in self._backbone.cross_attention() if bound.layer.index in self._map_layers]
        own = self._backbone.self_attention()
        try:
            for bound in (*own, *(bound for bound in mapped if bound not in own)):
                self._attach(bound, mapped=bound in mapped)
        except BaseException:
            self._detach()
            raise
        denoiser = self._backbone.denoiser
        self._undo.append(denoiser.register_forward_pre_hook(self._enter_call, with_kwargs=True).remove)
        self._undo.append(denoiser.register_forward_hook(self._leave_call, with_kwargs=True, always_call=True).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detach()

    def _attach(self, bound: BoundLayer, *, mapped: bool) -> None:
        module: Any = bound.module
        own, plain = module.processor, plain_processor(module, bound.layer)
        if plain is not own:
            module.set_processor(plain)
            self._undo.append(lambda: module.set_processor(own) if module.processor is plain else None)

        def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            task = self.call_plan.task(bound.layer, mapped=mapped)
            if task is not None:
                self._begin(module, Catch(bound.layer, task, first_argument(module, args, kwargs), self._spans[-1]))

        def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self._open and self._open[-1][0] is module:
                catch = self._end()
                if output is None:  # the layer raised
                    return
                self._take(module, catch)
                if catch.task.route is not None and not self.changed:  # until a difference is seen: mostly once
                    self.changed = _differ(output, module.forward(*args, **kwargs))

        self._undo.append(module.register_forward_pre_hook(before, with_kwargs=True).remove)
        # The last to begin ends first: modes of torch functions are a stack.
        self._undo.append(module.register_forward_hook(after, with_kwargs=True, prepend=True, always_call=True).remove)

    def _detach(self) -> None:
        self._end_all()
        while self._undo:
            self._undo.pop()()

    def _begin(self, module: Any, catch: Catch) -> None:
        if catch.task.route is not None:
            if id(module) in _routed:
                raise SamecastError(
                    f"two attached controls act at layer {catch.layer.name} in one step, and one would undo the other:"
                    " give them different layers or steps, or attach once with the rules of both"
                )
            _routed.add(id(module))
        self._open.append((module, catch))
        catch.__enter__()

    def _end(self) -> Catch:
        module, catch = self._open.pop()
        catch.__exit__(None, None, None)
        if catch.task.route is not None:
            _routed.discard(id(module))
        return catch

    def _end_all(self) -> None:
        """Ends what an interrupt left open; hooks do not run after that."""
        while self._open:
            self._end()

    def _take(self, module: Any, catch: Catch) -> None:
        catch.check(module)
        index, outcome = catch.layer.index, catch.outcome
        if outcome.maps is not None:
            self.call_plan.maps[index] = outcome.maps
        if catch.task.keep:
            self.call_plan.states[index] = outcome.states

    @contextmanager
    def call(
        self,
        *,
        routes: Mapping[int, Route] | None = None,
        kept: Mapping[int, States] | None = None,
        keep: Mapping[int, frozenset[Part]] | None = None,
        map_rows: Sequence[int] = (),
        maps: dict[int, Tensor] | None = None,
    ) -> Generator[dict[int, States]]:
        """Tells what the next call of the denoiser is to do; afterwards the session is silent again.

        Arguments as for `CallPlan`.

        Yields:
            The wanted states by layer index, filled by the call.
        """
        self.call_plan = CallPlan(routes or {}, kept or {}, keep or {}, {}, map_rows, {} if maps is None else maps)
        try:
            yield self.call_plan.states
        finally:
            self.call_plan = CallPlan()
            self._end_all()

    def _enter_call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._spans.append(self._backbone.spans(args, kwargs))

    def _leave_call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._spans:
            self._spans.pop()
        if output is None:  # the call has failed
            return
        rows = len(first_argument(module, args, kwargs))  # a tensor, or a list of tensors
        self.evaluations += rows
        self.batch_shapes[rows] = self.batch_shapes.get(rows, 0) + 1


def _differ(output: Any, plain: Any) -> bool:
    """Whether control has changed what a layer puts out, of picture or prompt, beyond rounding."""
    if isinstance(output, tuple):
        return any(_differ(*pair) for pair in zip(cast(tuple[Any, ...], output), plain, strict=True))
    rounding = max(_ROUNDING, 2 * torch.finfo(output.dtype).eps)
    return bool((output - plain).abs().max() > rounding * plain.abs().max())
