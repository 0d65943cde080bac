"""Subject: all of one's own tokens, and of the others only the subject's (ConsiStory's shared self-attention).

Tewel et al., SIGGRAPH 2024, arXiv 2402.03286, section 3.1: a share of the others' subject tokens is dropped at random
in each layer and step, so that layouts stay varied. A query that may read nothing reads everything.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from samecast.attention.modes.base import Masked, Reader, Reading
from samecast.attention.modes.separate import allowed_by_reader
from samecast.checked import Within

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SubjectOnly(Masked):
    """Of the others only the subject.

    Args:
        tokens: where the masks of the others come from.
        dropout: share of their subject tokens that is left out at random, 0 to 1.

    Raises:
        SamecastError: a field is out of range.
    """

    name: ClassVar[str] = "subject"
    masks_sources: ClassVar[bool] = True

    dropout: Annotated[float, Within(0, 1)] = 0.0

    def change(self, reading: Reading) -> None:
        """Hides the background of the others, and what is dropped of their subject."""
        reading.allowed = allowed_by_reader(reading, self._allowed)

    def _allowed(self, reader: Reader, tokens: int) -> "Tensor":
        import torch

        from samecast.core.masks import dropped, open_empty

        parts: list[Tensor] = []
        for at, own in enumerate(reader.own):
            part = torch.ones(tokens, dtype=torch.bool) if own else reader.source_tokens(at, tokens)
            if self.dropout and not own:
                part = part & ~dropped(tokens, self.dropout, reader.seeds[at])
            parts.append(part)
        return open_empty(torch.cat(parts)[None])
