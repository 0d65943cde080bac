"""The one mechanism: at one site and step, for each row of the batch, the rows whose keys and values it reads, and how.

Readable rows form a *pool*: first the rows of the batch, then rows kept from an earlier pass over the sources. A route
is the pool indices that each batch row reads. Reading only oneself is plain self-attention; reading a source instead is
MasaCtrl's mutual self-attention (arXiv 2304.08465, equation 5); reading both is its union. A row's *way* says how it
reads where that is more than attention over all tokens of what it reads: restricted by masks, weighted, or aligned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from samecast.core.branches import Layout, Place
from samecast.core.masks import SubjectMask
from samecast.core.tokens import MATCH_CONSISTENCY, Mode


@dataclass(frozen=True, eq=False)
class Way:
    """How one row reads its sources.

    Args:
        mode: `separate`: subject tokens read subject tokens, background reads background (MasaCtrl); `subject`: all of
            its own tokens, and of the others the subject's (ConsiStory); `weigh`: the others' keys and values are
            multiplied by weight and mask (FreeCustom); `align`: its queries and own keys take on mean and deviation of
            the first other one's (StyleAligned); `match`: it attends to itself, where the subject is with the others'
            values that match its own tokens (DreamMatcher). `read` is plain, and needs no way.
        own: for each source, whether it is the row itself.
        mask: of the row's own picture, where the mode asks for it.
        masks: of each source's picture, where the mode asks for it; None is all tokens.
        weight: of the others' keys and values under `weigh`.
        dropout: share of the others' subject tokens left out under `subject`.
        seeds: for each source, of that draw.
        consistency: under `match`, how far there and back may lead astray, as a share of side and subject.
    """

    mode: Mode
    own: tuple[bool, ...]
    mask: SubjectMask | None = None
    masks: tuple[SubjectMask | None, ...] = ()
    weight: float = 1.0
    dropout: float = 0.0
    seeds: tuple[int, ...] = ()
    consistency: float = MATCH_CONSISTENCY


@dataclass(frozen=True, eq=False)
class Route:
    """What each batch row reads.

    Args:
        reads: for each batch row, the distinct pool indices it reads, in order; never empty.
        ways: for batch rows that do not simply read them, how.
    """

    reads: tuple[tuple[int, ...], ...]
    ways: Mapping[int, Way] = field(default_factory=dict[int, Way])

    @property
    def is_plain(self) -> bool:
        """Whether every row reads itself alone and in full, that is, plain self-attention."""
        return not self.ways and all(sources == (row,) for row, sources in enumerate(self.reads))

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The pool indices that anybody reads, ascending: only these need keys and values."""
        return tuple(sorted({source for sources in self.reads for source in sources}))

    @cached_property
    def by_length(self) -> tuple[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], ...]:
        """Rows that read equally many rows, so that each group is one attention call without padding; those that match
        apart, for they attend to themselves alone.

        Each group is (batch rows, for each of them its sources as positions in `used`).
        """
        position = {source: at for at, source in enumerate(self.used)}
        groups: dict[tuple[int, bool], list[int]] = {}
        for row, sources in enumerate(self.reads):
            way = self.ways.get(row)
            groups.setdefault((len(sources), way is not None and way.mode == "match"), []).append(row)
        return tuple(
            (tuple(rows), tuple(tuple(position[source] for source in self.reads[row]) for row in rows))
            for rows in groups.values()
        )


def join_routes(routes: Sequence[Route]) -> Route:
    """One route of several over the same batch, each of which leaves the rows of the others to themselves."""

    def reads(row: int) -> tuple[int, ...]:
        return next((route.reads[row] for route in routes if route.reads[row] != (row,)), (row,))

    ways = {row: way for route in routes for row, way in route.ways.items()}
    return Route(tuple(reads(row) for row in range(len(routes[0].reads))), ways)


def make_route(
    layout: Layout,
    kept: Mapping[Place, int],
    reads: Mapping[Place, Sequence[Place]],
    ways: Mapping[Place, Way] | None = None,
) -> Route:
    """Turns what places read into pool indices.

    Args:
        layout: the batch.
        kept: for each place kept from an earlier pass, its row among the kept rows.
        reads: the places that a place reads; a place that is not listed reads itself.
        ways: how a place reads, where that is not plain; only for places whose sources are all in rows of their own.

    Raises:
        KeyError: a place that is read is neither in the batch nor kept.
    """

    def pool_index(place: Place) -> int:
        return layout.row_of[place] if place in layout.row_of else len(layout.rows) + kept[place]

    return Route(
        tuple(
            tuple(dict.fromkeys(pool_index(source) for source in reads.get(place, (place,)))) for place in layout.rows
        ),
        {layout.row_of[place]: way for place, way in (ways or {}).items()},
    )
