"""Text and image alignment by CLIP and by a self-supervised ViT, as the field reports them (Radford et al., 2021; Ruiz
et al., 2023).

Text alignment is the cosine of a picture's and its prompt's embedding, image alignment the mean cosine of a picture's
embedding with those of the subject's photos. Both depend on the model that is asked: compare numbers of one model only.
The models that ship with the package know the embedded world and nothing else.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTImageProcessorPil, ViTModel

from samecast.errors import SamecastError

EMBEDDED = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class ImageScorer:
    """A vision transformer that is asked how alike pictures are. Cosines are in -1..1.

    Its first token is the embedding, as DINO's is (Caron et al., 2021).
    """

    model: Any
    processor: Any

    def features(self, pixels: Tensor) -> Tensor:
        """Return what the model makes of prepared pictures (n, 3, height, width): shape (n, width)."""
        return self.model(pixel_values=pixels).last_hidden_state[:, 0]

    @torch.no_grad()
    def embed_images(self, images: Sequence[Image.Image], batch: int = 64) -> Tensor:
        """Embed pictures of any size: unit vectors, shape (n, width).

        Raises:
            ValueError: if there are none.
        """
        if not images:
            raise ValueError("no pictures to embed")
        parts: list[Tensor] = []
        for start in range(0, len(images), batch):
            ready = [image.convert("RGB") for image in images[start : start + batch]]
            pixels = self.processor(images=ready, return_tensors="pt")["pixel_values"]
            parts.append(self.features(pixels.to(self.model.device, self.model.dtype)))
        return F.normalize(torch.cat(parts).float(), dim=-1).cpu()

    def image_alignment(self, images: Sequence[Image.Image], photos: Sequence[Image.Image]) -> list[float]:
        """Score every picture against all photos of the subject.

        Raises:
            ValueError: if there are no pictures or no photos.
        """
        return (self.embed_images(images) @ self.embed_images(photos).T).mean(-1).tolist()


@dataclass(frozen=True)
class ClipScorer(ImageScorer):
    """A CLIP model that is asked how well pictures fit texts and other pictures."""

    tokenizer: CLIPTokenizer

    def features(self, pixels: Tensor) -> Tensor:
        """Return projected image features of prepared pictures (n, 3, height, width): shape (n, width)."""
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, cut to the model's length: unit vectors, shape (n, width).

        Raises:
            ValueError: if there are none.
        """
        if not texts:
            raise ValueError("no texts to embed")
        ids = self.tokenizer(list(texts), padding=True, truncation=True, max_length=77, return_tensors="pt")
        out = self.model.text_model(**ids.to(self.model.device))
        return F.normalize(self.model.text_projection(out.pooler_output).float(), dim=-1).cpu()

    def text_alignment(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        """Score picture i against prompt i.

        Raises:
            ValueError: if they are not equally many, or none.
        """
        if len(images) != len(prompts):
            raise ValueError(f"as many prompts as pictures are needed, got {len(prompts)} and {len(images)}")
        return (self.embed_images(images) * self.embed_texts(prompts)).sum(-1).tolist()


def load_clip(folder: str | Path = EMBEDDED / "clip", device: str = "cpu") -> ClipScorer:
    """Load a CLIP model from a local folder in transformers' layout; the default is the embedded one.

    Raises:
        SamecastError: if the folder holds no such model.
    """
    with _clear_errors(folder, "CLIP model"):
        model = CLIPModel.from_pretrained(folder, local_files_only=True)
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return ClipScorer(_ready(model, device), processor, tokenizer)


def load_vit(folder: str | Path = EMBEDDED / "vit", device: str = "cpu") -> ImageScorer:
    """Load a self-supervised vision transformer (DINO's layout) from a local folder; the default is the embedded one.

    Raises:
        SamecastError: if the folder holds no such model.
    """
    with _clear_errors(folder, "vision transformer"):
        model = ViTModel.from_pretrained(folder, local_files_only=True, add_pooling_layer=False)
        processor = ViTImageProcessorPil.from_pretrained(folder, local_files_only=True)
    return ImageScorer(_ready(model, device), processor)


def describe_clip(folder: str | Path) -> dict[str, Any]:
    """Scale and preprocessing of a CLIP model, for provenance; loads no weights, and errors as `load_clip`."""
    with _clear_errors(folder, "CLIP model"):
        return _described(CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True))


def describe_vit(folder: str | Path) -> dict[str, Any]:
    """The same of a vision transformer, as `load_vit` loads it."""
    with _clear_errors(folder, "vision transformer"):
        return _described(ViTImageProcessorPil.from_pretrained(folder, local_files_only=True))


def _described(processor: Any) -> dict[str, Any]:
    return {"scale": "cosine", "preprocessing": processor.to_dict()}


def _ready(model: torch.nn.Module, device: str) -> torch.nn.Module:
    return model.requires_grad_(False).eval().to(device)


@contextmanager
def _clear_errors(folder: str | Path, kind: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SamecastError(f"{folder} holds no {kind} in transformers' layout: {reason}") from None
