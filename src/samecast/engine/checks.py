"""What can be wrong with a render before any work is done, and what will have no effect; each in one line."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from samecast.attention.rule import Rule, Rules
from samecast.core.settings import RenderSettings
from samecast.core.tokens import SubjectTokens
from samecast.engine.cast import Member
from samecast.errors import SamecastError


def check_source(rules: Rules, settings: RenderSettings, *, source: bool) -> None:
    """Refuses what needs a source where there is none, and pictures that would be one picture.

    Args:
        rules: who reads whom.
        settings: how to render.
        source: whether there is one, a photo or one to be generated.

    Raises:
        SamecastError: so it is.
    """
    if not source:
        if any(rule.reads_source for rule in rules):
            raise SamecastError("control needs a source to read: give a subject with a photo, or a source_prompt")
        if settings.noise_share < 1:
            raise SamecastError("there is no source to start from: give a subject or a source_prompt, or init='noise'")
    if settings.num_images_per_prompt > 1 and settings.noise_share == 0:
        raise SamecastError(
            f"num_images_per_prompt={settings.num_images_per_prompt} would repeat one picture: with init='inverted'"
            " nothing is random; use init='noise' or a blend such as 0.3"
        )


def check_rules(rules: Any) -> Rules:
    """One rule or several, as several.

    Raises:
        SamecastError: they are something else.
    """
    if isinstance(rules, Rule):
        return (rules,)
    if not isinstance(rules, (tuple, list)) or not all(isinstance(rule, Rule) for rule in cast(list[Any], rules)):
        raise SamecastError(f"rules must be a tuple of Rule, such as masactrl() gives; got {rules!r}")
    return tuple(cast(list[Rule], rules))


def check_one_batch(rules: Rules, targets: int, groups: int, batch_rows: int) -> bool:
    """Whether the targets have to be in one batch, for one reads another.

    Raises:
        SamecastError: they have, and it would be larger than allowed.
    """
    together = any(rule.reads_targets for rule in rules)
    if together and targets * groups > batch_rows:
        raise SamecastError(
            f"{targets} pictures that read each other are one batch of {targets * groups} rows, more than the"
            f" {batch_rows} allowed: render fewer, or set batch_rows={targets * groups} if memory allows"
        )
    return together


def wanted_masks(rules: Rules) -> tuple[bool, bool]:
    """Whether rules ask for given masks of the references, and of the pictures."""
    asking = [rule for rule in rules if rule.tokens == "given" and not rule.mode.by_subject]
    return any(rule.masks_sources for rule in asking), any(rule.masks_targets for rule in asking)


def check_subjects(rules: Rules, names: Sequence[str], shown: Collection[str], *, several: bool) -> None:
    """Refuses rules that name a subject that is not there, or cannot tell several apart, and subjects that are never
    named.

    Args:
        rules: who reads whom.
        names: of the subjects.
        shown: the names that prompts say.
        several: whether there is more than one subject.

    Raises:
        SamecastError: rules and subjects do not go together.
    """
    known = f"there are {', '.join(names)}" if names else "no subject has a name"
    for rule in rules:
        for name in rule.subjects:
            if name not in names:
                raise SamecastError(f"a rule reads the subject {name!r}, and there is none of that name: {known}")
        if several and isinstance(rule.tokens, SubjectTokens) and not rule.mode.by_subject:
            raise SamecastError(
                f"mode {rule.mode.name} looks for one subject, and there are {len(names)}: use the method cast, or give"
                " masks"
            )
    for name in names if several else ():
        if name not in shown and any(rule.mode.by_subject and rule.reads(name) for rule in rules):
            raise SamecastError(
                f"no prompt names {name}, so no picture would read its photos: write {{{name}}} in a prompt, or leave"
                " the subject out"
            )


def check_named_masks(
    rules: Rules, members: Sequence[Member], masks: Sequence[object] | Mapping[str, Sequence[object]]
) -> None:
    """Refuses masks of subjects that are not there, and the lack of those that rules cannot find.

    Args:
        rules: who reads whom.
        members: the named subjects.
        masks: given masks of pictures; of named subjects by name.

    Raises:
        SamecastError: they do not go together.
    """
    names, by_subject = [each.name for each in members], [rule for rule in rules if rule.mode.by_subject]
    if isinstance(masks, Mapping):
        known = f"there are {', '.join(names)}" if names else "no subject has a name"
        for name in masks:
            if name not in names:
                raise SamecastError(f"a mask is given of {name!r}, and no subject is called that: {known}")
        if masks and not by_subject:
            raise SamecastError("masks by a subject's name were given that no rule reads: use the method cast")
    elif by_subject and masks and len(members) > 1:
        raise SamecastError('there are several subjects: give target_masks by name, such as {"rex": mask}')
    lacking = [each.name for each in members if not each.masked_pictures] if members else [""] * (not masks)
    if lacking and any(rule.tokens == "given" for rule in by_subject):
        raise SamecastError(
            f"these rules need a mask of {lacking[0] or 'the subject'} in the pictures: give target_masks, or let them"
            " be found"
        )


def check_masks(
    wanted: tuple[bool, bool], *, references: int, targets: int, prompts: int, optional: bool = False
) -> None:
    """Refuses masks that are missing, that nobody reads, or that are not as many as the prompts.

    Args:
        wanted: whether rules ask for masks of the references, and of the pictures.
        references: masks given of references.
        targets: masks given of pictures; one stands for all.
        prompts: how many there are.
        optional: whether a rule takes masks where they are given.

    Raises:
        SamecastError: so it is.
    """
    for wants, count, what, where in (
        (wanted[0], references, "the references", "Subject(masks=...)"),
        (wanted[1], targets, "the pictures", "target_masks"),
    ):
        if wants and not count:
            raise SamecastError(f"these rules need masks of {what}: give {where}, or use a method that finds them")
        if count and not wants and not optional:
            raise SamecastError(f"masks of {what} were given that no rule reads: leave out {where}, or mask the method")
    if targets not in (0, 1, prompts):
        raise SamecastError(f"{prompts} prompts need one mask for all or as many masks; got {targets}")
