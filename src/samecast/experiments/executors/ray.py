"""Runs units on a Ray cluster: one worker per device, one unit at a time each.

Ray runs in a separate process (`cluster.py`): a process that has joined a cluster exits silently when the cluster is
lost, may wait for it forever, and is cluttered by the output of Ray's libraries. This process receives outcomes,
progress and messages. It expects a message every few seconds, and otherwise ends the other process.
"""

import os
import pickle
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Self

from samecast.errors import SamecastError
from samecast.experiments.executors import Answer, Watch
from samecast.experiments.executors.messages import (
    Broken,
    Done,
    Failed,
    Message,
    Ready,
    Run,
    Setup,
    UnitProgress,
    UnitStarted,
)
from samecast.experiments.work import AnyUnit, Make, Outcome, Result, Trouble, this_code

WAIT = 300.0
"""Seconds to wait for a cluster that does not answer or has no room."""
CLUSTER = "samecast.experiments.executors.cluster"
_JOIN = 120.0
"""Seconds to join an existing cluster or to start one, unless `wait` is shorter."""
_KNOCK = 3.0
"""Seconds for a machine to answer at an address."""
_GRACE = 10.0
"""Seconds for the other process to leave the cluster."""
_STAMP = re.compile(r"^\[[^\]]*\]\s*(\S+:\d+:\s*)?")
"""The prefix of Ray's log lines: time and place in the code."""


@dataclass
class RayExecutor:
    """Workers of a Ray cluster.

    Args:
        workers: number of workers; None is one per GPU of the cluster, or one without GPUs.
        address: address of a cluster to join; None starts one on this machine for the duration of the job.
        wait: seconds to wait for a cluster that does not answer or has no room for a worker.

    Raises:
        SamecastError: Ray is not installed, or a number is out of range.
    """

    workers: int | None = None
    address: str | None = None
    wait: float = WAIT
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _connection: Connection | None = field(default=None, repr=False)
    _log: IO[bytes] | None = field(default=None, repr=False)
    _entered: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise SamecastError(f"workers must be at least 1; got {self.workers}")
        if not 0 < self.wait < float("inf"):
            raise SamecastError(f"the seconds to wait must be above 0; got {self.wait}")
        _ray()

    def __enter__(self) -> Self:
        self._entered += 1
        return self

    def __exit__(self, *data: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            self._leave()

    def knock(self) -> None:
        """Checks that a server answers at the address: with a closed port Ray would wait for minutes.

        Raises:
            SamecastError: no server answers, or the address is invalid.
        """
        _knock(self.address or _joined_here())

    def ask(self, question: Callable[[], Answer], watch: Watch) -> Answer:
        """Calls a function at a worker and returns its result; errors as for `run`."""
        self._join(watch)
        self._send(Run(_ray().cloudpickle.dumps(question), ()))
        for message in self._listen(watch):
            if isinstance(message, Done):
                return pickle.loads(message.result)
            if isinstance(message, Failed):
                raise SamecastError(str(message.trouble))
        raise AssertionError("no answer was received")

    def run(
        self, make: Make[AnyUnit, Result], units: Sequence[AnyUnit], watch: Watch
    ) -> Iterator[Outcome[AnyUnit, Result]]:
        """Yields the outcome of each unit; see `Executor`."""
        self._join(watch)
        dumps = _ray().cloudpickle.dumps
        self._send(Run(dumps(make), tuple(dumps(unit) for unit in units), tuple(unit.name for unit in units)))
        left = len(units)
        for message in self._listen(watch):
            if isinstance(message, UnitStarted):
                watch.begun(units[message.number])
            elif isinstance(message, Done):
                left -= 1
                yield _outcome(units[message.number], message.result)
            elif isinstance(message, Failed):
                left -= 1
                yield Outcome(units[message.number], trouble=message.trouble)
            if not left:
                return

    def _join(self, watch: Watch) -> None:
        """Starts the other process, which joins the cluster or starts one."""
        if self._process is not None:
            return
        self.knock()
        address = self.address or _joined_here()
        here, there = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, for it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {CLUSTER} import main; main({there.fileno()})"],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,  # closing the connection signals an interrupt
        )
        there.close()
        self._connection = Connection(here.detach())
        watch.message(f"waiting for {'the cluster at ' + address if address else 'a cluster on this machine'}")
        self._send(Setup(address, self.workers, this_code(), self.wait))
        for message in self._listen(watch, min(_JOIN, self.wait)):
            if isinstance(message, Ready):
                return

    def _send(self, message: object) -> None:
        assert self._connection is not None
        try:
            self._connection.send(message)
        except OSError:
            raise self._lost() from None

    def _listen(self, watch: Watch, limit: float | None = None) -> Iterator[object]:
        """Yields the other process's messages, except those passed on to the callbacks."""
        assert self._connection is not None
        heard, limit = time.monotonic(), limit or self.wait
        while True:
            try:
                if not self._connection.poll(1.0):
                    if time.monotonic() - heard > limit:
                        self._end()
                        raise SamecastError(f"{self._where()} has not answered for {limit:.0f} seconds")
                    continue
                message = self._connection.recv()
            except (OSError, EOFError):
                raise self._lost() from None
            heard = time.monotonic()
            if isinstance(message, Broken):
                raise SamecastError(message.reason)
            if isinstance(message, Message):
                watch.message(message.words)
            elif isinstance(message, UnitProgress):
                watch.progress(message.name, message.done, message.total)
            else:
                yield message

    def _where(self) -> str:
        return f"the cluster at {self.address}" if self.address else "the cluster on this machine"

    def _lost(self) -> SamecastError:
        """The reason why the other process ended, from its last line of output."""
        words = ""
        if self._log is not None:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4000))
            lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
            words = f": {_STAMP.sub('', lines[-1]):.200}" if lines else ""
        return SamecastError(f"{self._where()} was lost; finished results are kept{words}")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()

    def _leave(self) -> None:
        """Ends the other process, and with it a cluster that it started."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
        if process is not None:
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
        self._connection = self._log = None


def _outcome(unit: Any, result: bytes) -> Outcome[Any, Any]:
    try:
        return Outcome(unit, pickle.loads(result))
    except Exception as error:
        trouble = Trouble(type(error).__name__, f"its result cannot be read here: {' '.join(str(error).split())}")
        return Outcome(unit, trouble=replace(trouble, details=repr(error)))


def _joined_here() -> str | None:
    """The cluster that this process has joined, if any."""
    ray: Any = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().gcs_address)
    return None


def _knock(address: str | None) -> None:
    if address == "auto":
        address = _known()
    if address is None or address == "local":
        return
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise SamecastError(f"--address must be auto or host:port, such as 10.0.0.1:6379; got {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
    except OSError as error:
        raise SamecastError(f"no cluster answers at {address}: {error.strerror or error}") from None


def _known() -> str | None:
    """The cluster that `auto` stands for, if Ray has its address stored; it may no longer exist."""
    try:
        from ray._private.services import canonicalize_bootstrap_address

        return canonicalize_bootstrap_address("auto")
    except Exception:
        return None


def _environment() -> dict[str, str]:
    """Environment in which the other process and the workers of its own cluster import this samecast."""
    paths = [str(Path(__file__).parents[3]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    # Ray would hide GPUs that are not requested, with a warning.
    return {
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path)),
    }


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise SamecastError("Ray is not installed: pip install 'samecast[ray]', or --executor local") from None
    return ray
