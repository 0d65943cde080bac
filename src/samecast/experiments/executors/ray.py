"""On a Ray cluster: as many workers as it has devices, each with a unit at a time.

Ray lives in a process of its own (`cluster.py`), for a process that has joined a cluster ends without a word when the
cluster is lost, may wait for one without end, and is written over by what Ray's libraries have to say. This one
listens: to what becomes of units, how far they are, and what is waited for. It hears from the other every few seconds,
or ends it.
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
from samecast.experiments.executors.messages import Begun, Broken, Done, Failed, Message, Ready, Run, Setup, Told
from samecast.experiments.work import AnyUnit, Make, Outcome, Result, Trouble, this_code

WAIT = 300.0
"""Seconds to wait for a cluster that does not answer or has no room, before giving up."""
CLUSTER = "samecast.experiments.executors.cluster"
_JOIN = 120.0
"""Seconds to join a cluster that is there, or to start one here; less where less is to be waited."""
_KNOCK = 3.0
"""Seconds for a machine to answer at an address."""
_GRACE = 10.0
"""Seconds for the other process to leave the cluster."""
_STAMP = re.compile(r"^\[[^\]]*\]\s*(\S+:\d+:\s*)?")
"""What the libraries of Ray put before their words: when and where in their code."""


@dataclass
class RayExecutor:
    """Workers of a Ray cluster.

    Args:
        workers: how many; None is one for each GPU of the cluster, or one where there is none.
        address: of a cluster to join; None starts one on this machine, for as long as the job runs.
        wait: seconds to wait for a cluster that does not answer, or has no room for any worker.

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
            raise SamecastError(f"workers must be 1 or more; got {self.workers}")
        if not 0 < self.wait < float("inf"):
            raise SamecastError(f"the seconds to wait must be more than 0; got {self.wait}")
        _ray()

    def __enter__(self) -> Self:
        self._entered += 1
        return self

    def __exit__(self, *data: object) -> None:
        self._entered -= 1
        if self._entered == 0:
            self._leave()

    def knock(self) -> None:
        """Sees whether anybody is at the address: a closed port would keep Ray waiting for minutes.

        Raises:
            SamecastError: nobody is, or it is no address.
        """
        _knock(self.address or _joined_here())

    def ask(self, question: Callable[[], Answer], watch: Watch) -> Answer:
        """What a function says at a worker; errors as for `run`."""
        self._join(watch)
        self._send(Run(_ray().cloudpickle.dumps(question), ()))
        for message in self._listen(watch):
            if isinstance(message, Done):
                return pickle.loads(message.result)
            if isinstance(message, Failed):
                raise SamecastError(str(message.trouble))
        raise AssertionError("the answer never came")

    def run(
        self, make: Make[AnyUnit, Result], units: Sequence[AnyUnit], watch: Watch
    ) -> Iterator[Outcome[AnyUnit, Result]]:
        """Each unit with what came of it; see `Executor`."""
        self._join(watch)
        dumps = _ray().cloudpickle.dumps
        self._send(Run(dumps(make), tuple(dumps(unit) for unit in units), tuple(unit.name for unit in units)))
        left = len(units)
        for message in self._listen(watch):
            if isinstance(message, Begun):
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
            start_new_session=True,  # an interruption is told by closing the connection
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
        """What the other process says, but for what goes straight to those who watch."""
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
            elif isinstance(message, Told):
                watch.progress(message.name, message.done, message.total)
            else:
                yield message

    def _where(self) -> str:
        return f"the cluster at {self.address}" if self.address else "the cluster on this machine"

    def _lost(self) -> SamecastError:
        """Why the other process has ended, by its last words."""
        words = ""
        if self._log is not None:
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 4000))
            lines = [line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
            words = f": {_STAMP.sub('', lines[-1]):.200}" if lines else ""
        return SamecastError(f"{self._where()} was lost; what is finished is kept{words}")

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
    """The cluster that this very process has joined, if it has."""
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
    """The cluster that `auto` means, if Ray lets us know it: it keeps the address of one that may be gone."""
    try:
        from ray._private.services import canonicalize_bootstrap_address

        return canonicalize_bootstrap_address("auto")
    except Exception:
        return None


def _environment() -> dict[str, str]:
    """Where the other process, and workers of a cluster that it starts, find this very samecast."""
    paths = [str(Path(__file__).parents[3]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    # Ours to decide where GPUs are not asked for; Ray would hide them, and says so in a warning of its own.
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
