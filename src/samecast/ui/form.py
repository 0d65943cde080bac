"""A form as a command line: fields are the options of a command's own dataclass, and values become its words."""

import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from samecast.attention.methods import METHODS, START
from samecast.attention.modes.base import Masked
from samecast.attention.rule import Rules
from samecast.checked import Leaf, leaves
from samecast.cli.options.render import RenderOptions
from samecast.cli.parsing import options_of, parse
from samecast.cli.words import Command
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.engine.choices import make_rules, spelt
from samecast.errors import SamecastError

Values = Mapping[str, Any]
"""Values by option: text, a number, a truth, or several texts where an option may be repeated; empty is not given."""
_OWN = {
    *("--reference", "--mask", "--target-mask", "--rules", "--out", "--again", "--verbose", "--model", "--device"),
    *("--dtype", "--lora", "--concept", "--noun", "--method", "--seed", "--prediction-type", "--init"),
    *("--num-images-per-prompt", "--negative-prompt", "--height", "--width"),
}
"""Options that have a place of their own on the page, or none."""


_PARSING = threading.Lock()
"""The parser captures the process's stderr, so that it reads one form at a time."""


def words_of(command: str, values: Values, inputs: Sequence[str] = ()) -> list[str]:
    """The words of a command line, as `samecast` takes them.

    Args:
        command: such as `render`.
        values: of its options.
        inputs: what stands without a name, such as prompts; nothing in them is taken for an option.
    """
    kind = options_of(command)
    words = command.split()
    for leaf in leaves(kind):
        value = values.get(leaf.flag)
        if leaf.option.positional or value is None or value is False or value == "":  # 0 is a value
            continue
        several = value if isinstance(value, list | tuple) else (value,)
        for each in several:
            words += [leaf.flag] if each is True else _option(leaf.flag, _spelt(each))
    return [*words, *(["--"] if any(text.startswith("-") for text in inputs) else []), *inputs]


def _option(flag: str, value: str) -> list[str]:
    return [f"{flag}={value}"] if value.startswith("-") else [flag, value]


def _spelt(value: object) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def read_form(command: str, values: Values, inputs: Sequence[str] = ()) -> Any:
    """The options that a form says, read by the command line's own parser; its mistakes are SamecastErrors."""
    with _PARSING:
        return parse(words_of(command, values, inputs))


def command_of(words: Sequence[str]) -> str:
    """The command, to be copied into a terminal."""
    return shlex.join(["samecast", *words])


@dataclass(frozen=True)
class FormField:
    """One option as a field of a form.

    Args:
        flag: the option.
        label: for people.
        help: what it does.
        kind: what is typed.
        choices: to choose from.
        default: in words.
    """

    flag: str
    label: str
    help: str
    kind: Literal["text", "choice", "switch"]
    choices: tuple[str, ...]
    default: str


def expert_fields(kind: type[Command] = RenderOptions) -> tuple[FormField, ...]:
    """The options of a command that have no place of their own on the page."""
    return tuple(field for field in form_fields(kind) if field.flag not in _OWN)


def form_fields(kind: type[Command]) -> tuple[FormField, ...]:
    """All options of a command, but for those without a name."""
    return tuple(_field(leaf, kind) for leaf in leaves(kind) if not leaf.option.positional)


def _field(leaf: Leaf, kind: type[Command]) -> FormField:
    from samecast.cli.words import default_text

    plain = _plain(leaf.option.given_as or leaf.annotation)
    choices = get_args(plain) if get_origin(plain) is Literal else ()
    label = leaf.flag.removeprefix("--").replace("-", " ")
    shape: Literal["text", "choice", "switch"] = "switch" if plain is bool else "choice" if choices else "text"
    return FormField(
        leaf.flag,
        label[:1].upper() + label[1:],
        leaf.help.replace("`", ""),
        shape,
        tuple(map(str, choices)),
        default_text(leaf, kind),
    )


def _plain(annotation: Any) -> Any:
    while hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation


def method_sentences() -> dict[str, str]:
    """Each method as the command line names it, with the first sentence of what it is."""
    found: dict[str, str] = {}
    for name, method in METHODS.items():
        first = (method.__doc__ or "").splitlines()[0]
        found[spelt(name)] = first
    return found


METHOD_NAMES = tuple(map(spelt, METHODS))
PRESETS = {"balanced": 0.6, "closer to the photo": 1.0, "closer to the prompt": 0.2, "restyle": -1.0}
"""Where the slider stands; restyle is apart."""
RESTYLE = {"--start": 0.0, "--final": 0.4, "--layers": "encoder,decoder"}
"""The photo's layout and shapes form, and the last steps, which make surfaces, follow the prompt alone."""


def balance(position: float) -> dict[str, float]:
    """What the slider between prompt (0) and photo (1) says: how long the photo is read, and from when on.

    At 0.9 it is MasaCtrl's own: from 0.08 of the run to its end. Above, reading begins earlier; below, it ends earlier,
    which follows the prompt more closely (docs/study.md).
    """
    if position >= 0.9:
        start = round(START * (1 - position) / 0.1, 3)
        return {} if start == START else {"--start": start}
    return {"--final": min(0.99, round(0.3 + 0.7 * position / 0.9, 2))}


def values_of_rules(rules: Rules) -> dict[str, Any] | None:
    """The method and its options that come to these rules; None where no named method does."""
    if not rules:
        return {"--method": "none"}
    steps = rules[0].steps
    if steps.only is not None:
        return None
    where = {"start": steps.start, "final": steps.final, "skip": steps.skip, "stride": steps.stride}
    given: dict[str, Any] = {"layers": rules[0].layers, **{name: v for name, v in where.items() if v is not None}}
    tokens = rules[0].mode.masks_from if isinstance(rules[0].mode, Masked) else None
    if isinstance(tokens, SubjectTokens) and tokens.steps == SubjectTokens().steps:
        of_tokens = {"map_words": tokens.phrase, "map_layers": tokens.layers, "threshold": tokens.threshold}
        of_tokens |= {"map_average": tokens.average} if tokens.average != "steps" else {}
        given |= {name: value for name, value in of_tokens.items() if value}
    for name in METHODS:
        try:
            if make_rules(name, given) == rules:
                options = {"--" + key.replace("_", "-"): value for key, value in given.items()}
                return {"--method": spelt(name), **options}
        except SamecastError:
            continue
    return None


def values_of_settings(settings: RenderSettings) -> dict[str, Any]:
    """The options that come to these settings, where they differ from the defaults."""
    default, of = RenderSettings(), {leaf.path[-1]: leaf for leaf in leaves(RenderSettings)}
    values: dict[str, Any] = {}
    for each in fields(RenderSettings):
        value = getattr(settings, each.name)
        if value != getattr(default, each.name) and not isinstance(value, tuple):
            values[of[each.name].flag] = True if isinstance(value, bool) else value
    return values


def lines(text: object) -> tuple[str, ...]:
    """The prompts in a text, one a line."""
    return tuple(line.strip() for line in str(text or "").splitlines() if line.strip())


def weighted(strengths: Mapping[str, Any] | None, shown: Any) -> list[str]:
    """Concepts or LoRAs with a strength above nothing, as their option says them."""
    found: list[str] = []
    for name, strength in (strengths or {}).items():
        number = float(strength) if isinstance(strength, int | float) else 0.0
        if number:
            path = shown(*Path(name).parts)
            found.append(path if number == 1 else f"{path}:{number:g}")
    return found
