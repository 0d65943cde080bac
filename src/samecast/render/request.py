"""What a render is asked for, and the pictures that come with it, read as the model will see them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from PIL import Image

from samecast.attention.rule import Rules
from samecast.core.batch import Branch
from samecast.core.settings import RenderSettings
from samecast.engine.cast import Member, fill_in, members_of
from samecast.engine.checks import check_masks, check_named_masks, check_source, check_subjects, wanted_masks
from samecast.engine.given import GivenMask, read_mask
from samecast.engine.prepare import size_of
from samecast.engine.targets import Target, make_targets
from samecast.models.base import Backbone
from samecast.photos import fit_photo, open_photo, upright
from samecast.render.result import OutputType
from samecast.subject import Subject, several_subjects


@dataclass(frozen=True)
class Request:
    """One call of `Model.render`, as it was given.

    Args:
        subject: the subject to keep the same, or several with names; None where the source is generated, or where there
            is none.
        prompts: one scene each.
        rules: who reads whom.
        settings: how to render.
        target_masks: where the subject is to be in each prompt's pictures; of named subjects by name.
        output_type: the form of the result's pictures.

    Raises:
        SamecastError: rules or settings need a source that is not there, or would repeat one picture.
    """

    subject: Subject | Sequence[Subject] | None
    prompts: Sequence[str]
    rules: Rules
    settings: RenderSettings
    target_masks: tuple[GivenMask, ...] | Mapping[str, tuple[GivenMask, ...]] = ()
    output_type: OutputType = "pil"

    def __post_init__(self) -> None:
        check_source(self.rules, self.settings, source=bool(self.subjects) or self.generated)
        several = len(self.subjects) > 1
        shown = {name for target in self.targets() for name in target.branch.shows} if self.prompts else set[str]()
        check_subjects(self.rules, [member.name for member in self.members], shown, several=several)
        check_named_masks(self.rules, self.members, self.target_masks)

    @cached_property
    def subjects(self) -> tuple[Subject, ...]:
        """All subjects; several have names."""
        return several_subjects(self.subject)

    @property
    def masks_by_name(self) -> Mapping[str, tuple[GivenMask, ...]]:
        """Masks of named subjects in the pictures."""
        masks = self.target_masks
        if isinstance(masks, Mapping):
            return masks
        one = len(self.members) == 1 and masks and any(rule.mode.by_subject for rule in self.rules)
        return {self.members[0].name: masks} if one else {}

    @property
    def plain_masks(self) -> tuple[GivenMask, ...]:
        """Masks in the pictures of a subject without a name."""
        return () if isinstance(self.target_masks, Mapping) or self.masks_by_name else self.target_masks

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """The named subjects."""
        masked: Collection[str] = [each.name for each in self.subjects] if self.target_masks else ()
        masked = self.target_masks if isinstance(self.target_masks, Mapping) else masked
        return members_of(self.subjects, masked)

    @property
    def noun(self) -> str:
        """What the subject is; empty where nobody says so."""
        return self.subjects[0].words if len(self.subjects) == 1 else ""

    @property
    def generated(self) -> bool:
        """Whether the source is generated from its prompt, for want of a photo."""
        return not self.subjects and bool(self.settings.source_prompt)

    @property
    def inverts(self) -> bool:
        """Whether the photos have to be inverted: somebody reads them or starts from them."""
        needed = self.settings.noise_share < 1 or any(rule.reads_source for rule in self.rules)
        return needed and bool(self.photos)

    @property
    def photos(self) -> tuple[str | Path | Image.Image, ...]:
        """The references as they were given."""
        return tuple(photo for subject in self.subjects for photo in subject.references)

    @property
    def caption(self) -> str:
        """The sources' prompt."""
        noun = self.subjects[0].words if self.subjects else ""
        return fill_in(self.settings.source_prompt, noun, self.members).text

    def targets(self) -> tuple[Target, ...]:
        """The pictures to make; errors as for `make_targets`."""
        # A generated source takes the seed itself, so that fresh noise is not its noise again.
        return make_targets(
            self.prompts, self.settings, noun=self.noun, members=self.members, shift=int(self.generated)
        )

    def sources(self) -> tuple[Branch, ...]:
        """One branch for each photo, or the one that is generated; one also where nobody needs it."""
        captions = [
            (each.name, fill_in(self.settings.source_prompt, each.words, self.members).text)
            for each in self.subjects
            for _ in each.references
        ]
        several = enumerate(captions or [("", self.caption)])
        return tuple(Branch("source", index, caption, subject=name) for index, (name, caption) in several)


@dataclass(frozen=True)
class Pictures:
    """The request's pictures, of the run's size.

    Args:
        height: of all pictures in pixels.
        width: likewise.
        references: the photos, RGB.
        reference_masks: the given masks of these, grey, each or None; or none.
        target_masks: the given masks of the pictures to be made, one for each; or none.
        subject_masks: likewise those of named subjects, by name.
    """

    height: int
    width: int
    references: tuple[Image.Image, ...]
    reference_masks: tuple[Image.Image | None, ...]
    target_masks: tuple[Image.Image, ...]
    subject_masks: Mapping[str, tuple[Image.Image, ...]]


def read_pictures(request: Request, backbone: Backbone) -> Pictures:
    """Reads the photos and masks of a request; the size of all is what `size_of` makes of the first photo.

    Args:
        request: what was asked for.
        backbone: the model.

    Raises:
        SamecastError: one cannot be read, or masks are missing, or given that no rule reads.
    """
    fit, photos = request.settings.fit, [opened(photo) for photo in request.photos]
    height, width = size_of(backbone, request.settings, photos[0].size if photos else None)
    references = tuple(fit_photo(photo, height=height, width=width, fit=fit) for photo in photos)
    of_photos = [mask for each in request.subjects for mask in each.masks or (None,) * len(each.references)]
    given, prompts = sum(mask is not None for mask in of_photos), len(request.prompts)
    wanted = wanted_masks(request.rules)
    if wanted[0] and given < len(of_photos):
        given = 0  # these rules need all of them
    taken = any(rule.mode.by_subject for rule in request.rules)
    for masks in (request.plain_masks, *request.masks_by_name.values()):
        check_masks(
            (wanted[0], wanted[1] and masks is request.plain_masks),
            references=given,
            targets=len(masks),
            prompts=prompts,
            optional=taken,
        )
    read = partial(read_mask, height=height, width=width, fit=fit)
    reference_masks = tuple(
        None if mask is None else read(mask, f"reference {number}", photo=photo.size)
        for number, (mask, photo) in enumerate(zip(of_photos, photos, strict=True), start=1)
    )

    def of_pictures(masks: Sequence[GivenMask], whose: str) -> tuple[Image.Image, ...]:
        found = tuple(read(mask, f"{whose}prompt {number}", photo=None) for number, mask in enumerate(masks, start=1))
        spread = found if len(found) != 1 else found * prompts
        return tuple(mask for mask in spread for _ in range(request.settings.num_images_per_prompt))

    by_name = {name: of_pictures(masks, f"{name} in ") for name, masks in request.masks_by_name.items()}
    return Pictures(height, width, references, reference_masks, of_pictures(request.plain_masks, ""), by_name)


def opened(photo: str | Path | Image.Image) -> Image.Image:
    """A photo at its own size, upright, read from disk unless it is at hand."""
    return upright(photo) if isinstance(photo, Image.Image) else open_photo(photo)
