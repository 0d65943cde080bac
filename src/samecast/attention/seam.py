"""The seam: a layer's own processor runs as it is, and its one call of scaled dot-product attention is ours.

A family's processor does its projections, norms, rotary positions and output. What routing needs lies between: at its
call of `torch.nn.functional.scaled_dot_product_attention`, where queries, keys and values are final. While a layer that
has something to do computes, a `TorchFunctionMode` catches that call. So no projection is written twice, and LoRA,
fused projections or a family's own norms act as they always do. A layer without anything to do in a call of the
denoiser is not touched at all.

A processor that never makes that call (sliced attention, explicit softmax, xformers) is replaced by the plain one while
attached, where it computes the same; any other is refused when it is found out, never passed over.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention_processor import (
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
    XFormersAttnProcessor,
)
from torch import Tensor
from torch.overrides import TorchFunctionMode

from samecast.attention.attend import Joint, States, attend
from samecast.attention.modes.base import Part
from samecast.attention.route import Route
from samecast.core.layers import Layer
from samecast.core.maps import probabilities
from samecast.core.spans import Spans
from samecast.errors import SamecastError

_ATTENTION = torch.nn.functional.scaled_dot_product_attention
_EQUIVALENT = (AttnProcessor, SlicedAttnProcessor, XFormersAttnProcessor)
"""What computes the same as `AttnProcessor2_0`, and never calls scaled dot-product attention."""
_NATIVE_BACKENDS = ("native", "_native_math", "_native_flash", "_native_efficient", "_native_cudnn")


@dataclass(frozen=True)
class Task:
    """What one layer is to do in one call of the denoiser.

    Args:
        route: who reads whom; None leaves attention as it is.
        kept: what follows the batch in the pool.
        keep: parts that are wanted of the batch.
        map_rows: rows of which maps over the keys are wanted.
    """

    route: Route | None = None
    kept: States = field(default_factory=dict[Part, Tensor])
    keep: frozenset[Part] = frozenset()
    map_rows: Sequence[int] = ()


@dataclass
class Outcome:
    """What came of it.

    Args:
        states: the parts that were wanted.
        maps: (row, query, key), averaged over heads: each query's sum to 1. Of joint attention the queries are the
            picture's and the keys the prompt's, as if there were no others.
    """

    states: dict[Part, Tensor] = field(default_factory=dict[Part, Tensor])
    maps: Tensor | None = None


class Catch(TorchFunctionMode):
    """Catches a layer's call of attention while the layer computes.

    Args:
        layer: the layer.
        task: what it is to do.
        hidden: the states that entered it, (row, token, channel).
        spans: where picture and prompt are in the sequence; None where it is the picture alone.
    """

    def __init__(self, layer: Layer, task: Task, hidden: Tensor, spans: Spans | None = None) -> None:
        super().__init__()
        self.layer, self.task, self.hidden, self.spans = layer, task, hidden, spans
        self.outcome = Outcome()
        self.calls = 0

    def __torch_function__(
        self, func: Any, types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Hands calls of attention to the route, and all else on."""
        given = dict(kwargs or {})
        if func is not _ATTENTION:
            return func(*args, **given)
        self.calls += 1
        for name, value in zip(("query", "key", "value"), args, strict=False):
            given[name] = value
        given.update(zip(("attn_mask", "dropout_p", "is_causal"), args[3:], strict=False))
        # An image prompt makes a call of its own for its keys, after that for the words.
        if self.calls > 1 and not self.task.route and not self.task.keep:
            return func(**given)
        return self._attend(func, given)

    def _attend(self, func: Any, given: dict[str, Any]) -> Tensor:
        task, mask = self.task, given.pop("attn_mask", None)
        query, key, value = (given.pop(name) for name in ("query", "key", "value"))
        batch: dict[Part, Tensor] = {"query": query, "key": key, "value": value, "hidden": self.hidden}
        tokens = query.shape[2]
        image = slice(0, tokens) if self.spans is None else self.spans.image_of(tokens)
        joint = None if image == slice(0, tokens) else Joint(query, key, value, image, mask)
        if joint is not None:
            # Copies: a view of what is kept would keep the prompt's part too.
            wanted: Iterable[Part] = batch if task.route is not None else task.keep
            batch = {part: _of_image(batch[part], tokens, image) for part in wanted}
        self.outcome.states = {part: batch[part] for part in task.keep}
        if task.map_rows:
            self.outcome.maps = self._maps(query, key, mask, given.get("scale"))
        if task.route is None:
            return func(query, key, value, attn_mask=mask, **given)
        if given.get("is_causal") or (mask is not None and (joint is None or not _of_keys(mask))):
            raise SamecastError(f"layer {self.layer.name} got an attention mask, which routed attention does not take")
        if self.calls > 1:
            raise SamecastError(
                f"layer {self.layer.name} calls attention more than once, so that it is unclear which call to route:"
                " unload what installed its processor first"
            )

        def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None) -> Tensor:
            return func(query, key, value, attn_mask=attn_mask, **given)

        return attend(batch, task.kept, task.route, attention, joint)

    def _maps(self, query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
        rows = list(self.task.map_rows)
        of_rows = mask if mask is None or len(mask) == 1 else mask[rows]
        if self.spans is None:
            return probabilities(query[rows], key[rows], of_rows, scale)
        image, text = self.spans.image_of(query.shape[2]), self.spans.text
        if self.spans.lengths is not None:
            at = torch.arange(text.stop - text.start, device=query.device)
            lengths = torch.tensor([self.spans.lengths[row] for row in rows], device=query.device)
            of_rows = (at < lengths[:, None])[:, None, None]
        elif of_rows is not None:
            of_rows = of_rows[..., text]
        return probabilities(query[rows][:, :, image], key[rows][:, :, text], of_rows, scale)

    def check(self, module: Any) -> None:
        """Makes sure that the call came by.

        Raises:
            SamecastError: it did not, so that what was wanted has not been done.
        """
        if not self.calls:
            raise SamecastError(
                f"layer {self.layer.name} computed without calling scaled_dot_product_attention, so that it cannot be"
                f" controlled: its {type(module.processor).__name__} must be replaced by diffusers' AttnProcessor2_0"
            )


def _of_image(states: Tensor, tokens: int, image: slice) -> Tensor:
    """The picture's part of states along their last but one axis; those that enter a layer may have no other."""
    return states[..., image, :].clone() if states.shape[-2] == tokens else states


def _of_keys(mask: Tensor) -> bool:
    """Whether a mask says which keys may be read, the same for every query."""
    return mask.dtype == torch.bool and mask.ndim == 4 and mask.shape[-2] == 1


def plain_processor(module: Any, layer: Layer) -> Any:
    """The processor that a layer is to have while attached: its own, or the plain one that computes the same.

    Raises:
        SamecastError: it computes with another backend, whose calls cannot be caught.
    """
    processor = module.processor
    if isinstance(processor, _EQUIVALENT):
        return AttnProcessor2_0()
    backend = getattr(processor, "_attention_backend", None)
    name = str(getattr(backend, "value", backend))
    if backend is not None and name not in _NATIVE_BACKENDS:
        raise SamecastError(
            f"layer {layer.name} uses the attention backend {name!r}, whose calls cannot be routed: call"
            " set_attention_backend('native') first"
        )
    return processor


def first_argument(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What enters a module: the states of a layer, the latents of a denoiser."""
    if args:
        return args[0]
    return kwargs[next(iter(inspect.signature(module.forward).parameters))]
