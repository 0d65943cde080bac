"""Cast: each named subject's part of the picture reads the photos of that subject, and the rest reads itself.

Masks say where the reader's picture shows which subject. Where they overlap they compete, so that a token belongs to
one subject at most. With p(i) the subject of token i, or none, and s(j) the subject whose photo key j is of, query i
reads key j of a photo where `p(i) == s(j)`, within the photo's own mask, as MasaCtrl's foreground does (arXiv
2304.08465, section 4.2). Queries of no subject, and those whose subject is not read at this layer and step, read the
reader itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from samecast.attention.modes.base import Masked, Reader, Reading
from samecast.attention.modes.separate import allowed_by_reader
from samecast.core.tokens import SubjectTokens
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from torch import Tensor

SUBJECT = SubjectTokens()


@dataclass(frozen=True)
class Cast(Masked):
    """Each subject's part of the picture reads that subject's photos; the rest reads itself.

    Args:
        tokens: where masks come from that the call does not give: cross-attention maps of each subject's own words, or
            `given`, so that a picture without a given mask is refused.

    Raises:
        SamecastError: `tokens` names neither, or words, which are each subject's own.
    """

    name: ClassVar[str] = "cast"
    masks_sources: ClassVar[bool] = True
    masks_readers: ClassVar[bool] = True
    by_subject: ClassVar[bool] = True

    tokens: Literal["given"] | SubjectTokens = SUBJECT

    def check(self, sources: Sequence[Any]) -> None:
        """Refuses sources other than references and the reader itself."""
        others = [source for source in sources if source == "targets" or not isinstance(source, str)]
        if others or all(source == "self" for source in sources):
            raise SamecastError(f"mode cast reads 'source' or subjects by name, and 'self'; got sources {sources!r}")

    def change(self, reading: Reading) -> None:
        """Lets each query read the photos of its own subject, or the reader itself."""
        reading.allowed = allowed_by_reader(reading, self._allowed)

    def _allowed(self, reader: Reader, tokens: int) -> "Tensor":
        import torch

        from samecast.core.masks import exclusive

        regions = exclusive(reader.regions, tokens) if reader.regions else torch.zeros(0, tokens, dtype=torch.bool)
        parts: list[Tensor] = []
        alone, beside = torch.ones(tokens, dtype=torch.bool), torch.zeros(tokens, dtype=torch.bool)
        for at, own in enumerate(reader.own):
            if own:
                parts.append(torch.zeros(tokens, tokens, dtype=torch.bool))
                continue
            region, keys = regions[reader.region_of[at]], reader.source_tokens(at, tokens)
            parts.append(region[:, None] & keys)
            if keys.any():
                alone &= ~region
            if reader.beside[at]:
                beside |= region
        parts[reader.own.index(True)] |= (alone | beside)[:, None]
        return torch.cat(parts, dim=1)
