"""Messages between a job's process and the process that has joined the cluster."""

from dataclasses import dataclass

from samecast.experiments.work import Trouble


@dataclass(frozen=True)
class Setup:
    """The first message: cluster address (None starts one), number of workers, version of samecast, and wait limit."""

    address: str | None
    workers: int | None
    code: str
    wait: float


@dataclass(frozen=True)
class Run:
    """Units and the function that creates workers, or, without units, a question for one worker. All pickled."""

    make: bytes
    units: tuple[bytes, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ready:
    """The cluster is joined."""


@dataclass(frozen=True)
class Alive:
    """The process is alive; nothing to report."""


@dataclass(frozen=True)
class Message:
    """A line to display."""

    words: str


@dataclass(frozen=True)
class UnitProgress:
    """The progress of a unit."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class UnitStarted:
    """A unit is about to start."""

    number: int


@dataclass(frozen=True)
class Done:
    """The pickled result of a unit or a question."""

    number: int
    result: bytes


@dataclass(frozen=True)
class Failed:
    """The failure of a unit or a question."""

    number: int
    trouble: Trouble


@dataclass(frozen=True)
class Broken:
    """The job cannot continue."""

    reason: str
