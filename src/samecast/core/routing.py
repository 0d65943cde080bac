"""The one mechanism: at one site and step, for each row of the batch, the rows whose keys and values it reads.

Readable rows form a *pool*: first the rows of the batch, then rows kept from an earlier pass over the sources. A route
is the pool indices that each batch row reads. Reading only oneself is plain self-attention; reading a source instead is
MasaCtrl's mutual self-attention (arXiv 2304.08465, equation 5); reading both is its union.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from samecast.core.branches import Layout, Place


@dataclass(frozen=True)
class Route:
    """What each batch row reads.

    Args:
        reads: for each batch row, the distinct pool indices it reads, in order; never empty.
    """

    reads: tuple[tuple[int, ...], ...]

    @property
    def is_plain(self) -> bool:
        """Whether every row reads itself alone, that is, plain self-attention."""
        return all(sources == (row,) for row, sources in enumerate(self.reads))

    @cached_property
    def used(self) -> tuple[int, ...]:
        """The pool indices that anybody reads, ascending: only these need keys and values."""
        return tuple(sorted({source for sources in self.reads for source in sources}))

    @cached_property
    def by_length(self) -> tuple[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], ...]:
        """Rows that read equally many rows, so that each group is one attention call without padding.

        Each group is (batch rows, for each of them its sources as positions in `used`).
        """
        position = {source: at for at, source in enumerate(self.used)}
        groups: dict[int, list[int]] = {}
        for row, sources in enumerate(self.reads):
            groups.setdefault(len(sources), []).append(row)
        return tuple(
            (tuple(rows), tuple(tuple(position[source] for source in self.reads[row]) for row in rows))
            for rows in groups.values()
        )


def make_route(layout: Layout, kept: Mapping[Place, int], reads: Mapping[Place, Sequence[Place]]) -> Route:
    """Turns what places read into pool indices.

    Args:
        layout: the batch.
        kept: for each place kept from an earlier pass, its row among the kept rows.
        reads: the places that a place reads; a place that is not listed reads itself.

    Raises:
        KeyError: a place that is read is neither in the batch nor kept.
    """

    def pool_index(place: Place) -> int:
        return layout.row_of[place] if place in layout.row_of else len(layout.rows) + kept[place]

    return Route(
        tuple(
            tuple(dict.fromkeys(pool_index(source) for source in reads.get(place, (place,)))) for place in layout.rows
        )
    )
