"""PEFT's LoRA settings: in the metadata of diffusers' files, or in `adapter_config.json` next to PEFT's own files.

They hold the scales, which the tensors lack. `rank_pattern` and `alpha_pattern` are regular expressions for the end of
a layer's path; the first match applies (peft.utils.other.get_pattern_key).
"""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import regex

from samecast.concepts.concept import TEXT_ENCODERS, LowRank
from samecast.errors import SamecastError

METADATA = "lora_adapter_metadata"
"""The metadata entry."""

CONFIG_NAME = "adapter_config.json"
_PATIENCE = 20.0  # seconds for all patterns: some regular expressions take exponential time
_CHANGES_THE_MODEL = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Initialisations that subtract a part of the model's own weights: without that step the LoRA does not fit."""


def adapter_alphas(metadata: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, float]:
    """The alphas in a file's metadata, where alpha / rank is the scale; empty where the metadata has none.

    Args:
        metadata: the file's metadata.
        ranks: the rank of each parameter.

    Raises:
        SamecastError: the settings are damaged or not supported by samecast.
    """
    if METADATA not in metadata:
        return {}
    try:
        data: dict[str, Any] = json.loads(metadata[METADATA])
        settings = {part: _settings(data, part) for part in ("unet", *TEXT_ENCODERS)}
        until = time.monotonic() + _PATIENCE
        return {
            name: alpha
            for name, rank in ranks.items()
            if (alpha := _alpha(settings[name.partition(".")[0]], name, rank, until)) is not None
        }
    except SamecastError:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise SamecastError(f"its {METADATA} is damaged: {' '.join(str(error).split()):.160}") from None


def adapter_settings(by_part: Mapping[str, Mapping[str, LowRank]]) -> dict[str, str]:
    """Metadata for diffusers: the most common rank and alpha, with patterns for the layers that differ.

    Args:
        by_part: for each part of the pipeline, the changes by layer path.
    """
    data: dict[str, Any] = {}
    for part, changes in by_part.items():
        ranks = {path: change.rank for path, change in changes.items()}
        alphas = {path: change.rank if change.alpha is None else change.alpha for path, change in changes.items()}
        rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
        data |= {
            f"{part}.r": rank,
            f"{part}.lora_alpha": alpha,
            f"{part}.rank_pattern": {path: value for path, value in ranks.items() if value != rank},
            f"{part}.alpha_pattern": {path: value for path, value in alphas.items() if value != alpha},
            f"{part}.target_modules": sorted(changes),
        }
    return {METADATA: json.dumps(data, sort_keys=True), "format": "pt"}


def _settings(data: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The settings of one part; diffusers prefixes each key with the part's name, PEFT does not."""
    own = {key.removeprefix(f"{part}."): value for key, value in data.items() if key.startswith(f"{part}.")}
    plain = {key: value for key, value in data.items() if key.partition(".")[0] not in ("unet", *TEXT_ENCODERS)}
    return own or plain


def _alpha(settings: Mapping[str, Any], name: str, rank: int, until: float) -> float | None:
    kind = settings.get("peft_type") or "LORA"
    start = str(settings.get("init_lora_weights", "")).lower()
    if kind != "LORA" or settings.get("fan_in_fan_out") or start.startswith(_CHANGES_THE_MODEL):
        what = kind if kind != "LORA" else "fan_in_fan_out" if settings.get("fan_in_fan_out") else start
        raise SamecastError(f"its settings have {what!r:.40}, which samecast does not support; expected plain LoRA")
    adapter_rank = _setting(settings, name, "rank_pattern", "r", until)
    if adapter_rank not in (None, rank):
        raise SamecastError(f"its settings give {name} rank {adapter_rank:g}, but its matrices have rank {rank}")
    alpha = _setting(settings, name, "alpha_pattern", "lora_alpha", until)
    return alpha * rank**0.5 if alpha is not None and settings.get("use_rslora") else alpha


def _setting(settings: Mapping[str, Any], name: str, patterns: str, plain: str, until: float) -> float | None:
    """A layer's setting: the value of the first matching pattern, else the common value."""
    path = name.removesuffix(".weight").partition(".")[2]
    special = _first_match(settings.get(patterns) or {}, path, until)
    found = settings.get(plain) if special is None else special
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise SamecastError(f"its settings give {name} the {plain} {found!r:.40}; expected a number")
    return float(found)


def _first_match(patterns: Mapping[str, Any], path: str, until: float) -> Any:
    """The value of the first pattern that matches a layer, or None."""
    # Some text encoders' paths lack the leading text_model.
    spelt = (path, f"text_model.{path}")
    for pattern, value in patterns.items():
        literal = pattern.replace("\\.", ".")
        if re.fullmatch(r"[\w.]+", literal):  # mostly a path, and there may be hundreds
            found = any(each == literal or each.endswith(f".{literal}") for each in spelt)
        else:
            found = any(_matches(pattern, each, until) for each in spelt)
        if found:
            return value
    return None


def _matches(pattern: str, path: str, until: float) -> bool:
    try:
        return bool(regex.match(rf"(?:.*\.)?(?:{pattern})$", path, timeout=max(until - time.monotonic(), 1e-3)))
    except (regex.error, TimeoutError) as error:
        raise SamecastError(
            f"its pattern {pattern!r:.80} is not a usable regular expression: {' '.join(str(error).split()):.80}"
        ) from None
