"""`samecast render`: options to a run, and `--again`: a record to the same run.

torch is imported by `sc.load`, after everything that can be checked without it, so that most errors appear at once.
"""

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import samecast as sc
from samecast.attention.rule import Rules
from samecast.attention.rule_files import read_rules
from samecast.cli.cast import named_masks, read_subjects
from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.render import RenderOptions
from samecast.cli.runs import Run, compare, recorded, run_again
from samecast.core.prompts import check_prompts
from samecast.disk import check_writable
from samecast.engine.choices import DEFAULT, make_rules
from samecast.errors import SamecastError
from samecast.photos import looks_like_photo, open_photo
from samecast.records import slug

_log = logging.getLogger(__name__)


def run_render(options: RenderOptions) -> bool:
    """Render, write the folder, print its path; False if a repeated run differs from its record.

    Raises:
        SamecastError: a request cannot be fulfilled.
    """
    record = recorded(options)
    run = run_of(options) if record is None else run_again(record, options)
    check_writable(run.out)
    with working("loading the model"):
        if not options.verbose:
            quiet_libraries()
        model, fit_warnings = _load(run)
    for warning in fit_warnings:
        notify(warning)
    _log.info("model %s", model.backbone.identity)
    _log.info("rules %s", run.rules)
    _log.info("settings %s", run.settings)
    with stages() as report:
        result = model.render(
            run.subject,
            run.prompts,
            rules=run.rules,
            settings=run.settings,
            target_masks=run.target_masks,
            progress=report,
        )
    folder = result.save(run.out)
    for warning in result.warnings:
        notify(warning)
    if folder != run.out.absolute():
        notify(f"{run.out} exists and was not changed")
    if run.settings.check_inversion or options.verbose:
        _show_quality(result)
    count = len(result.renders)
    quality = "" if result.source_psnr is None else f", the photo reproduced at {result.source_psnr:.1f} dB"
    beside = "".join(
        f", {number} more {what}"
        for number, what in ((result.map_evaluations, "for maps"), (result.check_evaluations, "to check the inversion"))
        if number
    )
    RESULTS.print(f"{count} picture{'s' * (count > 1)} in {folder} ({result.evaluations} evaluations{beside}{quality})")
    return record is None or compare(record, result)


