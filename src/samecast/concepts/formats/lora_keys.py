"""The keys of LoRA files: which matrix of which layer a key is, as PEFT, diffusers and kohya's scripts spell it.

Tools wrap a model before they save it (PEFT, accelerate, torch.compile, FSDP), and the wrapper's name stays in keys:
those that are known are taken off, wherever they are. What is left must be a layer of the family.
"""

import re
from typing import Literal, NamedTuple

from samecast.concepts.formats.names import PART_NAMES, locate, split_underscores
from samecast.concepts.parameters import is_parameter
from samecast.errors import SamecastError

Side = Literal["up", "down", "mid", "alpha"]


class LoraKey(NamedTuple):
    """What a key stands for.

    Args:
        name: of the parameter that is changed, as `samecast.concepts.concept` names it.
        side: which matrix of its LoRA, or its alpha.
        adapter: the name of PEFT's adapter, where the key tells one.
    """

    name: str
    side: Side
    adapter: str


_DOWN = ("lora_A", "lora_down", "lora.down", "lora_linear_layer.down")
_UP = ("lora_B", "lora_up", "lora.up", "lora_linear_layer.up")
_MID = ("lora_mid", "lora.mid")
_MATRIX = re.compile(rf"(.+)\.({'|'.join(map(re.escape, (*_DOWN, *_UP, *_MID)))})(?:\.([^.]+))?\.weight")
_OLD = re.compile(r"(.+?)\.to_(q|k|v|out)_lora\.(?:(up|down)\.weight|alpha)")
_ALPHA = re.compile(r"(.+?)(?:\.lora(?:_linear_layer)?)?\.alpha")
_KOHYA = re.compile(r"lora_(unet|te[12]?)[_.](.+)")


def parse_key(key: str) -> LoraKey:
    """What a key of a LoRA file stands for.

    Raises:
        SamecastError: it is none of LoRA's, or of no layer of the family.
    """
    layer, projection, side, adapter = _split(key)
    kohya = _KOHYA.fullmatch(layer)
    if kohya:
        layer = kohya[2] if "." in kohya[2] else split_underscores(kohya[2])
    part, path = locate(layer, PART_NAMES[kohya[1]] if kohya else "")
    if projection:
        path += "." + _old_projection(part, projection)
    name = f"{part}.{path}.weight"
    if not is_parameter(name):
        raise SamecastError(
            f"its key {key!r:.120} is of no layer of a Stable Diffusion U-Net or of its CLIP text encoders: it is of"
            " another architecture, or of a layer that samecast does not know"
        )
    return LoraKey(name, side, adapter)


def _split(key: str) -> tuple[str, str, Side, str]:
    """(layer, projection of an old attention processor, side, adapter)."""
    if found := _MATRIX.fullmatch(key):
        return found[1], "", _side(found[2]), found[3] or ""
    if found := _OLD.fullmatch(key):
        sides: dict[str | None, Side] = {"up": "up", "down": "down", None: "alpha"}
        return found[1], found[2], sides[found[3]], ""
    if found := _ALPHA.fullmatch(key):
        return found[1], "", "alpha", ""
    raise SamecastError(f"its key {key!r:.120} is none of LoRA's: expected lora_A, lora_B, lora_up, lora_down or alpha")


def _side(mark: str) -> Side:
    return "down" if mark in _DOWN else "up" if mark in _UP else "mid"


def _old_projection(part: str, which: str) -> str:
    if part == "unet":
        return "to_out.0" if which == "out" else f"to_{which}"
    return f"{which}_proj"
