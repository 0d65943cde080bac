"""What an attention mode is: a frozen value with its own fields, checks and mathematics.

Every mode works at the same place, a layer's one call of scaled dot-product attention, where queries, keys and values
are final. It gets the readers that share it (as many sources each), with the tokens of all that each reads end to end,
and changes queries, keys, values or what may be read; then it may change the attention's output.

Modes are made when the command line starts, long before tensors are needed, so these files import torch only inside the
methods that compute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from samecast.checked import check_fields
from samecast.core.tokens import SubjectTokens

if TYPE_CHECKING:
    from torch import Tensor

    from samecast.core.masks import SubjectMask

Part = Literal["query", "key", "value", "hidden"]
"""What can be kept of a row at a layer: its queries, keys and values, or the states that enter the layer."""

Masks = str | SubjectTokens
"""Where a mode's masks come from: it takes none (`all`), the user gives them (`given`, or `given_for` a named subject),
or cross-attention maps show the subject."""


def given_for(name: str) -> str:
    """Under what the masks of a picture are kept that were given for one subject; one without a name has the
    picture's."""
    return f"given {name}".rstrip()


def of_subject(tokens: SubjectTokens, name: str) -> SubjectTokens:
    """What a mode looks for, for one of several subjects: the words of that subject, as a prompt names it."""
    return replace(tokens, phrase=f"{{{name}}}") if name else tokens


@dataclass(frozen=True, eq=False)
class Reader:
    """How one row of the batch reads.

    Args:
        mode: by which.
        own: for each source, whether it is the row itself.
        mask: of the row's own picture, where the mode takes it.
        masks: of each source's picture, where the mode takes them; None is every token.
        seeds: for each source, of what the mode draws at random.
        regions: masks of the named subjects in the row's own picture, where the mode tells subjects apart.
        region_of: for each source, which of these is of the subject that it shows; -1 for the row itself.
        beside: for each source, whether its subject's region reads the row itself too.
    """

    mode: "Mode"
    own: tuple[bool, ...]
    mask: "SubjectMask | None" = None
    masks: "tuple[SubjectMask | None, ...]" = ()
    seeds: tuple[int, ...] = ()
    regions: "tuple[SubjectMask, ...]" = ()
    region_of: tuple[int, ...] = ()
    beside: tuple[bool, ...] = ()

    def source_tokens(self, at: int, count: int) -> "Tensor":
        """Which of a source's `count` tokens show the subject, (token); every one where there is no mask."""
        from samecast.core.masks import tokens_of

        return tokens_of(self.masks[at] if self.masks else None, count)


@dataclass
class Reading:
    """Readers of one mode at one call of attention; a mode replaces the tensors.

    Args:
        query: of each reader, (reader, heads, token, channel).
        key: of all that each reads, end to end, (reader, heads, key, channel). It may be one memory that all readers
            share, so it is never written to.
        value: likewise.
        readers: how each reads.
        pool: for each reader, for each source, what the mode reads besides keys and values: (heads, token, channel), or
            (token, channel) for `hidden`.
        own: the same of the reader itself.
        allowed: which keys each query may read, (reader, 1, query, key) or broadcast to it; None is every one.
    """

    query: "Tensor"
    key: "Tensor"
    value: "Tensor"
    readers: "Sequence[Reader]"
    pool: "Sequence[Sequence[Mapping[Part, Tensor]]]" = ()
    own: "Sequence[Mapping[Part, Tensor]]" = ()
    allowed: "Tensor | None" = None

    @property
    def tokens(self) -> int:
        """Tokens of one row."""
        return int(self.query.shape[2])

    def span(self, source: int) -> slice:
        """Where the tokens of a source lie among the keys."""
        return slice(source * self.tokens, (source + 1) * self.tokens)


@dataclass(frozen=True)
class Mode:
    """The base of all modes.

    Raises:
        SamecastError: a field is of another type or out of range.
    """

    name: ClassVar[str]
    """In files of rules and records."""

    reads_besides: ClassVar[frozenset[Part]] = frozenset()
    """What it takes of the rows that are read, besides their keys and values."""

    masks_sources: ClassVar[bool] = False
    """Whether it takes masks of what is read."""

    masks_readers: ClassVar[bool] = False
    """Whether it takes a mask of the reader's own picture."""

    by_subject: ClassVar[bool] = False
    """Whether it tells named subjects apart: it takes a mask of the reader's picture for each, and reads the row
    itself where none is."""

    is_plain: ClassVar[bool] = False
    """Whether it is attention and nothing else, so that a row which reads itself alone needs no control."""

    def __post_init__(self) -> None:
        check_fields(self, lambda field: f"the {field} of mode {self.name}")

    @property
    def masks_from(self) -> Masks:
        """Where its masks come from."""
        return "all"

    def check(self, sources: Sequence[Any]) -> None:
        """Refuses sources that it cannot read.

        Args:
            sources: as `Rule` takes them.

        Raises:
            SamecastError: they do not go together.
        """

    def change(self, reading: Reading) -> None:
        """Changes what the readers attend to."""

    def finish(self, reading: Reading, output: "Tensor") -> "Tensor":
        """Changes what attention puts out, (reader, heads, token, channel)."""
        return output


@dataclass(frozen=True)
class Masked(Mode):
    """The base of modes that take masks.

    Args:
        tokens: where the masks come from: `given` with the subject and the call, or found in cross-attention maps.

    Raises:
        SamecastError: `tokens` is neither.
    """

    tokens: Literal["given"] | SubjectTokens = "given"

    @property
    def masks_from(self) -> Masks:
        """Where its masks come from."""
        return self.tokens
