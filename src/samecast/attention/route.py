"""The one mechanism: for each row of the batch, at a layer and step, the rows whose keys and values it reads, and how.

Readable rows form a *pool*: first the rows of the batch, then rows kept from an earlier pass over the sources. A route
is the pool indices that each batch row reads. Reading only oneself is plain self-attention; reading a source instead is
MasaCtrl's mutual self-attention (arXiv 2304.08465, equation 5); reading both is its union. How a row reads is its
attention mode's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from samecast.attention.modes import Mode, Read, Reader
from samecast.core.batch import Layout, Place

_READ = Read()


@dataclass(frozen=True)
class Group:
    """Rows of one mode that read equally many rows, so that they are one call of attention without padding.

    Args:
        mode: of all of them.
        rows: of the batch.
        sources: for each of them, the pool indices that it reads.
    """

    mode: Mode
    rows: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Route:
    """What each batch row reads.

    Args:
        reads: for each batch row, the distinct pool indices it reads, in order; never empty.
        readers: for batch rows whose mode is more than reading, how they read.
    """

    reads: tuple[tuple[int, ...], ...]
    readers: Mapping[int, Reader] = field(default_factory=dict[int, Reader])

    @property
    def is_plain(self) -> bool:
        """Whether every row reads itself alone and in full, that is, plain self-attention."""
        return not self.readers and all(sources == (row,) for row, sources in enumerate(self.reads))

    def reader(self, row: int) -> Reader:
        """How a row reads."""
        return self.readers.get(row) or Reader(_READ, tuple(source == row for source in self.reads[row]))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All rows, in as few calls of attention as can be."""
        found: dict[tuple[int, Mode], list[int]] = {}
        for row, sources in enumerate(self.reads):
            mode = self.readers[row].mode if row in self.readers else _READ
            found.setdefault((len(sources), mode), []).append(row)
        return tuple(
            Group(mode, tuple(rows), tuple(self.reads[row] for row in rows)) for (_, mode), rows in found.items()
        )


def join_routes(routes: Sequence[Route]) -> Route:
    """One route of several over the same batch, each of which leaves the rows of the others to themselves."""

    def reads(row: int) -> tuple[int, ...]:
        return next((route.reads[row] for route in routes if route.reads[row] != (row,)), (row,))

    readers = {row: reader for route in routes for row, reader in route.readers.items()}
    return Route(tuple(reads(row) for row in range(len(routes[0].reads))), readers)


def make_route(
    layout: Layout,
    kept: Mapping[Place, int],
    reads: Mapping[Place, Sequence[Place]],
    readers: Mapping[Place, Reader] | None = None,
) -> Route:
    """Turns what places read into pool indices.

    Args:
        layout: the batch.
        kept: for each place kept from an earlier pass, its row among the kept rows.
        reads: the places that a place reads; a place that is not listed reads itself.
        readers: how a place reads, where its mode is more than reading; only for places whose sources are all in rows
            of their own.

    Raises:
        KeyError: a place that is read is neither in the batch nor kept.
    """

    def pool_index(place: Place) -> int:
        return layout.row_of[place] if place in layout.row_of else len(layout.rows) + kept[place]

    return Route(
        tuple(
            tuple(dict.fromkeys(pool_index(source) for source in reads.get(place, (place,)))) for place in layout.rows
        ),
        {layout.row_of[place]: reader for place, reader in (readers or {}).items() if place in layout.row_of},
    )
