"""`samecast learn`: options to settings, a bar with the loss, and where the concept is."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samecast.cli.console import RESULTS, notify, quiet_libraries, stages, working
from samecast.cli.options.learn import (
    CustomDiffusionOptions,
    DreamboothOptions,
    LoraOptions,
    SharedOptions,
    TextualInversionOptions,
)
from samecast.disk import check_writable
from samecast.errors import SamecastError
from samecast.photos import open_photo
from samecast.records import slug

if TYPE_CHECKING:
    from samecast.learn.lists import ToLearn
    from samecast.learn.settings import LearnSettings, Method

_METHODS: dict[type[SharedOptions], "Method"] = {
    CustomDiffusionOptions: "custom-diffusion",
    TextualInversionOptions: "textual-inversion",
    LoraOptions: "lora",
    DreamboothOptions: "dreambooth",
}


def run_learn(options: SharedOptions) -> None:
    """Learn, write the folder, say where the concept is and how to use it.

    Raises:
        SamecastError: something that was asked for cannot be done.
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
        model = load(options.model, device=devices.device or options.device, dtype=options.precision)
    watching = Watching(options.show_every, options.show, options.tensorboard)
    try:
        with stages(shown=devices.is_main) as report:
            done = learn(model, subjects, settings, out, watching=watching, devices=devices, progress=report)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it was") from None
    if not devices.is_main:
        return
    if done.found:
        notify(f"{done.file.parent} holds this run already, finished: nothing was done")
    elif done.file.parent.absolute() != out.absolute():
        notify(f"{out} holds another run and was left alone")
    words = " ".join(f"{subject.token} {subject.noun}".strip() for subject in subjects[:1])
    RESULTS.print(
        f"{done.file} ({done.file.stat().st_size / 1e6:.1f} MB, {done.steps} steps in {done.seconds:.0f} s, loss"
        f" {done.loss:.3f})",
    )
    on = "" if options.model == "diorama" else f" --model {shlex.quote(options.model)}"
    RESULTS.print(
        f"samecast render --concept {shlex.quote(str(done.file))}{on} --method none --init noise"
        f' "a {words} on the beach"',
    )


def settings_of(options: SharedOptions) -> "LearnSettings":
    """The settings that the options come to.

    Raises:
        SamecastError: one is out of its range.
    """
    from samecast.learn.settings import LearnSettings, default_settings

    # The name of the embedded model, written out: its module brings torch.
    defaults = default_settings(_METHODS[type(options)], embedded=options.model == "diorama")
    given: dict[str, Any] = {
        field.name: getattr(options, field.name)
        for field in fields(LearnSettings)
        if getattr(options, field.name, None) is not None
    }
    given["flip"] = not options.no_flip
    given["varied"] = options.varied or defaults.varied
    settings = replace(defaults, **given)
    _check_idle(options, settings)
    return settings


def _check_idle(options: SharedOptions, settings: "LearnSettings") -> None:
    """Refuses options that would do nothing."""
    reasons = {
        "class_photos": "" if settings.preserves else "there is no prior to preserve: add --prior-weight 1",
        "class_images": "" if settings.preserves else "there is no prior to preserve: add --prior-weight 1",
        "views": "" if settings.augment == "scale" else "photos are not augmented: add --augment scale",
    }
    if settings.method == "textual-inversion":
        idle = "textual inversion trains no weights; its rate is --token-rate"
        reasons |= {"learning_rate": idle, "weight_decay": idle}
    for name, reason in reasons.items():
        if reason and getattr(options, name, None) is not None:
            raise SamecastError(f"--{name.replace('_', '-')} has no effect: {reason}")


def subjects_of(options: SharedOptions) -> "tuple[ToLearn, ...]":
    """The subjects that the options name.

    Raises:
        SamecastError: they name none, or photos and a list at once.
    """
    from samecast.learn.lists import from_folder, from_list

    if (options.photos is None) == (options.list is None):
        raise SamecastError("give either --photos, a folder, with --noun, or --list, a file such as concepts_list.json")
    if options.photos is not None:
        if options.entry is not None:
            raise SamecastError("--entry picks from a list: it goes with --list, not with --photos")
        return (from_folder(options.photos, options.noun, token=options.token, class_folder=options.class_photos),)
    default = SharedOptions()
    wrong = [name for name in ("noun", "token", "class_photos") if getattr(options, name) != getattr(default, name)]
    if wrong or options.list is None:
        raise SamecastError(f"a list says that itself: leave out --{wrong[0].replace('_', '-')}")
    return from_list(options.list, options.entry)


def _name(options: SharedOptions, subjects: "tuple[ToLearn, ...]") -> str:
    where = options.photos or subjects[0].photos[0].parent
    names = (
        [slug(where.absolute().name)] if len(subjects) == 1 else [slug(each.noun or each.token) for each in subjects]
    )
    return "-".join([*names, _METHODS[type(options)]])
