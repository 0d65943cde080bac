"""`samecast study`, `study status` and `study report`: a grid of settings run, watched, and written up."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from samecast.checked import read_yaml
from samecast.cli.console import RESULTS, quiet_libraries, remark, stages, working
from samecast.cli.options.study import StudyOptions, StudyReportOptions, StudyStatusOptions
from samecast.disk import absolute, check_writable, lasting
from samecast.errors import SamecastError
from samecast.study.axes import BASE, parse_axis, read_axis, read_value
from samecast.study.grid import Grid, factorial, fitted, preset_grid

if TYPE_CHECKING:
    from samecast.executors import Executor
    from samecast.render import Model
    from samecast.study.folder import StudyFolder
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.unit import Bench

_MOST_FAILURES = 5
_WITH_RESUME = ("resume", "model", "executor", "workers", "address", "batch_rows", "checkpoint", "device")
"""What may be told again of a study that goes on: where its model lies now, and how to work."""


def run_study_command(options: StudyOptions) -> bool:
    """Run a study, or the rest of it; False if pictures could not be made.

    Raises:
        SamecastError: something that was asked for cannot be done.
    """
    _check(options)
    grid = None if options.resume else grid_of(options)
    given = None if options.annotations is None else _read_subjects(options)
    if options.resume is None and not options.dry_run:
        check_writable(options.out, "folder")
    with working("loading the model"):
        from samecast.study.folder import StudyFolder
        from samecast.study.unit import Bench, load_study_model

        quiet_libraries()
        place = absolute(options.resume or options.out)
        moved = options.model if options.resume and options.model != StudyOptions.model else ""
        bench = Bench(place, moved, options.device, options.batch_rows, options.checkpoint)
        folder = StudyFolder(place)
        if grid is None:
            folder.recipe()
            model = load_study_model(bench, folder)
        else:
            import samecast as sc

            model = sc.load(options.model, device=options.device, dtype=options.dtype)
    if grid is not None:
        if not options.axis and not options.config:
            grid = fitted(grid, len(model.backbone.self_attention()))
        recipe, subjects = _asked(options, grid, given, model)
        if options.dry_run:
            _tell_estimate(recipe, subjects, model)
            return True
        _create(folder, recipe, subjects, model)
    return _run(options, folder, bench, model)


def _check(options: StudyOptions) -> None:
    """What can be wrong before anything is loaded."""
    if options.resume is not None:
        default = StudyOptions()
        given = [
            f"--{field.name.replace('_', '-')}"
            for field in fields(options)
            if field.name not in _WITH_RESUME and getattr(options, field.name) != getattr(default, field.name)
        ]
        if given:
            raise SamecastError(f"--resume goes on with a study as it was: leave out {', '.join(given)}")
    if options.executor == "local" and (options.workers or options.address):
        raise SamecastError("--workers and --address go with --executor ray")
    if options.annotations is not None:
        default = StudyOptions()
        told = ("subjects", "prompts", "repeats", "hidden")
        given = [f"--{name}" for name in told if getattr(options, name) != getattr(default, name)]
        if given:
            raise SamecastError(f"{', '.join(given)} choose among the bundled subjects; annotations tell their own")
    if options.repeats > 1 and options.photos == "first":
        raise SamecastError(f"of {options.repeats} photos only the first would be read: add --photos each or together")


def grid_of(options: StudyOptions) -> Grid:
    """The grid that the options ask for.

    Raises:
        SamecastError: a preset comes with axes, or an axis cannot be read.
    """
    if options.preset is not None and (options.axis or options.config):
        raise SamecastError("--preset is a grid of its own: leave it out, or the axes")
    axes = [parse_axis(words) for words in options.axis]
    base: dict[str, Any] = {}
    if options.config is not None:
        told = _read_config(options.config)
        axes += [read_axis(field, values) for field, values in told.get("axes", {}).items()]
        base = {field: read_value(field, value) for field, value in told.get("base", {}).items()}
    if not axes:
        return preset_grid(options.preset or "aiku", options.steps)
    return factorial(axes, base, options.steps)


def _read_config(file: Path) -> dict[str, Any]:
    told = read_yaml(file, "YAML file of axes")
    sound = isinstance(told, dict) and set(told) <= {"axes", "base"}
    if not sound or not all(isinstance(part, dict) for part in told.values()) or not told.get("axes"):
        raise SamecastError(
            f"{str(file)!r} must hold `axes` and may hold `base`, each field: values, of {', '.join(BASE)}"
        )
    return told


def _read_subjects(options: StudyOptions) -> "tuple[StudySubject, ...]":
    from samecast.study.subjects import read_subjects

    assert options.annotations is not None
    subjects = read_subjects(options.annotations)
    several = [subject.name for subject in subjects if len(subject.references) > 1]
    if several and options.photos == "first":
        others = f" and {len(several) - 1} more" * (len(several) > 1)
        remark(f"of the photos of {several[0]}{others} only the first is read: --photos each or together reads all")
    return subjects


def _asked(
    options: StudyOptions, grid: Grid, given: "tuple[StudySubject, ...] | None", model: "Model"
) -> "tuple[Recipe, tuple[StudySubject, ...]]":
    import samecast as sc
    from samecast.study.job import settle
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import bundled

    settings = sc.RenderSettings(
        steps=options.steps,
        guidance_scale=options.guidance,
        guidance_rescale=options.guidance_rescale,
        seed=options.seed,
        init=options.init,
        size=options.size,
    )
    size = options.size or model.backbone.default_size
    subjects = given
    if subjects is None:
        with working("drawing the bundled subjects"):
            subjects = bundled(
                size,
                subjects=options.subjects,
                prompts=options.prompts,
                photos=options.repeats,
                hidden=options.hidden,
            )
    recipe = Recipe(
        grid,
        settings,
        lasting(options.model),
        revision="",
        dtype="",
        photos=options.photos,
        seeds=options.seeds,
        clip=lasting(options.clip),
        dino=lasting(options.dino),
        title=f"study: {options.preset or ('own axes' if options.axis or options.config else 'aiku')}",
    )
    return settle(recipe, subjects, model.backbone)


def _create(folder: "StudyFolder", recipe: "Recipe", subjects: "tuple[StudySubject, ...]", model: "Model") -> None:
    from samecast.study.job import prepare

    with working("checking the scorers"):
        prepare(folder.path, recipe, subjects, model.backbone)


def _run(options: StudyOptions, folder: "StudyFolder", bench: "Bench", model: "Model") -> bool:
    from samecast.study.job import run_study
    from samecast.study.publish import publish
    from samecast.study.scoring import load_scorers
    from samecast.study.unit import Tally

    with stages() as report:
        done: list[Tally] = []

        def finished(tally: Tally, subjects: int) -> None:
            done.append(tally)
            report("subjects", len(done), subjects)

        executor = _executor(options)
        backbone = model.backbone if executor is None else None
        if executor is not None:
            model.backbone.denoiser.to("cpu")  # the device is its workers'
        tallies = run_study(folder, bench, executor=executor, backbone=backbone, progress=report, finished=finished)
    recipe = folder.recipe()
    made, kept, failed, evaluations = (
        sum(getattr(tally, name) for tally in tallies) for name in ("made", "kept", "failed", "evaluations")
    )
    # Before the table, which a full disk may not take.
    told = f", {failed} not made" if failed else ""
    RESULTS.print(f"{made} pictures made, {kept} kept{told}, {evaluations} evaluations")
    with working("drawing"):
        scores = publish(folder, load_scorers(recipe.clip, recipe.dino))
    RESULTS.print(f"{len(scores.rows)} rows of scores")
    for name in ("index.html", "scores.parquet", "scores.csv", "figures"):
        RESULTS.print(str(folder.path / name))
    _tell_failures(folder)
    return not folder.failures() and not scores.missing


def _executor(options: StudyOptions) -> "Executor | None":
    if options.executor == "local":
        return None
    from samecast.executors.ray import RayExecutor

    return RayExecutor(options.workers, options.address)


def _tell_failures(folder: "StudyFolder") -> None:
    failures = folder.failures()
    for failure in failures[:_MOST_FAILURES]:
        remark(f"not made: {failure['subject']}, {failure['variant']}: {failure['reason']}")
    if len(failures) > _MOST_FAILURES:
        remark(f"{len(failures) - _MOST_FAILURES} more are told in {folder.path / 'failures'}")


def _tell_estimate(recipe: "Recipe", subjects: "tuple[StudySubject, ...]", model: "Model") -> None:
    from samecast.study.estimate import estimate

    with working("timing a few calls"):
        told = estimate(recipe, subjects, model.backbone)
    table = Table(title="what it would take", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("subjects", f"{told.subjects}"),
        ("runs for each picture's prompt and photo", f"{told.runs:,}"),
        ("of these distinct", f"{told.distinct:,}"),
        ("nodes of the tree they share", f"{told.nodes:,}"),
        ("trees", f"{told.trees:,}"),
        ("evaluations", f"{told.evaluations:,}"),
        ("evaluations, each run alone", f"{told.alone:,}"),
        ("minutes of denoising here", f"{told.seconds / 60:.1f}"),
        ("memory for a photo's trajectory", f"{told.trajectory_bytes / 2**20:,.0f} MiB"),
        ("memory for a full batch", f"{told.batch_bytes / 2**20:,.0f} MiB"),
    ):
        table.add_row(name, value)
    RESULTS.print(table)


def run_status(options: StudyStatusOptions) -> None:
    """Tell how far a study is.

    Raises:
        SamecastError: there is no study in the folder.
    """
    from samecast.study.folder import StudyFolder
    from samecast.study.job import status

    folder = StudyFolder(options.folder)
    told = status(folder)
    table = Table()
    for heading in ("subject", "finished", "of", "state"):
        table.add_column(heading, justify="left" if heading in ("subject", "state") else "right")
    for name, (done, total) in told.subjects.items():
        state = "finished" if done == total else "in progress" if name in told.in_progress else "to do"
        table.add_row(name, str(done), str(total), state)
    RESULTS.print(table)
    _tell_failures(folder)
    if not told.finished:
        RESULTS.print(f"samecast study --resume {options.folder}")


def run_report(options: StudyReportOptions) -> None:
    """Make a study's table, figures and page anew, and write its findings.

    Raises:
        SamecastError: there is no study in the folder, or the file cannot be written.
    """
    file = None if options.write is None else check_writable(options.write, "file")
    with working("drawing"):
        from samecast.backbones.loading import choose_device
        from samecast.study.folder import StudyFolder
        from samecast.study.publish import publish
        from samecast.study.scoring import load_scorers
        from samecast.study.write_up import write_up

        quiet_libraries()
        folder = StudyFolder(options.folder)
        recipe = folder.recipe()
        scores = publish(folder, load_scorers(recipe.clip, recipe.dino, str(choose_device(options.device))))
        if file is not None:
            write_up(folder, scores, file)
    RESULTS.print(str(file or folder.path / "index.html"))
