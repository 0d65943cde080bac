"""LoRA's files: PEFT's keys as diffusers writes them, older diffusers', and kohya's.

A file that says nothing of a layer's scale means 1. diffusers keeps scales in the file's metadata, kohya in a tensor
`alpha` beside each pair.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from samecast.concepts.concept import TEXT_ENCODERS, Base, Concept, LowRank, Value
from samecast.concepts.formats.names import family_of, split_underscores, to_compvis, to_diffusers
from samecast.errors import SamecastError

PEFT_NAME = "pytorch_lora_weights"
_METADATA = "lora_adapter_metadata"
_PARTS = ("unet", *TEXT_ENCODERS)
_SIDES = {
    "lora_A": "down",
    "lora_B": "up",
    "lora_down": "down",
    "lora_up": "up",
    "lora.down": "down",
    "lora.up": "up",
    "lora_linear_layer.down": "down",
    "lora_linear_layer.up": "up",
}
_KEY = re.compile(r"(.+)\.(lora_A|lora_B|lora_down|lora_up|lora(?:_linear_layer)?\.(?:down|up))(?:\.default)?\.weight")
_OLD = re.compile(r"(.+?)(?:\.processor)?\.to_(q|k|v|out)_lora\.(down|up)\.weight")
_KOHYA = {"lora_unet_": "unet", "lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_NOT_READ = {
    "dora_scale": "DoRA's",
    "lora_magnitude_vector": "DoRA's",
    "hada_": "LoHa's",
    "lokr_": "LoKr's",
    "lora_mid": "Tucker-decomposed",
    "oft_": "OFT's",
}


# Past the name of a layer, so that a word of textual inversion may be called lora_style.
_OF_LORA = re.compile(rf"^lora_(?:unet|te[12]?)_.*\.|\.lora[._]|_lora\.|\.(?:{'|'.join(_NOT_READ)})")


@dataclass
class _Pair:
    """One layer's matrices while they are gathered."""

    sides: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    alpha: float | None = None


def is_lora(data: Any) -> bool:
    """Whether a file holds LoRA, or one of its relatives."""
    return isinstance(data, Mapping) and any(_OF_LORA.search(str(key)) for key in data)


def read_lora(data: Mapping[str, Any], metadata: Mapping[str, str]) -> Concept:
    """Reads LoRA of any of these spellings."""
    pairs: dict[str, _Pair] = {}
    is_xl = False
    for key, tensor in data.items():
        kind = next((told for mark, told in _NOT_READ.items() if mark in key), None)
        if kind:
            raise SamecastError(f"it holds {kind} weights ({key!r:.80}), which samecast does not read")
        if not isinstance(tensor, Tensor):
            raise SamecastError(f"its entry {key!r:.80} is no tensor")
        name, side = _parse(str(key))
        is_xl = is_xl or key.startswith("lora_te1_")
        pair = pairs.setdefault(name, _Pair())
        if side == "alpha":
            pair.alpha = float(tensor)
        else:
            pair.sides[side] = tensor.detach()
    for name, pair in pairs.items():
        if set(pair.sides) != {"up", "down"}:
            raise SamecastError(f"the LoRA of {name} lacks its {' and '.join({'up', 'down'} - set(pair.sides))} matrix")
    alphas = _told_alphas(metadata, {name: pair.sides["down"].shape[0] for name, pair in pairs.items()})
    changes = {
        name: LowRank(pair.sides["up"], pair.sides["down"], alphas.get(name, pair.alpha))
        for name, pair in pairs.items()
    }
    return Concept(changes=changes, base=Base(family="xl" if is_xl else family_of(changes)))


def write_peft(concept: Concept) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of `pytorch_lora_weights.safetensors`, which diffusers' `load_lora_weights` reads."""
    tensors: dict[str, Tensor] = {}
    told: dict[str, Any] = {}
    by_part: dict[str, dict[str, LowRank]] = {}
    for name, change in low_rank_changes(concept).items():
        part, path = _for_peft(name)
        # PEFT finds layers by the end of their path, and not every encoder has text_model at its beginning.
        by_part.setdefault(part, {})[path.removeprefix("text_model.")] = change
        tensors[f"{part}.{path}.lora_A.weight"] = change.down
        tensors[f"{part}.{path}.lora_B.weight"] = change.up
    for part, changes in by_part.items():
        told |= {f"{part}.{key}": value for key, value in _adapter_config(changes).items()}
    return tensors, {_METADATA: json.dumps(told, sort_keys=True), "format": "pt"}


