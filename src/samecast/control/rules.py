"""Methods as data: a method is a tuple of rules, and nothing else in the code knows it by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from samecast.core.steps import Steps
from samecast.errors import SamecastError

Reads = Literal["source", "self"]

MASACTRL_SITES = "10-15"


@dataclass(frozen=True)
class Rule:
    """Who reads whose keys and values, where and when, within each guidance group.

    Where several rules act on one target at one site and step, it reads all that any of them names.

    Args:
        readers: the targets that the rule acts on: all, or those at these positions among the prompts' images.
        sources: what a reader reads there instead of its own keys and values.
        sites: where, as `samecast.core.sites.select_sites` reads it.
        steps: when.

    Raises:
        SamecastError: the rule names no reader or no source.
    """

    readers: Literal["targets"] | tuple[int, ...] = "targets"
    sources: tuple[Reads, ...] = ("source",)
    sites: str = MASACTRL_SITES
    steps: Steps = field(default_factory=Steps)

    def __post_init__(self) -> None:
        if not self.sources or not set(self.sources) <= {"source", "self"}:
            raise SamecastError(f"a rule's sources must be 'source', 'self' or both; got {self.sources!r}")
        if not self.readers:
            raise SamecastError("a rule must have at least one reader; got none")

    def acts_on(self, target: int) -> bool:
        """Whether the target at this position is one of the readers."""
        return self.readers == "targets" or target in self.readers


Rules = tuple[Rule, ...]


def none() -> Rules:
    """No control: every image reads itself alone, as in stock diffusers."""
    return ()


def masactrl(
    start: int | float = 4,
    final: int | float | None = None,
    skip: int | None = None,
    sites: str = MASACTRL_SITES,
    stride: int | None = None,
) -> Rules:
    """MasaCtrl (Cao et al., ICCV 2023, arXiv 2304.08465, section 4.1): targets read the source's keys and values.

    The layout forms first (steps before `start`) and in the early layers; what comes after only queries the source. The
    defaults are the paper's: from step 4, at the decoder's last six sites. Methods are tuples and add up, also over
    time: `masactrl(0, 9, sites="encoder") + masactrl(10, sites="decoder")` reads in the encoder first, then in the
    decoder.

    Args:
        start: first step that acts; a float is a fraction of the run.
        final: last step that acts, inclusive; None is the last of the run. The AIKU study found 20-25 of 50 best.
        skip: None or 1..9: step j acts when `j % 10 >= skip`.
        sites: where, such as `10-15`, `encoder`, `@16` or `up.3-8,mid`.
        stride: None, or of the span every so many-th step acts.
    """
    return (Rule("targets", ("source",), sites, Steps(start, final, skip, stride)),)


def masactrl_union(
    start: int | float = 4,
    final: int | float | None = None,
    skip: int | None = None,
    sites: str = MASACTRL_SITES,
    stride: int | None = None,
) -> Rules:
    """MasaCtrl's union: targets read the source and themselves in one softmax, so that they may keep what is their own.

    Args: as for `masactrl`.
    """
    return (Rule("targets", ("source", "self"), sites, Steps(start, final, skip, stride)),)


METHODS: dict[str, Callable[..., Rules]] = {"none": none, "masactrl": masactrl, "masactrl_union": masactrl_union}
"""The named methods, by the name that the command line takes."""


def rules_to_data(rules: Rules) -> list[dict[str, Any]]:
    """Rules as plain data that JSON can hold; `rules_from_data` reads it back."""
    return [asdict(rule) for rule in rules]


def rules_from_data(data: Sequence[Mapping[str, Any]]) -> Rules:
    """Rules from what `rules_to_data` gave, also after a round through JSON, which knows no tuples.

    Raises:
        SamecastError: the data describes no rules.
    """
    try:
        return tuple(
            Rule(
                readers="targets" if entry["readers"] == "targets" else tuple(entry["readers"]),
                sources=tuple(entry["sources"]),
                sites=entry["sites"],
                steps=_steps_from_data(entry["steps"]),
            )
            for entry in data
        )
    except (KeyError, TypeError) as error:
        raise SamecastError(f"the recorded rules are damaged: {error!r}") from error


def _steps_from_data(data: Mapping[str, Any]) -> Steps:
    fields: dict[str, Any] = dict(data)
    if fields.get("only") is not None:
        fields["only"] = tuple(fields["only"])
    return Steps(**fields)
