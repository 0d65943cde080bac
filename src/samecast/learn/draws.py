"""What a run shows, sample by sample: which photo, in which view, under how much of which noise.

Everything about sample n follows from the run's seed and n alone. So a run that was killed goes on as if it had not
been, and it makes no difference (up to rounding) on how many devices, or in how many calls, a step's samples are worked
on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samecast.learn.settings import LearnSettings
from samecast.learn.views import View, draw_view

_PHOTOS, _CLASSES = 0, 1


@dataclass(frozen=True)
class Pictures:
    """How many photos and class pictures a subject has."""

    photos: int
    class_photos: int


@dataclass(frozen=True)
class Shot:
    """One row of the denoiser.

    Args:
        subject: which of the subjects, from 0.
        of_class: a class picture rather than a photo of the subject.
        picture: which of these, from 0.
        view: how it is shown.
        key: the same for shots that show the same pixels; None where no other does.
        timestep: how noisy it is.
        noise_seed: of the noise.
        wording: which way to say the caption, from 0.
    """

    subject: int
    of_class: bool
    picture: int
    view: View
    key: tuple[int, int, int, int] | None
    timestep: int
    noise_seed: int
    wording: int


@dataclass(frozen=True)
class Draws:
    """The samples of a run.

    Args:
        settings: how to learn.
        pictures: of each subject.
        timesteps: how many levels of noise the model knows.
        wordings: how many ways there are to say a caption.
    """

    settings: LearnSettings
    pictures: Sequence[Pictures]
    timesteps: int
    wordings: int = 1

    def sample(self, number: int) -> tuple[Shot, ...]:
        """The photo of sample `number` (0, 1, ...) and, with prior preservation, the class picture beside it.

        Subjects take turns. Each of a subject's photos is shown once before any is shown again.
        """
        subject, turn = number % len(self.pictures), number // len(self.pictures)
        rng = self._generator(number, 2)
        shots = [self._shot(rng, subject, turn, _PHOTOS)]
        if self.settings.preserves:
            shots.append(self._shot(rng, subject, turn, _CLASSES))
        return tuple(shots)

    def _shot(self, rng: np.random.Generator, subject: int, turn: int, kind: int) -> Shot:
        settings, pictures = self.settings, self.pictures[subject]
        count = pictures.class_photos if kind == _CLASSES else pictures.photos
        round_number, place = divmod(turn, count)
        picture = int(self._generator(subject, kind, round_number, 3).permutation(count)[place])
        # Class pictures are shown as they are: they say what the class was.
        augment = settings.augment == "scale" and kind == _PHOTOS
        kept = settings.kept_views if augment else 1 + settings.flip
        shown = round_number % kept if kept else round_number
        view = draw_view(
            self._generator(subject, kind, picture, shown, 4),
            augment=augment,
            mirrored=settings.flip and shown % 2 == 1,
        )
        return Shot(
            subject=subject,
            of_class=kind == _CLASSES,
            picture=picture,
            view=view,
            key=(subject, kind, picture, shown) if kept else None,
            timestep=int(rng.integers(self.timesteps)),
            noise_seed=int(rng.integers(2**62)),
            wording=int(rng.integers(self.wordings)),
        )

    def _generator(self, *words: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, *words))
