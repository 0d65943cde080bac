"""`samecast learn`: options to settings, a bar with the loss, and the path of the concept."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.learn import LearnOptions
from samecast.core.embedded import EMBEDDED
from samecast.disk import check_writable
from samecast.errors import SamecastError
from samecast.learn.settings import LearnSettings, default_settings
from samecast.photos import open_photo
from samecast.records import slug

if TYPE_CHECKING:
    from samecast.learn.lists import ToLearn


def run_learn(options: LearnOptions) -> None:
    """Learn a concept, write its folder, and print its path and a command that uses it.

    Raises:
        SamecastError: a request cannot be fulfilled.
    """
    settings = settings_of(options)
    subjects = subjects_of(options)
    out = options.out or Path("concepts") / _name(options, subjects)
    check_writable(out, "folder")
    for subject in subjects:
        for photo in (*subject.photos, *(path for path, _ in subject.class_photos)):
            open_photo(photo)
    with working("loading the model"):
        from samecast.learn.devices import find_devices
        from samecast.learn.job import learn
        from samecast.learn.watch import Watching
        from samecast.render import load

        quiet_libraries()
        devices = find_devices(options.device)
        model = load(options.model, device=devices.device or options.device, dtype=settings.precision)
    watching = Watching(options.show_every, options.show, options.tensorboard)
    try:
        with stages(shown=devices.is_main) as report:
            done = learn(model, subjects, settings, out, watching=watching, devices=devices, progress=report)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command resumes the run") from None
    if not devices.is_main:
        return
    if done.found:
        notify(f"{done.file.parent} already holds this run, finished: nothing was done")
    elif done.file.parent.absolute() != out.absolute():
        notify(f"{out} holds another run and was not changed")
    words = " ".join(f"{subject.token} {subject.noun}".strip() for subject in subjects[:1])
    RESULTS.print(
        f"{done.file} ({done.file.stat().st_size / 1e6:.1f} MB, {done.steps} steps in {done.seconds:.0f} s, loss"
        f" {done.loss:.3f})",
    )
    on = "" if options.model == EMBEDDED else f" --model {shlex.quote(options.model)}"
    RESULTS.print(
        f"samecast render --concept {shlex.quote(str(done.file))}{on} --method none --init noise"
        f' "a {words} on the beach"',
    )


def settings_of(options: LearnOptions) -> LearnSettings:
    """The settings from the options.

    Raises:
        SamecastError: one is out of range or has no effect.
    """
    data = options.data("settings")
    settings = options.settings
    if options.model != EMBEDDED:
        settings = replace(default_settings(options.method, embedded=False), **data)
    no_prior = "" if settings.preserves else "prior preservation is off: add --prior-weight 1"
    if no_prior and options.class_photos is not None:
        raise SamecastError(f"--class-photos has no effect: {no_prior}")
    reasons = {
        "class_images": no_prior,
        "views": "" if settings.augment == "scale" else "photos are not augmented: add --augment scale",
    }
    if settings.method == "textual-inversion":
        idle = "textual inversion trains no weights; its rate is --token-rate"
        reasons |= {"learning_rate": idle, "weight_decay": idle}
    for name, reason in reasons.items():
        if reason and name in data:
            raise SamecastError(f"--{name.replace('_', '-')} has no effect: {reason}")
    return settings


def subjects_of(options: LearnOptions) -> "tuple[ToLearn, ...]":
    """The subjects from the options.

    Raises:
        SamecastError: they name none, or both photos and a list.
    """
    from samecast.learn.lists import from_folder, from_list

    if (options.photos is None) == (options.list is None):
        raise SamecastError("give either --photos, a folder, with --noun, or --list, a file such as concepts_list.json")
    if options.photos is not None:
        if options.entry is not None:
            raise SamecastError("--entry goes with --list, not with --photos")
        return (from_folder(options.photos, options.noun, token=options.token, class_folder=options.class_photos),)
    wrong = [flag for path, flag in options.given.items() if path[0] in ("noun", "token", "class_photos")]
    if wrong or options.list is None:
        raise SamecastError(f"--list states it already: leave out {wrong[0]}")
    return from_list(options.list, options.entry)


def _name(options: LearnOptions, subjects: "tuple[ToLearn, ...]") -> str:
    where = options.photos or subjects[0].photos[0].parent
    names = (
        [slug(where.absolute().name)] if len(subjects) == 1 else [slug(each.noun or each.token) for each in subjects]
    )
    return "-".join([*names, options.method])
