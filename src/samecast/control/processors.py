"""Self-attention that reads where it is told to: the one place where routed attention is computed."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from samecast.backbones.base import AttentionLayer, Processor
from samecast.control.matching import own_and_matched
from samecast.control.treatments import align, allowed_keys, weights
from samecast.core.maps import probabilities
from samecast.core.routing import Route
from samecast.core.sites import Site
from samecast.errors import SamecastError


@runtime_checkable
class Instructions(Protocol):
    """What a processor asks the session that installed it, in each call of the denoiser."""

    def route_at(self, site: Site) -> Route | None:
        """The route at a site, if it is controlled."""
        ...

    def kept_at(self, site: Site) -> Float[Tensor, "kept token channel"] | None:
        """The states of the kept rows at a site, if there are any."""
        ...

    def keep_states(self, site: Site, hidden_states: Float[Tensor, "row token channel"]) -> None:
        """Stores what enters a site, where it is wanted."""
        ...

    def note_effect(self, output: Float[Tensor, "row token channel"], plain: Callable[[], Tensor]) -> None:
        """Takes note of a controlled output, given how to compute what it would be without control."""
        ...


class RoutedProcessor:
    """The processor of one self-attention site while a session is attached.

    Where the session has no route for its site it hands over to the processor it replaced, so that an attached model
    without control is exactly the model.
    """

    def __init__(self, site: Site, original: Processor, instructions: Instructions) -> None:
        self.site = site
        self.original = original
        self.instructions = instructions

    @property
    def controlled(self) -> bool:
        """Whether this session, or one around it, has a route for the site in this call."""
        around = self.original
        return self.instructions.route_at(self.site) is not None or (
            isinstance(around, RoutedProcessor) and around.controlled
        )

    def __call__(
        self,
        attn: AttentionLayer,
        hidden_states: Float[Tensor, "row token channel"],
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Float[Tensor, "row token channel"]:
        """The layer's output; diffusers calls this, with arguments of its choice."""
        self.instructions.keep_states(self.site, hidden_states)
        route = self.instructions.route_at(self.site)
        if route is None:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)
        if attention_mask is not None:
            raise SamecastError(
                f"site {self.site.name} got an attention mask, which routed self-attention does not take"
            )
        if isinstance(self.original, RoutedProcessor) and self.original.controlled:
            raise SamecastError(
                f"two attached controls act at site {self.site.name} in one step, and one would undo the other: give"
                " them different sites or steps, or attach once with the rules of both"
            )
        output = attend(attn, hidden_states, self.instructions.kept_at(self.site), route)
        plain = partial(self.original, attn, hidden_states, encoder_hidden_states, None, temb, *args, **kwargs)
        self.instructions.note_effect(output, plain)
        return output


@runtime_checkable
class MapInstructions(Protocol):
    """What a cross-attention processor asks the session that installed it, in each call of the denoiser."""

    @property
    def map_rows(self) -> Sequence[int]:
        """The batch rows whose maps are wanted."""
        ...

    def keep_maps(self, site: Site, maps: Float[Tensor, "row pixel text"]) -> None:
        """Stores the maps of those rows."""
        ...


