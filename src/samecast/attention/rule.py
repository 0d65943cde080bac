"""What a rule is. Methods are data: a method is a tuple of rules, and the named ones are in `attention/methods.py`."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from samecast.attention.modes import Mode, Read
from samecast.attention.modes.base import Masks
from samecast.checked import Within, check_fields
from samecast.core.steps import Steps
from samecast.errors import SamecastError

Position = Annotated[int, Within(0, 100_000)]
"""Of a target among the prompts' images."""
KEYWORDS = ("source", "self", "targets")
Reads = Literal["source", "self", "targets"] | Position | str
"""`source` is every reference, `self` the reader, `targets` every target, a number one of these; any other word is the
name of a subject."""

DECODER_LAYERS = "10-15"


@dataclass(frozen=True)
class Rule:
    """Who reads whose keys and values, where and when, which tokens of them, and how, within each guidance group.

    Where several rules act on one target at one layer and step, it reads all that any of them names; they must then
    agree on the mode.

    Args:
        readers: the targets that the rule acts on: all, or those at these positions among the prompts' images.
        sources: what a reader reads there instead of its own keys and values: `source` is every reference, `self` the
            reader, `targets` every target, a number the target at that position, and any other word the references of
            the subject of that name.
        layers: where, as `samecast.core.layers.select_layers` reads it.
        steps: when.
        mode: the attention mode, how: one of `samecast.attention.modes`, such as `Read()` for all tokens or
            `Separate(tokens)` for subject reads subject.

    Raises:
        SamecastError: a field is of another type or out of range, or fields do not go together.
    """

    readers: Literal["targets"] | tuple[Position, ...] = "targets"
    sources: tuple[Reads, ...] = ("source",)
    layers: str = DECODER_LAYERS
    steps: Steps = field(default_factory=Steps)
    mode: Mode = field(default_factory=Read)

    def __post_init__(self) -> None:
        check_fields(self, "a rule's {}".format)
        if not self.sources:
            raise SamecastError("a rule must have at least one source; got none")
        if not self.readers:
            raise SamecastError("a rule must have at least one reader; got none")
        self.mode.check(self.sources)

    @property
    def tokens(self) -> Masks:
        """Where the mode's masks come from."""
        return self.mode.masks_from

    def acts_on(self, target: int) -> bool:
        """Whether the target at this position is one of the readers."""
        return self.readers == "targets" or target in self.readers

    @property
    def reads_source(self) -> bool:
        """Whether it reads the references."""
        return "source" in self.sources or bool(self.subjects)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names of the subjects whose references it reads; none where it reads every reference, or none."""
        return tuple(source for source in self.sources if isinstance(source, str) and source not in KEYWORDS)

    def reads(self, subject: str) -> bool:
        """Whether it reads the references of a subject."""
        return "source" in self.sources or subject in self.sources

    @property
    def reads_targets(self) -> bool:
        """Whether a target reads another one, so that they have to be in one batch."""
        return any(source == "targets" or isinstance(source, int) for source in self.sources)

    @property
    def masks_sources(self) -> bool:
        """Whether it asks where the subject is in the references."""
        return self.mode.masks_sources and self.reads_source

    @property
    def masks_targets(self) -> bool:
        """Whether it asks where the subject is in the pictures that are made."""
        return self.mode.masks_readers or (self.mode.masks_sources and self.reads_targets)


Rules = tuple[Rule, ...]
