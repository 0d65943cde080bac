"""`samecast study`: runs or resumes a grid of settings."""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from samecast.checked import read_yaml
from samecast.cli.console import RESULTS, notify, quiet_libraries, working
from samecast.cli.executors import device_here, make_executor
from samecast.cli.options.study import StudyOptions
from samecast.cli.watching import report_failures, watching
from samecast.disk import absolute, check_writable, lasting
from samecast.errors import SamecastError
from samecast.metrics import DEFAULT, leading, metric_types
from samecast.study.axes import BASE, parse_axis, read_axis, read_value
from samecast.study.grid import Grid, factorial
from samecast.study.presets import fitted, preset_grid

if TYPE_CHECKING:
    from samecast.experiments.executors.ray import RayExecutor
    from samecast.experiments.work import Outcome
    from samecast.render import Model
    from samecast.study.folder import StudyFolder
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.unit import ExecutionConfig, StudyUnit, Tally

_WITH_RESUME = (
    "resume",
    "metrics",
    "model",
    "executor",
    "workers",
    "address",
    "wait",
    "batch_rows",
    "checkpoint",
    "device",
)
"""Options allowed with `--resume`: scoring models, the model's present path, and how to run."""


def run_study_command(options: StudyOptions) -> bool:
    """Run or resume a study; False if pictures could not be made.

    Raises:
        SamecastError: a request cannot be fulfilled.
    """
    _check(options)
    grid = None if options.resume else grid_of(options)
    given = None if options.annotations is None else _read_subjects(options)
    if options.resume is None and not options.dry_run:
        check_writable(options.out, "folder")
    executor = make_executor(options)
    with working("loading the model"):
        import_module("samecast.study.publish")  # reports missing requirements before any work
        from samecast.study.folder import StudyFolder
        from samecast.study.job import rescore
        from samecast.study.unit import ExecutionConfig

        quiet_libraries()
        place = absolute(options.resume or options.out)
        moved = options.model if options.resume and options.model != StudyOptions.model else ""
        execution = ExecutionConfig(place, moved, options.device, options.batch_rows, options.checkpoint)
        folder = StudyFolder(place)
        model: Model | None = None
        if grid is None:
            folder.recipe()  # the model is loaded only if there is work left
            if options.metrics:
                rescore(folder, options.metrics)
        else:
            import samecast as sc

            # The workers have the devices: here the model only checks the settings.
            dtype = options.dtype if executor is None else "auto"
            model = sc.load(options.model, device=device_here(options), dtype=dtype)
    with nullcontext() if executor is None else executor:
        if grid is not None and model is not None:
            if not options.axis and not options.config:
                grid = fitted(grid, len(model.backbone.self_attention()))
            recipe = _asked(options, grid)
            if options.dry_run:
                _show_estimate(*_settled(options, recipe, given, model), model)
                return True
            _create(options, folder, recipe, given, model, executor)
        if executor is not None:
            model = None
        return _run(folder, execution, model, executor)


def _check(options: StudyOptions) -> None:
    """Checks that need nothing loaded."""
    if options.resume is not None and (given := options.flags(*_WITH_RESUME)):
        raise SamecastError(f"--resume takes the settings from the folder: leave out {', '.join(given)}")
    check_models(options.metrics, clip=options.clip, dino=options.dino)
    data = [f"--{name}" for name in ("subjects", "prompts", "repeats", "hidden") if (name,) in options.given]
    if options.annotations is not None and data:
        raise SamecastError(f"{', '.join(data)} apply to the bundled subjects: leave out one or the other")
    if options.repeats > 1 and options.photos == "first":
        raise SamecastError(
            f"--repeats {options.repeats} needs --photos each or together: only the first photo is read otherwise"
        )


def check_models(metrics: Sequence[str], **models: str) -> None:
    """Refuses metrics without a trade-off, and a scoring model that none of them uses.

    Args:
        metrics: metric names; empty for the default ones.
        models: scoring models by fields of `Models`; empty if none was named.

    Raises:
        SamecastError: a metric does not exist, none scores the prompt or the subject, or none uses a named model.
    """
    types = metric_types(metrics or DEFAULT)
    leading(types)
    for role, model in models.items():
        if model not in ("", "none") and not any(role in metric.asks for metric in types):
            raise SamecastError(f"--{role} is not used by {', '.join(metrics)}: leave it out, or add a metric")


def grid_of(options: StudyOptions) -> Grid:
    """The grid from the options.

    Raises:
        SamecastError: a preset comes with axes, or an axis cannot be read.
    """
    if options.preset is not None and (options.axis or options.config):
        raise SamecastError("--preset and axes exclude each other: leave out one of them")
    if options.only_seed and (options.axis or options.config):
        raise SamecastError("--only-seed goes with --preset aiku: leave out --only-seed or the axes")
    axes = [parse_axis(words) for words in options.axis]
    base: dict[str, Any] = {}
    if options.config is not None:
        data = _read_config(options.config)
        axes += [read_axis(field, values) for field, values in data.get("axes", {}).items()]
        base = {field: read_value(field, value) for field, value in data.get("base", {}).items()}
    if not axes:
        return preset_grid(options.preset or "aiku", options.settings.num_inference_steps, only_seed=options.only_seed)
    return factorial(axes, base, options.settings.num_inference_steps)


