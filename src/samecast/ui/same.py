"""The same run as Python: what the page shows to be copied, and what makes the same pictures."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from samecast.attention.methods import METHODS
from samecast.cli.options.render import RenderOptions
from samecast.cli.runs import Run
from samecast.core.embedded import EMBEDDED
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.subject import Subject, several_subjects

_LINE = 100


def python_of(run: Run, options: RenderOptions) -> str:
    """A program that makes the pictures of a run.

    Args:
        run: as the command line makes it of the options.
        options: which say the rules as a method's name and its arguments, or as a file.
    """
    imports, rules = _rules(run, options)
    load = [] if run.model == EMBEDDED else [repr(run.model)]
    for name in ("device", "dtype", "prediction_type"):
        if getattr(run, name) != "auto":
            load.append(f"{name}={getattr(run, name)!r}")
    load += [f"{name}={_text(list(of))}" for name, of in (("lora", run.lora), ("concepts", run.concepts)) if of]
    lines = [*imports, "import samecast as sc", "", f"model = sc.load({', '.join(load)})"]
    subjects = [_subject(each) for each in several_subjects(run.subject)]
    lines += [f"subject = {subjects[0]}"] if len(subjects) == 1 else []
    lines += [f"subjects = {_call('', subjects, '[]')}"] if len(subjects) > 1 else []
    subject = ("None", "subject")[len(subjects)] if len(subjects) < 2 else "subjects"
    prompts = "".join(f"    {prompt!r},\n" for prompt in run.prompts)
    lines.append(f"prompts = [\n{prompts}]")
    asked = [f"rules={rules}"]
    asked += [f"{name}={value!r}" for name, value in _changes(run.settings).items()]
    asked += [f"target_masks={_masks(run.target_masks)}"] if run.target_masks else []
    lines.append(f"result = {_call('model.render', [subject, 'prompts', *asked])}")
    lines.append(f"result.save({str(run.out)!r})")
    return "\n".join(lines) + "\n"


def _rules(run: Run, options: RenderOptions) -> tuple[list[str], str]:
    if options.rules is not None:
        imports = ["from pathlib import Path", "", "from samecast.attention.rule_files import read_rules"]
        return imports, f"read_rules(Path({str(options.rules)!r}))"
    given = options.data("method")
    name = str(given.pop("method", "masactrl")).replace("-", "_")
    known = inspect.signature(METHODS[name]).parameters
    asked = [f"{key}={value!r}" for key, value in given.items() if key in known]
    if len(asked) < len(given):  # the rest is of the words that are looked for
        tokens = next(rule.tokens for rule in run.rules if isinstance(rule.tokens, SubjectTokens))
        asked.append(f"tokens=sc.SubjectTokens({', '.join(f'{k}={v!r}' for k, v in _changes(tokens).items())})")
    return [], f"sc.{name}({', '.join(asked)})"


def _changes(instance: Any) -> Mapping[str, Any]:
    """The fields that differ from the defaults."""
    default = RenderSettings() if isinstance(instance, RenderSettings) else type(instance)()
    values = {each.name: getattr(instance, each.name) for each in fields(instance)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def _text(several: Any) -> str:
    texts = [repr(str(each) if isinstance(each, Path) else each) for each in several]
    return f"[{', '.join(texts)}]"


def _subject(subject: Subject) -> str:
    asked = [f"references={_text(subject.references)}"]
    asked += [f"class_noun={subject.class_noun!r}"] if subject.class_noun else []
    asked += [f"masks={_text(subject.masks)}"] if subject.masks else []
    asked += [f"name={subject.name!r}"] if subject.name else []
    return _call("sc.Subject", asked)


def _masks(masks: Any) -> str:
    if not isinstance(masks, Mapping):
        return _text(masks)
    return "{" + ", ".join(f"{name!r}: {_text(each)}" for name, each in masks.items()) + "}"


def _call(name: str, asked: list[str], brackets: str = "()") -> str:
    first, last = brackets
    line = f"{name}{first}{', '.join(asked)}{last}"
    return line if len(line) < _LINE else f"{name}{first}\n" + "".join(f"    {each},\n" for each in asked) + last
