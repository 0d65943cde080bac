"""Shared by `samecast compare` and `samecast diorama benchmark`: a contest run on a device or a cluster."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from samecast.cli.console import RESULTS, notify, quiet_libraries, working
from samecast.cli.executors import device_here, make_executor
from samecast.cli.options.compare import CompareOptions
from samecast.cli.options.diorama import BenchmarkOptions
from samecast.cli.watching import report_failures, watching
from samecast.errors import SamecastError

if TYPE_CHECKING:
    from samecast.compare.benchmark import Benchmark
    from samecast.compare.job import Contest, Contested, ContestUnit
    from samecast.compare.methods import Method
    from samecast.diorama.benchmark import Case, DuoCase
    from samecast.experiments.work import Outcome


ContestOptions = BenchmarkOptions | CompareOptions


@dataclass(frozen=True)
class Asked:
    """The models and photos of a contest."""

    cases: "Sequence[Case]"
    methods: "Sequence[Method]"
    pairs: "Sequence[DuoCase]" = ()


def chosen_methods(methods: "Sequence[Method]", names: Sequence[str]) -> "tuple[Method, ...]":
    """The methods with the given names, each once; all methods if no name is given.

    Raises:
        SamecastError: no method has a given name.
    """
    known = {method.name: method for method in methods}
    for name in names:
        if name not in known:
            raise SamecastError(f"no method is called {name!r}; choose from {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names)) or tuple(methods)


def contested(options: ContestOptions, contest: "Contest", asked: Asked) -> "tuple[Benchmark, Contested] | None":
    """Runs or resumes a contest, and prints what failed; None for a dry run.

    Raises:
        SamecastError: it cannot be run.
    """
    executor = make_executor(options)
    with nullcontext() if executor is None else executor:
        with working("loading the model"):
            from samecast.experiments.executors import Watch
            from samecast.study.job import settled_dtype

            quiet_libraries()
            if executor is not None and contest.dtype == "auto":
                # The workers' devices decide what `auto` means, and every key includes it.
                dtype = executor.ask(partial(settled_dtype, options.device, contest.dtype), Watch(message=notify))
                contest = replace(contest, dtype=dtype)
            benchmark = replace(contest, device=device_here(options)).benchmark()
        if options.dry_run:
            _show(options.out, contest, benchmark, asked)
            return None
        from samecast.compare.job import run_contest

        with watching("units") as showing:

            def finished(outcome: "Outcome[ContestUnit, str]", count: int, total: int) -> None:
                showing.finished(outcome.unit.name, count, total)

            given: dict[str, Any] = {"executor": executor, "watch": showing.watch(), "finished": finished}
            found = run_contest(options.out, contest, benchmark, asked.cases, asked.methods, asked.pairs, **given)
    report_failures(found.failures, options.out / "failures")
    return benchmark, found


def _show(out: Path, contest: "Contest", benchmark: "Benchmark", asked: Asked) -> None:
    from samecast.compare.duos import WAYS, Duos
    from samecast.compare.job import units_of

    duos = None if contest.duos is None else Duos(benchmark, contest.duos)
    units = units_of(out.absolute(), benchmark, asked.cases, asked.methods, duos, asked.pairs)
    places = [(unit, place) for unit in units for place in unit.places]
    left = [(unit, place) for unit in units for place in unit.left(out.absolute(), benchmark)]
    unmade = [(unit, place) for unit, place in left if not place.is_dir()]
    trainings = {
        (case.name, method.learning) for unit, _ in unmade for case, method, _ in unit.parts if method.learning
    }
    table = Table(title="dry run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("units", len(units)),
        ("subjects and pairs, per method", len(places)),
        ("of these finished", len(places) - len(left)),
        ("pictures to make", len(unmade) * contest.prompts),
        ("trainings of a subject", len(trainings)),
        ("trainings of pairs", len({unit.name for unit, _ in unmade if unit.pair}) * (len(WAYS) - 1)),
    ):
        table.add_row(name, f"{value:,}")
    RESULTS.print(table)
