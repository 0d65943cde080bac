"""Read: plain attention over all tokens of what is read.

Reading a source in place of oneself is MasaCtrl's mutual self-attention (Cao et al., ICCV 2023, arXiv 2304.08465,
equation 5); reading both in one softmax is its union.
"""

from dataclasses import dataclass
from typing import ClassVar

from samecast.attention.modes.base import Mode


@dataclass(frozen=True)
class Read(Mode):
    """All tokens of all sources, in one softmax."""

    name: ClassVar[str] = "read"
    is_plain: ClassVar[bool] = True
