"""The samples of a training run: photo, view, timestep and noise of each.

Sample n depends on the run's seed and n alone. So a killed run resumes with the same samples, and the result does not
depend (beyond rounding) on the number of devices or calls that share a step's samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samecast.learn.settings import LearnSettings
from samecast.learn.views import View, draw_view

_PHOTOS, _CLASSES = 0, 1


@dataclass(frozen=True)
class Pictures:
    """Numbers of photos and class images of a subject."""

    photos: int
    class_photos: int


@dataclass(frozen=True)
class Shot:
    """One row of a denoiser batch.

    Args:
        subject: index of the subject, from 0.
        of_class: whether it is a class image rather than a photo of the subject.
        picture: index of the photo or class image, from 0.
        view: scale, position and mirroring.
        key: equal for shots with the same pixels; None where the pixels are unique.
        timestep: timestep of the added noise.
        noise_seed: seed of the noise.
        wording: index of the caption template, from 0.
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
        settings: training settings.
        pictures: numbers of photos and class images of each subject.
        timesteps: number of training timesteps of the model.
        wordings: number of caption templates.
    """

    settings: LearnSettings
    pictures: Sequence[Pictures]
    timesteps: int
    wordings: int = 1

    def sample(self, number: int) -> tuple[Shot, ...]:
        """The photo of sample `number` (0, 1, ...) and, with prior preservation, its class image.

        Subjects alternate. All photos of a subject are used once before any is repeated.
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
        # Class images are not augmented: they preserve the class as it was.
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
