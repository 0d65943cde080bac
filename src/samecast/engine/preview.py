"""Cheap pictures of latents: one linear map from a latent's channels to red, green and blue.

An autoencoder's latent is nearly linear in the colours of the pixels below it, so that a matrix of (channels + 1) x 3
numbers gives a thumbnail for a thousandth of the decoder's work. The matrix is the model's own, and no table of known
models is needed: a few coloured pictures are encoded, and least squares fits the mean colour of the pixels under each
latent cell to its channels and a constant. It is computed at a model's first preview, and kept with the model.
"""

from weakref import WeakKeyDictionary

import numpy
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from samecast.models.base import Backbone

_PICTURES, _MOST_CELLS = 6, 32
_maps: "WeakKeyDictionary[Backbone, Tensor]" = WeakKeyDictionary()


@torch.inference_mode()
def preview(backbone: Backbone, latents: Float[Tensor, "picture channel height width"]) -> list[Image.Image]:
    """RGB pictures of latents, of the size that the decoder would give and with the detail of the latents."""
    if backbone not in _maps:
        _maps[backbone] = latent_to_rgb(backbone)
    matrix, scale = _maps[backbone].to(latents.device), _pixels_per_cell(backbone)
    colours = torch.einsum("pchw,cr->phwr", latents.float(), matrix[:-1]) + matrix[-1]
    pixels = (colours.clamp(0, 1) * 255).round().byte().cpu().numpy()
    size = (latents.shape[-1] * scale, latents.shape[-2] * scale)
    return [Image.fromarray(each).resize(size, Image.Resampling.BILINEAR) for each in pixels]


def latent_to_rgb(backbone: Backbone) -> Float[Tensor, "channel_and_constant rgb"]:
    """The matrix that takes a latent cell's channels, and a one, to its mean colour in 0..1; float32, on the CPU."""
    scale = _pixels_per_cell(backbone)
    side = scale * min(_MOST_CELLS, backbone.default_size // scale)
    cells: list[Tensor] = []
    colours: list[Tensor] = []
    for photo in _coloured_pictures(side):
        latent = backbone.encode_image(photo).float().cpu()
        small = numpy.asarray(photo.resize((latent.shape[-1], latent.shape[-2]), Image.Resampling.BOX))
        cells.append(latent.flatten(1).T)
        colours.append(torch.from_numpy(small.reshape(-1, 3) / 255).float())
    values = torch.cat(cells)
    return torch.linalg.lstsq(torch.cat([values, torch.ones(len(values), 1)], dim=1), torch.cat(colours)).solution


def _pixels_per_cell(backbone: Backbone) -> int:
    side = backbone.default_size
    return side // backbone.latent_shape(side, side)[-1]


def _coloured_pictures(side: int) -> list[Image.Image]:
    """Smooth and patchy fields of random colours, the same ones each time."""
    rng = numpy.random.default_rng(0)
    pictures: list[Image.Image] = []
    for number in range(_PICTURES):
        coarse = rng.integers(0, 256, (3 + number, 3 + number, 3), dtype=numpy.uint8)
        how = Image.Resampling.BICUBIC if number % 2 else Image.Resampling.NEAREST
        pictures.append(Image.fromarray(coarse).resize((side, side), how))
    return pictures
