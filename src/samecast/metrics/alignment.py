"""Text and image alignment by CLIP and by a self-supervised ViT, as the field reports them (Radford et al., 2021; Ruiz
et al., 2023).

Text alignment is the cosine of a picture's and its prompt's embedding, image alignment the mean cosine of a picture's
embedding with those of the subject's photos. Both depend on the model: compare numbers of one model only. The models
that ship with the package know only the embedded world.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTImageProcessorPil, ViTModel

from samecast.errors import SamecastError
from samecast.metrics.base import EMBEDDED as EMBEDDED_NAME
from samecast.metrics.memory import remembering
from samecast.metrics.models import locate
from samecast.models.quiet import quiet_libraries

EMBEDDED = Path(__file__).parents[1] / "weights"
_REMEMBERED = 2048
"""Number of pictures whose embeddings a model caches, a few kB each."""


@dataclass(frozen=True)
class ImageScorer:
    """A vision transformer that measures the similarity of pictures, as cosines in -1..1.

    Its first token is the embedding, as in DINO (Caron et al., 2021).
    """

    model: Any
    processor: Any

    def features(self, pixels: Tensor) -> Tensor:
        """Return the embeddings of prepared pictures (n, 3, height, width): shape (n, width)."""
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]

    def embed_images(self, images: Sequence[Image.Image], batch: int = 64) -> Tensor:
        """Embed pictures of any size: unit vectors, shape (n, width). Each distinct picture is embedded once and
        cached.

        Raises:
            ValueError: there are none.
        """
        if not images:
            raise ValueError("no pictures to embed")
        starts = range(0, len(images), batch)
        return torch.stack([row for start in starts for row in self._remembered(images[start : start + batch])])

    @cached_property
    def _remembered(self) -> Callable[[Sequence[Image.Image]], list[Tensor]]:
        return remembering(self._embed, most=_REMEMBERED)

    @torch.no_grad()
    def _embed(self, images: Sequence[Image.Image]) -> list[Tensor]:
        ready = [image.convert("RGB") for image in images]
        pixels = self.processor(images=ready, return_tensors="pt")["pixel_values"]
        features = self.features(pixels.to(self.model.device, self.model.dtype))
        return list(F.normalize(features.float(), dim=-1).cpu())

    def image_alignment(self, images: Sequence[Image.Image], photos: Sequence[Image.Image]) -> list[float]:
        """Score every picture against all photos of the subject.

        Raises:
            ValueError: there are no pictures or no photos.
        """
        return (self.embed_images(images) @ self.embed_images(photos).T).mean(-1).tolist()


@dataclass(frozen=True)
class ClipScorer(ImageScorer):
    """A CLIP model that measures the similarity of pictures to texts and to other pictures."""

    tokenizer: CLIPTokenizer

    def features(self, pixels: Tensor) -> Tensor:
        """Return projected image features of prepared pictures (n, 3, height, width): shape (n, width)."""
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, cut to the model's length: unit vectors, shape (n, width).

        Raises:
            ValueError: there are none.
        """
        if not texts:
            raise ValueError("no texts to embed")
        ids = self.tokenizer(list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        out = self.model.text_model(**ids.to(self.model.device))
        return F.normalize(self.model.text_projection(out.pooler_output).float(), dim=-1).cpu()

    def text_alignment(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Score picture i against prompt i.

        Raises:
            ValueError: their numbers differ, or there are none.
        """
        if len(images) != len(prompts):
            raise ValueError(f"expected one prompt per picture; got {len(prompts)} prompts and {len(images)} pictures")
        return (self.embed_images(images) * self.embed_texts(prompts)).sum(-1).tolist()


def load_clip(folder: str | Path = EMBEDDED / "clip", device: str = "cpu") -> ClipScorer:
    """Load a CLIP model from a local folder in transformers' layout; the default is the embedded one.

    Raises:
        SamecastError: the folder holds no such model.
    """
    with _clear_errors(folder, "CLIP model"):
        model = CLIPModel.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return ClipScorer(_ready(model, device), processor, tokenizer)


def load_vit(folder: str | Path = EMBEDDED / "vit", device: str = "cpu") -> ImageScorer:
    """Load a self-supervised vision transformer (DINO's layout) from a local folder; the default is the embedded one.

    Raises:
        SamecastError: the folder holds no such model.
    """
    with _clear_errors(folder, "vision transformer"):
        model = ViTModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
        processor = ViTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return ImageScorer(_ready(model, device), processor)


@cache
def clip_of(model: str, device: str) -> ClipScorer:
    """A CLIP model by its folder or hub id, or the embedded one; loaded once per process. Errors as for `locate` and
    `load_clip`."""
    with quiet_libraries():
        return load_clip(locate(_place(model, "clip"))[0], device)


@cache
def vit_of(model: str, device: str) -> ImageScorer:
    """The same for a vision transformer."""
    with quiet_libraries():
        return load_vit(locate(_place(model, "vit"))[0], device)


@cache
def describe_clip(model: str) -> Mapping[str, Any]:
    """The revision, scale and preprocessing of a CLIP model; loads no weights. Errors as for `clip_of`."""
    folder, revision = locate(_place(model, "clip"))
    with quiet_libraries(), _clear_errors(folder, "CLIP model"):
        return _described(CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True), revision)


@cache
def describe_vit(model: str) -> Mapping[str, Any]:
    """The same for a vision transformer."""
    folder, revision = locate(_place(model, "vit"))
    with quiet_libraries(), _clear_errors(folder, "vision transformer"):
        return _described(ViTImageProcessorPil.from_pretrained(folder, local_files_only=True), revision)


def _place(model: str, embedded: str) -> str | Path:
    return EMBEDDED / embedded if model == EMBEDDED_NAME else model


def _described(processor: Any, revision: str) -> Mapping[str, Any]:
    return {"revision": revision, "scale": "cosine", "preprocessing": processor.to_dict()}


def _ready(model: torch.nn.Module, device: str) -> torch.nn.Module:
    return model.requires_grad_(False).eval().to(device)


@contextmanager
def _clear_errors(folder: str | Path, kind: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SamecastError(f"{folder} holds no {kind} in transformers' layout: {reason}") from None
