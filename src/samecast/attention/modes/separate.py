"""Separate: subject reads subject, background reads background (MasaCtrl, arXiv 2304.08465, section 4.2).

With hard masks the paper's two softmaxes and blend are one attention in which query i may read key j where
`reader_mask[i] == source_mask[j]`. A query that may read nothing reads everything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from samecast.attention.modes.base import Masked, Reader, Reading

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Separate(Masked):
    """Subject reads subject, background reads background.

    Args:
        tokens: where the masks of reader and sources come from.

    Raises:
        SamecastError: `tokens` says nowhere.
    """

    name: ClassVar[str] = "separate"
    masks_sources: ClassVar[bool] = True
    masks_readers: ClassVar[bool] = True

    def change(self, reading: Reading) -> None:
        """Lets each query read the keys of its own kind."""
        reading.allowed = allowed_by_reader(reading, self._allowed)

    def _allowed(self, reader: Reader, tokens: int) -> "Tensor":
        import torch

        from samecast.core.masks import separate, tokens_of

        keys = torch.cat([reader.source_tokens(at, tokens) for at in range(len(reader.own))])
        return separate(tokens_of(reader.mask, tokens), keys)


def allowed_by_reader(reading: Reading, table: "Callable[[Reader, int], Tensor]") -> "Tensor":
    """The table (query, key) of each reader, as attention takes them: (reader, 1, query, key).

    Both guidance groups of a target share a reader, whose table is made once. Where all readers have the same table
    there is one of it, to be broadcast.
    """
    import torch

    distinct = {id(reader): reader for reader in reading.readers}
    device = reading.query.device
    tables = {name: table(reader, reading.tokens).to(device) for name, reader in distinct.items()}
    if len(tables) == 1:
        return next(iter(tables.values()))[None, None]
    return torch.stack([tables[id(reader)] for reader in reading.readers])[:, None]
