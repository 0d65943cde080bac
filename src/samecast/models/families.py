"""The table of families with a transformer: a new one is a file beside this, and its line here."""

from samecast.models.flux import FluxBackbone
from samecast.models.flux2 import Flux2Backbone
from samecast.models.joint import JointBackbone
from samecast.models.pixart import PixArtBackbone
from samecast.models.qwen_image import QwenImageBackbone
from samecast.models.sd3 import SD3Backbone
from samecast.models.z_image import ZImageBackbone

FAMILIES: dict[str, type[JointBackbone]] = {
    "FluxPipeline": FluxBackbone,
    "StableDiffusion3Pipeline": SD3Backbone,
    "ZImagePipeline": ZImageBackbone,
    "QwenImagePipeline": QwenImageBackbone,
    "Flux2Pipeline": Flux2Backbone,
    "Flux2KleinPipeline": Flux2Backbone,
    "PixArtSigmaPipeline": PixArtBackbone,
}
"""By the name of diffusers' pipeline."""

SUPPORTED = (
    "Stable Diffusion 1.x, 2.x, XL, 3 and 3.5, FLUX.1, FLUX.2, Z-Image, Qwen-Image and PixArt-Sigma, as text-to-image"
    " pipelines"
)
"""What is supported, for messages."""

_EDITS = "it edits pictures that are part of its own sequence of tokens; give a text-to-image pipeline"
_LINEAR = "its attention is linear, without the softmax that routing acts on"
_FILLS = "it takes pictures or masks as input channels; give a text-to-image pipeline"
REFUSED = {
    "SanaPipeline": _LINEAR,
    "SanaSprintPipeline": _LINEAR,
    "SanaPAGPipeline": _LINEAR,
    "FluxKontextPipeline": _EDITS,
    "FluxKontextInpaintPipeline": _EDITS,
    "Flux2KleinKVPipeline": _EDITS,
    "QwenImageEditPipeline": _EDITS,
    "QwenImageEditPlusPipeline": _EDITS,
    "QwenImageEditInpaintPipeline": _EDITS,
    "QwenImageLayeredPipeline": "it makes several layers of a picture at once",
    "ZImageOmniPipeline": _EDITS,
    "FluxFillPipeline": _FILLS,
    "FluxControlPipeline": _FILLS,
    "FluxControlImg2ImgPipeline": _FILLS,
    "FluxControlInpaintPipeline": _FILLS,
    "PixArtAlphaPipeline": "its denoiser takes size and aspect as inputs; PixArt-Sigma is supported",
}
"""Why pipelines of related families are not supported, by their names."""
