"""Image alignment by a self-supervised transformer, DINO (Caron et al., ICCV 2021), as DreamBooth's benchmark has it.

Text never taught it what to overlook, so it tells two dogs of one breed apart where CLIP says "a dog" to both. The
feature is the class token of the last layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel

from samecast.errors import SamecastError


@dataclass(frozen=True)
class DinoScorer:
    """A vision transformer that is asked how alike pictures are. Cosines are in -1..1."""

    model: Any
    processor: Any

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
            out = self.model(pixel_values=pixels.to(self.model.device, self.model.dtype))
            parts.append(out.last_hidden_state[:, 0])
        return F.normalize(torch.cat(parts).float(), dim=-1).cpu()

    def describe(self) -> dict[str, Any]:
        """Scale and preprocessing, for provenance."""
        return {"scale": "cosine of class tokens", "preprocessing": self.processor.to_dict()}


def load_dino(folder: str | Path, device: str = "cpu") -> DinoScorer:
    """Load a ViT, DINO or DINOv2 model from a local folder in transformers' layout.

    Raises:
        SamecastError: the folder holds no such model.
    """
    try:
        model = AutoModel.from_pretrained(folder, local_files_only=True)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SamecastError(f"{folder} holds no vision transformer in transformers' layout: {reason}") from None
    model.requires_grad_(False).eval().to(device)
    return DinoScorer(model, processor)
