"""Work on a Ray cluster: whatever becomes of workers and of the cluster itself, it is told, and it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from samecast.errors import SamecastError
from samecast.experiments.executors import Watch
from samecast.experiments.executors.ray import RayExecutor
from samecast.experiments.runner import Ended, failures, run_units
from samecast.experiments.store import Store
from tests.experiments.makers import Doubler, Number, log_of

ROOT = Path(__file__).parents[2]
pytest.importorskip("ray")


def environment(*paths: Path, **others: str) -> dict[str, str]:
    given = [*map(str, paths), str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    # The clusters of these tests are this machine's own, and nobody is to join them.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(given), "RAY_AUTH_MODE": "disabled", **others}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers' worth of Ray on this machine, joined by this process, for all tests of this module."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0").items():
            patch.setenv(name, value)
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
        yield ray
        ray.shutdown()


def run(tmp_path: Path, units: list[Number], executor: RayExecutor, watch: Watch | None = None) -> Ended[Any]:
    store = Store(tmp_path / "store")
    with store.locked():
        return run_units(store, units, partial(Doubler, tmp_path / "log"), executor, watch)


def test_whatever_becomes_of_a_unit_it_is_told_and_the_others_are_worked_on(cluster: Any, tmp_path: Path) -> None:
    tempers = (*("long", "", "lost", "mistake", "unspeakable", "panic", "exit", "poison", "unsendable", "flaky"), "")
    units = [Number(number, temper) for number, temper in enumerate(tempers)]
    said: list[str] = []
    data: list[tuple[str, int, int]] = []
    watch = Watch(progress=lambda *how: data.append(how), message=said.append)
    ended = run(tmp_path, units, RayExecutor(2), watch)
    assert (sorted(ended.results), ended.failed) == ([0, 2, 4, 18, 20], 6)
    kept = {f["unit"]: (f["kind"], f["reason"], f["tries"]) for f in failures(Store(tmp_path / "store"))}
    assert "worker process has died" in kept["number 7"][1]
    assert {name: (kind, tries) for name, (kind, _, tries) in kept.items()} == {
        "number 3": ("SamecastError", 1),
        "number 4": ("UnspeakableError", 2),
        "number 5": ("PanicError", 2),
        "number 6": ("SystemExit", 2),
        "number 7": ("lost worker", 2),
        "number 8": ("TypeError", 2),
    }
    # A unit that is tried again waits for all others, and gets a process of its own making.
    worked = [words for _, words in log_of(tmp_path / "log") if words != "made"]
    assert [worked.count(str(n)) for n in range(11)] == [1, 1, 2, 1, 2, 2, 2, 2, 2, 2, 1]
    first = {words: at for at, words in reversed(list(enumerate(worked)))}
    again = {words: at for at, words in enumerate(worked)}
    assert min(again[str(n)] for n in (2, 4, 5, 6, 7, 8)) > max(first[str(n)] for n in range(9))
    processes = {words: [p for p, w in log_of(tmp_path / "log") if w == words] for words in worked}
    assert all(len(set(of)) == len(of) for of in processes.values())
    # One long unit is heard of while it is under way, and nothing is heard of it afterwards.
    assert {name for name, _, _ in data} == {"number 0"}
    assert any(0 < done < total for _, done, total in data)
    assert any("will be retried after the others" in line for line in said)


def test_workers_are_as_many_as_there_is_room_for_and_take_a_place_that_comes_free(
    cluster: Any, tmp_path: Path
) -> None:
    @cluster.remote(num_cpus=1)
    class Other:
        def ready(self) -> bool:
            return True

    other = Other.remote()
    cluster.get(other.ready.remote())
    try:
        done = run(tmp_path, [Number(n) for n in (1, 2, 4)], RayExecutor(5))
    finally:
        cluster.kill(other)
    assert sorted(done.results) == [2, 4, 8]
    assert len({process for process, _ in log_of(tmp_path / "log")}) == 1


def test_a_question_is_answered_where_units_are_worked_on(cluster: Any) -> None:
    with RayExecutor(1) as executor:
        assert executor.ask(os.getpid, Watch()) != os.getpid()

        def fail() -> None:
            raise SamecastError("no such device")

        with pytest.raises(SamecastError, match="no such device"):
            executor.ask(fail, Watch())


def test_waiting_for_room_is_told_and_ends(cluster: Any, tmp_path: Path) -> None:
    @cluster.remote(num_cpus=2)
    class Greedy:
        def ready(self) -> bool:
            return True

    greedy = Greedy.remote()
    cluster.get(greedy.ready.remote())
    said: list[str] = []
    began = time.monotonic()
    try:
        with pytest.raises(SamecastError, match=r"no worker had started after .* a worker needs 1 CPU, and 0 CPUs"):
            run(tmp_path, [Number(1)], RayExecutor(1, wait=8), Watch(message=said.append))
    finally:
        cluster.kill(greedy)
    assert time.monotonic() - began > 8
    assert any(line.startswith("waiting for room on the cluster: a worker needs 1 CPU") for line in said)
    assert not list(failures(Store(tmp_path / "store")))  # it was nobody's fault


def test_a_worker_that_cannot_be_made_ends_the_run_with_its_reason(cluster: Any, tmp_path: Path) -> None:
    def make(progress: object) -> Any:
        raise SamecastError("this worker has no access to the study")

    store = Store(tmp_path)
    with pytest.raises(SamecastError, match="no worker can be used: this worker has no access to"), store.locked():
        run_units(store, [Number(1), Number(2)], make, RayExecutor(2))


@pytest.mark.parametrize(
    ("address", "data"),
    [
        ("127.0.0.1:1", "no cluster answers at 127.0.0.1:1: Connection refused"),
        ("nowhere.invalid:6379", "no cluster answers at nowhere.invalid:6379"),
        ("ray://127.0.0.1:1", "no cluster answers at ray://127.0.0.1:1"),
        ("127.0.0.1", "must be auto or host:port"),
        ("127.0.0.1:port", "must be auto or host:port"),
        ("127.0.0.1:70000", "must be auto or host:port"),
    ],
)
def test_an_address_where_nobody_is_is_told_in_seconds(tmp_path: Path, address: str, data: str) -> None:
    began = time.monotonic()
    with pytest.raises(SamecastError) as caught:
        run(tmp_path, [Number(1)], RayExecutor(address=address))
    assert data in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 15


def test_a_port_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SamecastError, match=f"the cluster at {where} has not answered for 4 seconds"):
            run(tmp_path, [Number(1)], RayExecutor(address=where, wait=4))


@pytest.mark.parametrize("given", [{"workers": 0}, {"workers": -1}, {"wait": 0.0}, {"wait": float("nan")}])
def test_numbers_are_in_their_range(given: dict[str, Any]) -> None:
    with pytest.raises(SamecastError, match="must be"):
        RayExecutor(**given)


@pytest.fixture
def other_cluster(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A cluster in processes of its own, whose workers have a copy of samecast; its address, and the copy."""
    copy = tmp_path / "elsewhere" / "samecast"
    shutil.copytree(ROOT / "src" / "samecast", copy, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    words += [f"--port={port}", "--include-dashboard=false", "--disable-usage-stats", "--min-worker-port=0"]
    words += ["--max-worker-port=0", f"--temp-dir={Path('/tmp') / f'samecast-{port}'}"]
    head = subprocess.Popen(
        words, env=environment(copy.parent), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    assert head.stdout is not None
    said = b""
    for line in head.stdout:
        said += line
        if b"Ray runtime started" in line:
            break
    else:
        pytest.fail(said.decode())
    yield f"127.0.0.1:{port}", copy
    for process in [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]:
        process.kill()
    head.wait()
    head.stdout.close()
    shutil.rmtree(Path("/tmp") / f"samecast-{port}", ignore_errors=True)


def test_workers_of_another_version_are_refused_and_a_lost_cluster_is_told(
    other_cluster: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, copy = other_cluster
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # of Ray, 60 unless it is told otherwise
    file = copy / "errors.py"
    source = file.read_text()
    file.write_text(f"{source}\nCHANGED = True\n")
    with pytest.raises(SamecastError, match=r"has samecast .* but the job needs .*: install the same version"):
        run(tmp_path, [Number(1)], RayExecutor(address=address))
    assert not (tmp_path / "log").exists()  # nobody has worked in vain
    file.write_text(source)

    def lose(unit: Number) -> None:
        (gcs,) = (p for p in psutil.process_iter(["cmdline"]) if _is_gcs(p, address))
        gcs.kill()

    with pytest.raises(SamecastError, match=f"the cluster at {address} was lost; finished results are kept"):
        run(tmp_path, [Number(1, "long"), Number(2, "long")], RayExecutor(address=address), Watch(begun=lose))


def _is_gcs(process: psutil.Process, address: str) -> bool:
    words = process.info["cmdline"] or []
    return bool(words) and "gcs_server" in words[0] and f"--gcs_server_port={address.rpartition(':')[2]}" in words


PROGRAM = """
import sys
from functools import partial
from pathlib import Path
from samecast.experiments.executors.ray import RayExecutor
from samecast.experiments.runner import run_units
from samecast.experiments.store import Store
from tests.experiments.makers import Doubler, Number

place = Path(sys.argv[1])
store = Store(place / "store")
with store.locked():
    run_units(store, [Number(n, "long") for n in range(9)], partial(Doubler, place / "log"), RayExecutor(1))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_job_that_is_killed_or_interrupted_takes_its_cluster_with_it(tmp_path: Path, how: int) -> None:
    job = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "0-was-here").exists() and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    others = psutil.Process(job.pid).children(recursive=True)
    assert len(others) > 3
    job.send_signal(how)
    job.wait(60)
    _, alive = psutil.wait_procs(others, timeout=60)
    assert not alive
