"""`samecast tune`: searches for rules that suit one subject, prints the best trade-offs, writes the chosen rules."""

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from samecast.attention.rule_files import rules_file
from samecast.cli.console import RESULTS, notify, quiet_libraries, working
from samecast.cli.executors import device_here, lasting, make_executor
from samecast.cli.options.tune import TuneOptions
from samecast.cli.render import split_inputs
from samecast.cli.study import check_models
from samecast.cli.watching import watching
from samecast.core.prompts import check_prompts
from samecast.disk import absolute, check_writable, locked, sweep, write_text
from samecast.engine.targets import expand
from samecast.metrics import ALIGNMENT
from samecast.photos import open_photo
from samecast.study.axes import parse_axis
from samecast.study.grid import factorial
from samecast.study.presets import fitted

if TYPE_CHECKING:
    from samecast.study.recipe import Recipe
    from samecast.study.subjects import StudySubject
    from samecast.study.tune import Round, Tuning


def run_tune(options: TuneOptions) -> bool:
    """Run the search; False if pictures could not be made.

    Raises:
        SamecastError: a request cannot be fulfilled.
    """
    references, prompts = split_inputs(options.inputs, command="tune")
    check_prompts(prompts)
    check_models(options.metrics or ALIGNMENT, clip=options.clip)
    photos = tuple(open_photo(photo) for photo in references)
    out = absolute(options.out) if options.dry_run else check_writable(options.out, "folder")
    executor = make_executor(options)
    with working("loading the model"):
        import samecast as sc
        from samecast.experiments.executors import Watch
        from samecast.report.plots import save_figure
        from samecast.study.figures import best_front
        from samecast.study.job import settled_dtype
        from samecast.study.recipe import Recipe
        from samecast.study.subjects import StudySubject
        from samecast.study.tune import candidates, tune
        from samecast.study.unit import ExecutionConfig

        quiet_libraries()
        model = sc.load(options.model, device=device_here(options))
    axes = tuple(parse_axis(words) for words in options.axis)
    layers = len(model.backbone.self_attention())
    steps = options.settings.num_inference_steps
    grid = factorial(axes, {}, steps) if axes else fitted(candidates(steps), layers)
    data = tuple(dict.fromkeys(expand(prompt, options.noun) for prompt in prompts))
    subject = StudySubject(Path(references[0]).stem, data, photos, options.noun)
    repeat = "each" if len(photos) > 1 else "first"
    name = lasting(options.model)
    metrics = options.metrics or ALIGNMENT
    recipe = Recipe(
        grid, options.settings, name, "", "", photos=repeat, seeds=options.seeds, clip=options.clip, metrics=metrics
    )
    if options.dry_run:
        _show_rounds(recipe, subject)
        return True
    with locked(out), watching("units") as showing, nullcontext() if executor is None else executor:
        sweep([out])
        dtype = "" if executor is None else executor.ask(partial(settled_dtype, options.device, "auto"), Watch())
        found = tune(
            out,
            recipe,
            subject,
            model.backbone,
            weight=options.favour,
            execution=ExecutionConfig(out, device=options.device),
            executor=executor,
            dtype=dtype,
            watch=showing.watch(),
            round_done=_show_round,
        )
    _show_front(found)
    last, measures = found.rounds[-1], found.measures
    text, image = measures.points[found.chosen.name]
    why = {
        "chosen": found.chosen.name,
        measures.text.column: text,
        measures.image.column: image,
        "favour": options.favour,
        "front": list(found.front),
        "prompts": last.extent.prompts,
        "photos": last.extent.photos,
        "seeds": last.extent.seeds,
        "candidates": len(grid.variants),
        "model": options.model,
    }
    rules = json.dumps(rules_file(found.chosen.rules, why), indent=2)
    write_text(out / "rules.json", rules + "\n")
    save_figure(best_front(found.measures, found.grid, options.favour, found.scale), out / "front")
    file = options.out / "rules.json"
    RESULTS.print(f"chosen: {found.chosen.name}; samecast render ... --rules {file}")
    if found.failed:
        notify(f"{found.failed} pictures or units could not be made: see the folders failures in {out}")
    return not found.failed


def _show_round(done: "Round") -> None:
    notify(f"{len(done.candidates)} candidates tried on {done.extent}")


def _show_rounds(recipe: "Recipe", subject: "StudySubject") -> None:
    from samecast.study.tune import extent_of, rounds_of

    table = Table(title="dry run: rounds, if none fails", title_justify="left")
    for heading in ("candidates", "tried on", "pictures"):
        table.add_column(heading, justify="left" if heading == "tried on" else "right")
    for count, extent in rounds_of(len(recipe.grid.variants), extent_of(recipe, subject)):
        table.add_row(str(count), str(extent), f"{count * extent.prompts * extent.photos * extent.seeds:,}")
    RESULTS.print(table)


def _show_front(found: "Tuning") -> None:
    sides = (found.measures.text, found.measures.image)
    data = "; ".join(f"{metric.title}: {metric.description}" for metric in sides)
    table = Table(title=f"the best trade-offs; {data}", title_justify="left")
    for heading in ("setting", *(metric.title for metric in sides)):
        table.add_column(heading, justify="left" if heading == "setting" else "right")
    points = found.measures.points
    for name in found.front:
        text, image = points[name]
        table.add_row(name, f"{text:.3f}", f"{image:.3f}")
    RESULTS.print(table)
