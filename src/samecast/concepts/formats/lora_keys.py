"""Keys of LoRA files, as PEFT, diffusers and kohya's scripts write them: the layer and the matrix of a key.

Tools that wrap a model (PEFT, accelerate, torch.compile, FSDP) leave the wrapper's name in the keys: known names are
removed, wherever they occur. The rest must be a layer of the family.
"""

import re
from typing import Literal, NamedTuple

from samecast.concepts.formats.names import PART_NAMES, locate, split_underscores
from samecast.concepts.parameters import is_parameter
from samecast.errors import SamecastError

Side = Literal["up", "down", "mid", "alpha"]


class LoraKey(NamedTuple):
    """A parsed key.

    Args:
        name: the changed parameter, as in `samecast.concepts.concept`.
        side: the matrix of its LoRA, or its alpha.
        adapter: the name of PEFT's adapter; empty where the key has none.
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
    """Parses a key of a LoRA file.

    Raises:
        SamecastError: it is not a LoRA key, or its layer is not in the family.
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
            f"its key {key!r:.120} names no layer of a Stable Diffusion U-Net or of its CLIP text encoders: it belongs"
            " to another architecture, or to a layer that samecast does not support"
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
    raise SamecastError(f"its key {key!r:.120} is not a LoRA key; expected lora_A, lora_B, lora_up, lora_down or alpha")


def _side(mark: str) -> Side:
    return "down" if mark in _DOWN else "up" if mark in _UP else "mid"


def _old_projection(part: str, which: str) -> str:
    if part == "unet":
        return "to_out.0" if which == "out" else f"to_{which}"
    return f"{which}_proj"
