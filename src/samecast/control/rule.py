"""What a rule is. Methods are data: a method is a tuple of rules, and the named ones are in `control/rules.py`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from samecast.checked import Within, check_fields
from samecast.core.steps import Steps
from samecast.core.tokens import MATCH_CONSISTENCY, Mode, SubjectTokens
from samecast.errors import SamecastError

Position = Annotated[int, Within(0, 100_000)]
"""Of a target among the prompts' images."""
Reads = Literal["source", "self", "targets"] | Position
Tokens = Literal["all", "given"] | SubjectTokens

DECODER_SITES = "10-15"
_MASKED_MODES = ("separate", "subject", "weigh", "match")


@dataclass(frozen=True)
class Rule:
    """Who reads whose keys and values, where and when, which tokens of them, and how, within each guidance group.

    Where several rules act on one target at one site and step, it reads all that any of them names; they must then
    agree on tokens and mode.

    Args:
        readers: the targets that the rule acts on: all, or those at these positions among the prompts' images.
        sources: what a reader reads there instead of its own keys and values: `source` is every reference, `self` the
            reader, `targets` every target, and a number the target at that position.
        sites: where, as `samecast.core.sites.select_sites` reads it.
        steps: when.
        tokens: where the mode asks for masks, whence they come: `given` with the subject and the call, or found by
            looking for `SubjectTokens` in cross-attention maps.
        mode: how: `read` all tokens; `separate`: subject reads subject, background reads background; `subject`: of
            others only the subject; `weigh`: others' keys and values times weight and mask; `align`: queries and own
            keys take on the moments of the first other one's; `match`: attend to oneself, with others' values put where
            they match one's own subject.
        weight: of others under `weigh`.
        dropout: share of others' subject tokens left out at random under `subject`.
        consistency: under `match`, how far from a token the way to its match and back may lead, as a share of the
            picture's side times the subject's share of the picture.

    Raises:
        SamecastError: a field is of another type or out of range, or fields do not go together.
    """

    readers: Literal["targets"] | tuple[Position, ...] = "targets"
    sources: tuple[Reads, ...] = ("source",)
    sites: str = DECODER_SITES
    steps: Steps = field(default_factory=Steps)
    tokens: Tokens = "all"
    mode: Mode = "read"
    weight: float = 1.0
    dropout: Annotated[float, Within(0, 1)] = 0.0
    consistency: float = MATCH_CONSISTENCY

    def __post_init__(self) -> None:
        check_fields(self, "a rule's {}".format)
        if not self.sources:
            raise SamecastError("a rule must have at least one source; got none")
        if not self.readers:
            raise SamecastError("a rule must have at least one reader; got none")
        if (self.mode in _MASKED_MODES) != (self.tokens != "all"):
            raise SamecastError(
                f"mode {self.mode!r} with tokens {self.tokens!r} would do nothing: masks go with"
                f" {', '.join(_MASKED_MODES)}, and with them only"
            )
        if self.weight != 1.0 and self.mode != "weigh":
            raise SamecastError(f"weight {self.weight} has no effect in mode {self.mode!r}; it goes with weigh")
        if self.dropout and self.mode != "subject":
            raise SamecastError(f"dropout {self.dropout} has no effect in mode {self.mode!r}; it goes with subject")
        if self.mode == "match" and ("self" not in self.sources or len(self.sources) < 2):
            raise SamecastError(f"mode match reads 'self' and somebody else; got sources {self.sources!r}")
        if self.consistency <= 0 or (self.consistency != MATCH_CONSISTENCY and self.mode != "match"):
            raise SamecastError(f"consistency must be above 0, and goes with mode match; got {self.consistency}")

    def acts_on(self, target: int) -> bool:
        """Whether the target at this position is one of the readers."""
        return self.readers == "targets" or target in self.readers

    @property
    def reads_source(self) -> bool:
        """Whether it reads the references."""
        return "source" in self.sources

    @property
    def reads_targets(self) -> bool:
        """Whether a target reads another one, so that they have to be in one batch."""
        return any(source == "targets" or isinstance(source, int) for source in self.sources)

    @property
    def masks_sources(self) -> bool:
        """Whether it asks where the subject is in the references."""
        return self.tokens != "all" and self.reads_source and self.mode != "match"

    @property
    def masks_targets(self) -> bool:
        """Whether it asks where the subject is in the pictures that are made."""
        return self.tokens != "all" and (self.mode in ("separate", "match") or self.reads_targets)

    @property
    def manner(self) -> tuple[Any, ...]:
        """All that rules must agree on which act on one target at one site and step."""
        return self.tokens, self.mode, self.weight, self.dropout, self.consistency


Rules = tuple[Rule, ...]