def _load(run: Run) -> tuple["sc.Model", list[str]]:
    """The model with its concepts, and warnings about these."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", sc.SamecastWarning)
        model = sc.load(
            run.model,
            device=run.device,
            dtype=run.dtype,
            lora=run.lora,
            concepts=run.concepts,
            revision=run.revision,
            prediction_type=run.prediction_type,
        )
    return model, [str(one.message) for one in caught if issubclass(one.category, sc.SamecastWarning)]


def _show_quality(result: "sc.RenderResult") -> None:
    """The reconstruction quality of each photo, and whether every measure was available."""
    from samecast.render.quality import lpips_missing

    for what, measured in (("the autoencoder alone", result.autoencoder), ("plain inversion", result.inversion)):
        for number, fidelity in enumerate(measured, start=1):
            RESULTS.print(f"reference {number} through {what}: {fidelity}")
    if result.autoencoder and lpips_missing():
        RESULTS.print(f"LPIPS was not measured: {lpips_missing()}")


def run_of(options: RenderOptions) -> Run:
    """The run that the options describe; all checks that need no model happen here."""
    if options.subject:
        return _cast_of(options)
    rules = rules_of(options)
    free = options.settings.noise_share == 1 and not any(rule.reads_source for rule in rules)
    if options.reference:
        references, prompts = tuple(str(photo) for photo in options.reference), options.inputs
        if not prompts:
            raise SamecastError('give a prompt beside --reference, such as "a dog running on the beach"')
    else:
        references, prompts = split_inputs(options.inputs, without=free or bool(options.settings.source_prompt))
    check_prompts(prompts)
    for photo in (*references, *options.mask, *options.target_mask):
        open_photo(photo)
    if options.mask and len(options.mask) != len(references):
        raise SamecastError(f"{len(references)} photos need {len(references)} --mask; got {len(options.mask)}")

    def spelt(text: str) -> str:  # without a photo there is no Subject whose noun would be filled in
        return text if references or not options.noun else text.replace("{noun}", options.noun)

    name = slug(Path(references[0]).stem if references else spelt(prompts[0]))
    subject = sc.Subject(references, options.noun, options.mask) if references else None
    return replace(
        _plain_run(options, subject, rules, name),
        prompts=tuple(spelt(prompt) for prompt in prompts),
        settings=replace(
            options.settings,
            negative_prompt=spelt(options.settings.negative_prompt),
            source_prompt=spelt(options.settings.source_prompt),
        ),
        target_masks=options.target_mask,
    )


def _cast_of(options: RenderOptions) -> Run:
    """The run of named subjects that the options describe."""
    if options.reference or options.noun:
        other = "--reference" if options.reference else "--noun"
        raise SamecastError(f"--subject says photos and noun of each subject: leave out {other}")
    subjects = read_subjects(options.subject, options.mask)
    masks = named_masks(options.target_mask, "--target-mask", [each.name for each in subjects])
    check_prompts(options.inputs)
    if not options.inputs:
        raise SamecastError('give a prompt beside --subject, such as "a {rex} on the beach"')
    for photo in options.inputs if len(options.inputs) > 1 else ():
        if _names_a_photo(photo):
            raise SamecastError(f"{photo!r} is a photo, and --subject says whose: give it there")
    of_subjects = (file for each in subjects for file in (*each.references, *each.masks))
    for file in (*of_subjects, *(file for files in masks.values() for file in files)):
        open_photo(str(file))
    asked = {path[-1] for path in options.given if path[0] in ("method", "settings")}
    several = len(subjects) > 1
    rules = rules_of(options, "cast" if several else DEFAULT)
    run = _plain_run(options, subjects, rules, slug("-".join(each.name for each in subjects)))
    settings = options.settings
    if "init" in asked and settings.init == "inverted" and several:
        settings = replace(settings, init=0.0)  # as asked for, in place of the default of several
    return replace(run, prompts=options.inputs, settings=settings, target_masks=masks)


def _plain_run(
    options: RenderOptions, subject: "sc.Subject | tuple[sc.Subject, ...] | None", rules: Rules, name: str
) -> Run:
    """A run without what depends on how its subjects were said."""
    return Run(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        lora=options.lora,
        concepts=options.concept,
        subject=subject,
        prompts=(),
        rules=rules,
        settings=options.settings,
        out=options.out or Path("renders") / name,
        prediction_type=options.prediction_type,
    )


def split_inputs(
    inputs: tuple[str, ...], *, without: bool = False, command: str = "render"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The photos and the prompts.

    Args:
        inputs: both, in this order.
        without: whether the photo may be left out, as with --source-prompt, or if neither rules nor initial noise
            need one; the first word then names no file.
        command: the command's name.

    Raises:
        SamecastError: one of the two is missing.
    """
    if not inputs:
        raise SamecastError(f'give a photo and a prompt: samecast {command} photo.png "a dog running on the beach"')
    if without and not _names_a_photo(inputs[0]):
        return (), inputs
    if len(inputs) == 1:
        else_generated = ", or --source-prompt" if command == "render" else ""
        missing = "a prompt" if _names_a_photo(inputs[0]) else f"a photo before the prompt{else_generated}"
        raise SamecastError(f"{inputs[0]!r} is not enough: give {missing}")
    # The first is a photo, whatever its name; those that follow are photos while they look like image files.
    count = next((at for at, word in enumerate(inputs) if at and not _names_a_photo(word)), len(inputs))
    if count == len(inputs):
        raise SamecastError("got photos only: give a prompt after them")
    return inputs[:count], inputs[count:]


def _names_a_photo(word: str) -> bool:
    try:
        return looks_like_photo(word) or Path(word).is_file()
    except (OSError, ValueError):
        return False


def rules_of(options: RenderOptions, default: str = DEFAULT) -> Rules:
    """The rules from the options; those of the default method where they name none.

    Raises:
        SamecastError: an option has no effect with the method, or is out of range.
    """
    flags = {path[1]: flag for path, flag in options.given.items() if path[0] == "method"}
    if options.rules is not None:
        if flags:
            raise SamecastError(f"--rules replaces {', '.join(flags.values())}: leave out one or the other")
        return read_rules(options.rules)
    given = options.data("method")
    method: str = given.pop("method", default)
    return make_rules(method, given, flags)
