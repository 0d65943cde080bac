"""Calls of the stock pipelines, as a user of diffusers makes them."""

from typing import Any

import numpy as np
import torch


def call(
    pipeline: Any,
    family: str,
    prompts: list[str],
    *,
    size: tuple[int, int],
    seeds: list[int],
    steps: int,
    guidance: float | None = None,
    negative: str = "",
    true_cfg: float | None = None,
    **options: Any,
) -> np.ndarray:
    """Pictures (picture, height, width, channel), from 0 to 1.

    Args:
        pipeline: the stock one.
        family: its name.
        prompts: one scene each.
        size: height and width in pixels.
        seeds: of each picture's noise.
        steps: of the run.
        guidance: as samecast's guidance_scale; None is the family's.
        negative: the negative prompt.
        true_cfg: as samecast's true_cfg_scale.
        **options: the rest.
    """
    given: dict[str, Any] = {"height": size[0], "width": size[1], "num_inference_steps": steps, "output_type": "np"}
    given["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds]
    if family == "qwen":
        given |= {"negative_prompt": [negative] * len(prompts), "true_cfg_scale": guidance or 4.0}
    elif guidance is not None:
        given["guidance_scale"] = guidance
    if family == "pixart":
        given["use_resolution_binning"] = False
    if negative and family in ("sd3", "sd35", "z_image", "pixart"):
        given["negative_prompt"] = [negative] * len(prompts)
    if true_cfg is not None:
        given |= {"true_cfg_scale": true_cfg, "negative_prompt": [negative] * len(prompts)}
    # Z-Image's writes its template into the list that it is given.
    return pipeline(prompt=list(prompts), **given, **options).images
