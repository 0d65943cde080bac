"""Model inputs of shots: latents, valid cells and text embeddings, cached where possible.

Latents of repeated views are cached. Captions without a trained token are encoded once; those with one are encoded at
every step, each distinct caption once per call.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from samecast.learn.captions import WORDINGS, say
from samecast.learn.draws import Draws, Pictures, Shot
from samecast.learn.lists import ToLearn
from samecast.learn.settings import LearnSettings
from samecast.learn.views import in_words, show, valid_cells
from samecast.models.base import Backbone
from samecast.models.words import says
from samecast.photos import load_photo


class Material:
    """Photos and captions of subjects, prepared for a model.

    Args:
        backbone: the model.
        settings: training settings.
        subjects: the subjects, with class images for prior preservation.

    Raises:
        SamecastError: a photo cannot be read.
    """

    def __init__(self, backbone: Backbone, settings: LearnSettings, subjects: Sequence[ToLearn]) -> None:
        self.backbone, self.settings, self.subjects = backbone, settings, tuple(subjects)
        self.size = settings.size or backbone.default_size
        self.device = backbone.device  # cached: a pipeline visits all its modules on each access
        self.latent_side = backbone.latent_shape(self.size, self.size)[-1]
        read = [[self._read(path) for path in each.photos] for each in subjects]
        self._photos: list[list[Image.Image]] = read
        self._latents: dict[tuple[int, int, int, int], Tensor] = {}
        self._texts: dict[str, Tensor] = {}
        self._moving: dict[str, bool] = {}
        self._tokens = tuple(each.token for each in subjects) if settings.trains_tokens else ()
        self.encoded_pictures = self.encoded_texts = 0

    def draws(self, timesteps: int) -> Draws:
        """The samples drawn from this material."""
        pictures = [Pictures(len(each.photos), len(each.class_photos)) for each in self.subjects]
        return Draws(self.settings, pictures, timesteps, len(WORDINGS) if self.settings.varied else 1)

    def latent(self, shot: Shot) -> Float[Tensor, "channel height width"]:
        """The latent of a shot's view."""
        if shot.key is None:
            return self._encode(shot)
        if shot.key not in self._latents:
            self._latents[shot.key] = self._encode(shot)
        return self._latents[shot.key]

    def valid(self, shot: Shot) -> Bool[Tensor, "height width"]:
        """The cells of the latent inside the photo."""
        return valid_cells(self.size, self.latent_side, shot.view)

    def caption(self, shot: Shot) -> str:
        """The caption of a shot."""
        subject = self.subjects[shot.subject]
        if shot.of_class:
            return subject.class_photos[shot.picture][1]
        return in_words(say(subject.caption, shot.wording), shot.view)

    def texts(self, shots: Sequence[Shot]) -> Float[Tensor, "row token channel"]:
        """The embeddings of the shots' captions, with gradients to their tokens."""
        captions = [self.caption(shot) for shot in shots]
        moving = [text for text in dict.fromkeys(captions) if self._moves(text)]
        encoded = dict(zip(moving, self._encode_texts(moving), strict=True)) if moving else {}
        return torch.stack([encoded[text] if text in encoded else self._still(text) for text in captions])

    @contextmanager
    def computing(self) -> Generator[None]:
        """A context with the precision of the settings (autocast)."""
        dtype = getattr(torch, self.settings.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            yield

    def _moves(self, text: str) -> bool:
        """Whether a text contains a trained token."""
        if text not in self._moving:
            self._moving[text] = any(says(self.backbone, text, token) for token in self._tokens)
        return self._moving[text]

    @torch.no_grad()
    def _still(self, text: str) -> Tensor:
        if text not in self._texts:
            self._texts[text] = self._encode_texts([text])[0]
        return self._texts[text]

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.encoded_texts += len(texts)
        return self.backbone.encode_prompts(texts)

    @torch.no_grad()
    def _encode(self, shot: Shot) -> Tensor:
        self.encoded_pictures += 1
        return self.backbone.encode_image(show(self._picture(shot), shot.view)).cpu()

    def _picture(self, shot: Shot) -> Image.Image:
        """The image of a shot; photos are cached, class images are read when needed, as they may be many."""
        if not shot.of_class:
            return self._photos[shot.subject][shot.picture]
        path, _ = self.subjects[shot.subject].class_photos[shot.picture]
        return self._read(path)

    def _read(self, path: Path) -> Image.Image:
        return load_photo(path, height=self.size, width=self.size, fit=self.settings.fit)
