"""What the process of a job and the process that has joined the cluster tell each other."""

from dataclasses import dataclass

from samecast.experiments.work import Trouble


@dataclass(frozen=True)
class Setup:
    """The first message: which cluster (None starts one), how many workers, for which code, and how long to wait."""

    address: str | None
    workers: int | None
    code: str
    wait: float


@dataclass(frozen=True)
class Run:
    """Units to work on with workers that are made so; or without units, a question to ask one of them. All pickled."""

    make: bytes
    units: tuple[bytes, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """The cluster is joined."""


@dataclass(frozen=True)
class Alive:
    """Nothing new."""


@dataclass(frozen=True)
class Message:
    """A line for people."""

    words: str


@dataclass(frozen=True)
class Told:
    """How far a unit is."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Begun:
    """A unit is about to be begun."""

    number: int


@dataclass(frozen=True)
class Done:
    """A unit, or a question, has its result, pickled."""

    number: int
    result: bytes


@dataclass(frozen=True)
class Failed:
    """A unit, or a question, has none."""

    number: int
    trouble: Trouble


@dataclass(frozen=True)
class Broken:
    """Nothing can go on."""

    reason: str