def write_kohya(concept: Concept) -> dict[str, Tensor]:
    """Tensors in kohya's spelling, with CompVis's block names for XL, as his scripts have it.

    Where every scale is 1, which all readers take for granted, none is written: diffusers 0.42 mixes up attention
    layers' alphas where they differ, as they do after a singular value decomposition.
    """
    changes = low_rank_changes(concept)
    scaled = any(change.scale != 1 for change in changes.values())
    is_xl = concept.base.family == "xl"
    prefixes = {"unet": "lora_unet", "text_encoder": "lora_te1" if is_xl else "lora_te", "text_encoder_2": "lora_te2"}
    tensors: dict[str, Tensor] = {}
    for name, change in changes.items():
        part, path = _for_peft(name)
        if is_xl and part == "unet":
            path = to_compvis(path)
        key = f"{prefixes[part]}_{path.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": change.down, f"{key}.lora_up.weight": change.up}
        if scaled:
            tensors[f"{key}.alpha"] = torch.tensor(float(change.rank if change.alpha is None else change.alpha))
    return tensors


def low_rank_changes(concept: Concept) -> dict[str, LowRank]:
    """The concept's changes, if all are what LoRA can be.

    Raises:
        SamecastError: there are none, or others among them.
    """
    found: dict[str, LowRank] = {}
    for name, change in concept.changes.items():
        if isinstance(change, Value) and change.value.ndim != 2:
            raise SamecastError(
                f"LoRA has no place for {name}, which is no matrix: of Custom Diffusion's concepts those learned with"
                " --mode kv can be LoRA, those with crossattn cannot"
            )
        if not isinstance(change, LowRank):
            raise SamecastError(
                f"LoRA holds changes of low rank, and this concept holds {name} as a whole: give --model, and it is"
                " decomposed"
            )
        found[name] = change
    if not found:
        raise SamecastError("this concept changes no parameter, so that there is nothing to write as LoRA")
    return found


def _parse(key: str) -> tuple[str, str]:
    """(parameter, side) of a key; the side is up, down or alpha."""
    prefix = next((prefix for prefix in _KOHYA if key.startswith(prefix)), None)
    if prefix is not None:
        stem, _, rest = key.removeprefix(prefix).partition(".")
        side = "alpha" if rest == "alpha" else _SIDES.get(rest.removesuffix(".weight"))
        if side is None:
            raise SamecastError(f"its key {key!r:.100} is none of LoRA's")
        return _name(_KOHYA[prefix], split_underscores(stem)), side
    part, _, rest = key.partition(".")
    if part in _PARTS:
        if rest.endswith(".alpha"):
            return _name(part, re.sub(r"\.lora$", "", rest.removesuffix(".alpha"))), "alpha"
        if old := _OLD.fullmatch(rest):
            return _name(part, f"{old[1]}.{_projection(part, old[2])}"), old[3]
        if found := _KEY.fullmatch(rest):
            return _name(part, found[1].replace(".processor.", ".")), _SIDES[found[2]]
    raise SamecastError(f"its key {key!r:.100} is no LoRA of a U-Net or a text encoder")


def _projection(part: str, which: str) -> str:
    if part == "unet":
        return "to_out.0" if which == "out" else f"to_{which}"
    return f"{which}_proj"


def _name(part: str, path: str) -> str:
    path = to_diffusers(path) if part == "unet" else path.removeprefix("text_model.")
    return f"{part}.{path}.weight"


def _for_peft(name: str) -> tuple[str, str]:
    part, _, path = name.removesuffix(".weight").partition(".")
    inside = part in TEXT_ENCODERS and not path.startswith("text_projection")
    return part, f"text_model.{path}" if inside else path


def _adapter_config(changes: Mapping[str, LowRank]) -> dict[str, Any]:
    """What PEFT is to know of one part's layers; ranks and scales that differ are named one by one."""
    ranks = {path: change.rank for path, change in changes.items()}
    alphas = {path: change.rank if change.alpha is None else change.alpha for path, change in changes.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: value for path, value in ranks.items() if value != rank},
        "alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
        "target_modules": sorted(changes),
    }


def _told_alphas(metadata: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, float]:
    """The scales that diffusers keeps in a file's metadata, by parameter."""
    if _METADATA not in metadata:
        return {}
    try:
        told: dict[str, Any] = json.loads(metadata[_METADATA])
        alphas: dict[str, float] = {}
        for name, rank in ranks.items():
            part, path = _for_peft(name)
            if f"{part}.lora_alpha" not in told:
                continue
            pattern: dict[str, float] = told.get(f"{part}.alpha_pattern") or {}
            known = {key for key in pattern if path == key or path.endswith(f".{key}")}
            alpha = float(pattern[max(known, key=len)] if known else told[f"{part}.lora_alpha"])
            alphas[name] = alpha * rank**0.5 if told.get(f"{part}.use_rslora") else alpha
        return alphas
    except (ValueError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise SamecastError(f"its {_METADATA} is damaged: {error}") from None
