"""`samecast render`: options to a run, and `--again`: a record to the same run.

torch comes with `sc.load`, after everything that can be checked without it, so that most mistakes are told at once.
"""

import logging
import warnings
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import samecast as sc
from samecast.attention.methods import METHODS
from samecast.attention.rule import Rules
from samecast.attention.rule_files import read_rules
from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.common import sides_of
from samecast.cli.options.render import RenderOptions
from samecast.cli.runs import Run, compare, recorded, run_again
from samecast.core.prompts import check_prompts
from samecast.disk import check_writable
from samecast.errors import SamecastError
from samecast.photos import looks_like_photo, open_photo
from samecast.records import save_run, slug

_log = logging.getLogger(__name__)
_OF_METHODS = ("start", "final", "skip", "stride", "layers", "weight", "dropout", "anchor", "consistency")


def run_render(options: RenderOptions) -> bool:
    """Render, write the folder, say where it is; False if a repeated run differs from its record.

    Raises:
        SamecastError: something that was asked for cannot be done.
    """
    record = recorded(options)
    run = _run_of(options) if record is None else run_again(record, options)
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
    folder = save_run(result, run.out)
    for warning in result.warnings:
        notify(warning)
    if folder != run.out.absolute():
        notify(f"{run.out} is there already and was left alone")
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
    """The model with its concepts, and what may be wrong with these."""
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
    """How well each photo survived, and whether all measures could be taken."""
    from samecast.render.quality import lpips_missing

    for what, measured in (("the autoencoder alone", result.autoencoder), ("plain inversion", result.inversion)):
        for number, fidelity in enumerate(measured, start=1):
            RESULTS.print(f"reference {number} through {what}: {fidelity}")
    if result.autoencoder and lpips_missing():
        RESULTS.print(f"LPIPS was not measured: {lpips_missing()}")


def _run_of(options: RenderOptions) -> Run:
    """The run that the options describe; what can be wrong without a model is found here."""
    rules = rules_of(options)
    free = options.init in ("noise", 1.0) and not any(rule.reads_source for rule in rules)
    if options.reference:
        references, prompts = tuple(str(photo) for photo in options.reference), options.inputs
        if not prompts:
            raise SamecastError('give a prompt beside --reference, such as "a dog running on the beach"')
    else:
        references, prompts = split_inputs(options.inputs, without=free or bool(options.source_prompt))
    check_prompts(prompts)
    for photo in (*references, *options.mask, *options.target_mask):
        open_photo(photo)
    if options.mask and len(options.mask) != len(references):
        raise SamecastError(f"{len(references)} photos need as many --mask; got {len(options.mask)}")

    def spelt(text: str) -> str:  # a generated source has no Subject, whose noun the model would fill in
        return text if references or not options.noun else text.replace("{noun}", options.noun)

    name = slug(Path(references[0]).stem if references else spelt(prompts[0]))
    return Run(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        lora=options.lora,
        concepts=options.concept,
        subject=sc.Subject(references, options.noun, options.mask) if references else None,
        prompts=tuple(spelt(prompt) for prompt in prompts),
        rules=rules,
        settings=sc.RenderSettings(
            steps=options.steps,
            guidance_scale=options.guidance,
            guidance_rescale=options.guidance_rescale,
            seed=options.seed,
            init=options.init,
            negative_prompt=spelt(options.negative_prompt),
            images_per_prompt=options.images_per_prompt,
            **sides_of(options),
            fit=options.fit,
            source_prompt=spelt(options.source_prompt),
            pairing=options.pairing,
            replay=not options.no_replay,
            fixed_point=options.fixed_point,
            check_inversion=options.check_inversion,
            source_memory=options.source_memory,
            batch_rows=options.batch_rows,
        ),
        out=options.out or Path("renders") / name,
        target_masks=options.target_mask,
        prediction_type=options.prediction_type,
    )


def split_inputs(
    inputs: tuple[str, ...], *, without: bool = False, command: str = "render"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The photos and the prompts.

    Args:
        inputs: both, in this order.
        without: whether the photo may be left out, as with --source-prompt, or where neither rules nor pictures need
            one: then the first word names no file.
        command: that they are for.

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
    # The first is a photo, whatever it is called; more are photos while they look like some.
    count = next((at for at, word in enumerate(inputs) if at and not _names_a_photo(word)), len(inputs))
    if count == len(inputs):
        raise SamecastError("all that was given are photos: give a prompt after them")
    return inputs[:count], inputs[count:]


def _names_a_photo(word: str) -> bool:
    try:
        return looks_like_photo(word) or Path(word).is_file()
    except (OSError, ValueError):
        return False


def rules_of(options: RenderOptions) -> Rules:
    """The rules that the options ask for.

    Raises:
        SamecastError: an option has no effect with the method, or is out of range.
    """
    if options.rules is not None:
        return _rules_in(options, options.rules)
    given: dict[str, Any] = {name: getattr(options, name) for name in _OF_METHODS if getattr(options, name) is not None}
    if options.method == "none" and given:
        raise SamecastError(f"--{next(iter(given))} has no effect with --method none: leave one of them out")
    method = METHODS[options.method.replace("-", "_")]
    for name in given:
        if name not in signature(method).parameters:
            takers = [other.replace("_", "-") for other, of in METHODS.items() if name in signature(of).parameters]
            raise SamecastError(f"--{name} has no effect with --method {options.method}: it is for {', '.join(takers)}")
    looked = {"phrase": options.map_words, "layers": options.map_layers, "threshold": options.threshold}
    tokens: dict[str, Any] = {name: value for name, value in looked.items() if value is not None}
    takes = signature(method).parameters.get("tokens")
    if tokens and takes is None:
        flags = {"phrase": "--map-words", "layers": "--map-layers", "threshold": "--threshold"}
        raise SamecastError(
            f"{flags[next(iter(tokens))]} has no effect with --method {options.method}, which does not look for the"
            " subject; masactrl-auto-masked and dream-matcher do"
        )
    if tokens and takes is not None:
        given["tokens"] = replace(takes.default, **tokens)
    return method(**given)


def _rules_in(options: RenderOptions, file: Path) -> Rules:
    """The rules of a file, which leaves nothing for the method's options to say."""
    default = RenderOptions()
    spoken = ("method", *_OF_METHODS, "map_words", "map_layers", "threshold")
    given = [f"--{name.replace('_', '-')}" for name in spoken if getattr(options, name) != getattr(default, name)]
    if given:
        raise SamecastError(f"--rules tells all that {', '.join(given)} would: leave one of them out")
    return read_rules(file)