def _read_config(file: Path) -> dict[str, Any]:
    data = read_yaml(file, "YAML file of axes")
    sound = isinstance(data, dict) and set(data) <= {"axes", "base"}
    if not sound or not all(isinstance(part, dict) for part in data.values()) or not data.get("axes"):
        raise SamecastError(
            f"{str(file)!r} must hold `axes` and may hold `base`, each field: values, of {', '.join(BASE)}"
        )
    return data


def _read_subjects(options: StudyOptions) -> "tuple[StudySubject, ...]":
    from samecast.study.subjects import read_subjects

    assert options.annotations is not None
    subjects = read_subjects(options.annotations)
    several = [subject.name for subject in subjects if len(subject.references) > 1]
    if several and options.photos == "first":
        others = f" and {len(several) - 1} more" * (len(several) > 1)
        notify(f"of the photos of {several[0]}{others} only the first is read: --photos each or together reads all")
    return subjects


def _asked(options: StudyOptions, grid: Grid) -> "Recipe":
    from samecast.study.recipe import Recipe

    named = options.preset or ("own axes" if options.axis or options.config else "aiku")
    return Recipe(
        grid,
        options.settings,
        lasting(options.model),
        revision="",
        dtype="",
        photos=options.photos,
        seeds=options.seeds,
        clip=lasting(options.clip),
        dino=lasting(options.dino),
        metrics=options.metrics,
        title=f"study: {named}{', only what the seed tried' if options.only_seed else ''}",
    )


def _settled(
    options: StudyOptions,
    recipe: "Recipe",
    given: "tuple[StudySubject, ...] | None",
    model: "Model",
    dtype: str = "",
) -> "tuple[Recipe, tuple[StudySubject, ...]]":
    from samecast.study.job import settle
    from samecast.study.subjects import bundled

    subjects = given
    if subjects is None:
        with working("drawing the bundled subjects"):
            subjects = bundled(
                max(options.settings.height or 0, options.settings.width or 0) or model.backbone.default_size,
                subjects=options.subjects,
                prompts=options.prompts,
                photos=options.repeats,
                hidden=options.hidden,
            )
    return settle(recipe, subjects, model.backbone, dtype=dtype)


def _create(
    options: StudyOptions,
    folder: "StudyFolder",
    recipe: "Recipe",
    given: "tuple[StudySubject, ...] | None",
    model: "Model",
    executor: "RayExecutor | None",
) -> None:
    from samecast.experiments.executors import Watch
    from samecast.study.job import settled_dtype, write_down

    dtype = ""
    if executor is not None:
        # The workers' devices decide what `auto` means.
        dtype = executor.ask(partial(settled_dtype, options.device, options.dtype), Watch(message=notify))
    recipe, subjects = _settled(options, recipe, given, model, dtype)
    with working("checking the scorers and reading the photos"):
        write_down(folder, recipe, subjects)


def _run(
    folder: "StudyFolder", execution: "ExecutionConfig", model: "Model | None", executor: "RayExecutor | None"
) -> bool:
    from samecast.study.job import run_study
    from samecast.study.publish import publish

    with watching("units") as showing:

        def finished(outcome: "Outcome[StudyUnit, Tally]", count: int, total: int) -> None:
            showing.finished(outcome.unit.name, count, total)

        backbone = None if model is None else model.backbone
        ran = run_study(
            folder, execution, executor=executor, backbone=backbone, watch=showing.watch(), finished=finished
        )
    made, failed, evaluations = (
        sum(getattr(tally, name) for tally in ran.tallies) for name in ("made", "failed", "evaluations")
    )
    # Before the table, which may not fit on a full disk.
    data = f", {failed} not made" if failed else ""
    data += f", {ran.failed} units failed" if ran.failed else ""
    RESULTS.print(f"{made} pictures made, {ran.kept} kept{data}, {evaluations} evaluations")
    with working("drawing"):
        found = publish(folder)
    RESULTS.print(f"{found.count} rows of scores")
    for name in ("index.html", "scores.parquet", "scores.csv", "figures"):
        RESULTS.print(str(folder.path / name), markup=False)
    failures = folder.failures()
    report_failures(failures, folder.path / "failures")
    return not failures and not found.missing


def _show_estimate(recipe: "Recipe", subjects: "tuple[StudySubject, ...]", model: "Model") -> None:
    from samecast.study.estimate import estimate

    with working("timing a few calls"):
        data = estimate(recipe, subjects, model.backbone)
    table = Table(title="dry run", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("subjects", f"{data.subjects}"),
        ("runs per prompt and photo", f"{data.runs:,}"),
        ("of these, distinct", f"{data.distinct:,}"),
        ("nodes of their shared tree", f"{data.nodes:,}"),
        ("trees", f"{data.trees:,}"),
        ("evaluations", f"{data.evaluations:,}"),
        ("evaluations, each run separately", f"{data.alone:,}"),
        ("minutes of denoising here", f"{data.seconds / 60:.1f}"),
        ("memory for a photo's trajectory", f"{data.trajectory_bytes / 2**20:,.0f} MiB"),
        ("memory for a full batch", f"{data.batch_bytes / 2**20:,.0f} MiB"),
    ):
        table.add_row(name, value)
    RESULTS.print(table)