class MapProcessor:
    """The processor of one cross-attention site whose maps are wanted.

    The output is the replaced processor's own, so that looking changes nothing; probabilities are computed beside it,
    for the wanted rows alone.
    """

    def __init__(self, site: Site, original: Processor, instructions: MapInstructions) -> None:
        self.site = site
        self.original = original
        self.instructions = instructions

    def __call__(
        self,
        attn: AttentionLayer,
        hidden_states: Float[Tensor, "row pixel channel"],
        encoder_hidden_states: Float[Tensor, "row text channel_text"],
        *args: Any,
        **kwargs: Any,
    ) -> Float[Tensor, "row pixel channel"]:
        """The layer's output; diffusers calls this, with arguments of its choice."""
        rows = list(self.instructions.map_rows)
        if rows:
            query = _split_heads(attn, attn.to_q(hidden_states[rows]))
            key = _split_heads(attn, attn.to_k(encoder_hidden_states[rows]))
            self.instructions.keep_maps(self.site, probabilities(query, key))
        return self.original(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


def attend(
    attn: AttentionLayer,
    hidden_states: Float[Tensor, "row token channel"],
    kept: Float[Tensor, "kept token channel"] | None,
    route: Route,
) -> Float[Tensor, "row token channel"]:
    """Mutual self-attention (MasaCtrl, arXiv 2304.08465, equation 5) along any route.

    Queries are each row's own; keys and values are computed once for every pool row that anybody reads, and rows that
    read equally many rows share one attention call, so that nothing is padded.

    Args:
        attn: the layer, whose projections are used.
        hidden_states: what enters the layer (after its norm) in each batch row.
        kept: what entered it in rows evaluated earlier; they follow the batch rows in the pool.
        route: the pool rows that each batch row reads, and how.
    """
    pool = [*hidden_states, *(kept if kept is not None else ())]
    # One copy of the rows that are read; to_k and to_v skip those that are not.
    read = torch.stack([pool[source] for source in route.used])
    query = _split_heads(attn, attn.to_q(hidden_states))
    key = _split_heads(attn, attn.to_k(read))
    value = _split_heads(attn, attn.to_v(read))
    output = torch.empty_like(query)
    tokens = hidden_states.shape[1]
    for rows, sources in route.by_length:
        everybody = len(rows) == len(route.reads)  # in order, then: no need to copy their queries
        queries = query if everybody else query[list(rows)]
        keys, values = _join(key, sources), _join(value, sources)
        ways = [route.ways.get(row) for row in rows]
        allowed = None
        if all(way is not None and way.mode == "match" for way in ways):
            keys, values = own_and_matched(pool, route, rows, keys, values)
        elif any(way is not None for way in ways):
            queries, keys = _align(attn, pool, route, rows, (queries, keys), query)
            weight = weights(ways, tokens, len(sources[0]), keys)
            if weight is not None:
                keys, values = weight * keys, weight * values
            allowed = allowed_keys(ways, tokens, len(sources[0]), keys.device)
        attended = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        if everybody:
            output = attended
        else:
            output[list(rows)] = attended
    merged = rearrange(output, "row heads token channel -> row token (heads channel)")
    for layer in attn.to_out:
        merged = layer(merged)
    return merged


def _split_heads(
    attn: AttentionLayer, states: Float[Tensor, "row token channel"]
) -> Float[Tensor, "row heads token channel_head"]:
    return rearrange(states, "row token (heads channel) -> row heads token channel", heads=attn.heads)


def _join(
    states: Float[Tensor, "read heads token channel"], sources: tuple[tuple[int, ...], ...]
) -> Float[Tensor, "reader heads key channel"]:
    """For each reader, the tokens of all that it reads, end to end."""
    if len(set(sources)) == 1:  # everybody reads the same: one copy, seen by all
        return rearrange(
            states[list(sources[0])], "source heads token channel -> 1 heads (source token) channel"
        ).expand(len(sources), -1, -1, -1)
    return rearrange(
        states[torch.tensor(sources)], "reader source heads token channel -> reader heads (source token) channel"
    )


def _align(
    attn: AttentionLayer,
    pool: Sequence[Float[Tensor, "token channel"]],
    route: Route,
    rows: tuple[int, ...],
    states: tuple[Float[Tensor, "reader heads query channel_head"], Float[Tensor, "reader heads key channel_head"]],
    batch_query: Float[Tensor, "row heads token channel_head"],
) -> tuple[Float[Tensor, "reader heads query channel_head"], Float[Tensor, "reader heads key channel_head"]]:
    """Queries and keys (`states`) of readers: queries and own keys of the rows that are to be aligned take on the
    moments of the first row, other than themselves, that they read."""
    queries, keys = states
    tokens = queries.shape[2]
    aligned = [
        (at, way.own)
        for at, row in enumerate(rows)
        if (way := route.ways.get(row)) is not None and way.mode == "align" and not all(way.own)
    ]
    if not aligned:
        return queries, keys
    queries, keys = queries.clone(), keys.clone()
    styles: dict[int, Tensor] = dict(enumerate(batch_query))  # those of kept rows are computed once
    for at, own in aligned:
        first = own.index(False)
        leader = route.reads[rows[at]][first]
        if leader not in styles:
            styles[leader] = _split_heads(attn, attn.to_q(pool[leader][None]))[0]
        queries[at] = align(queries[at], styles[leader])
        style_keys = keys[at, :, first * tokens : (first + 1) * tokens]
        for source in (number for number, mine in enumerate(own) if mine):
            span = slice(source * tokens, (source + 1) * tokens)
            keys[at, :, span] = align(keys[at, :, span], style_keys)
    return queries, keys
