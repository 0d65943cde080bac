from typing import Any

import pytest
from jaxtyping import config

from samecast.core.settings import RenderSettings
from samecast.errors import SamecastError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be a whole number from 1 to 10,000; got 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt must be a whole number from 1"),
        ({"height": 0}, "height must be a whole number from 1 to 8,192 or none; got 0"),
        ({"batch_rows": 0}, "batch_rows must be a whole number from 1"),
        ({"seed": -1}, "seed must be"),
        ({"guidance_scale": -1.0}, "guidance_scale must be"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be"),
        ({"guidance_rescale": 1.5}, "guidance_rescale must be a number from 0 to 1; got 1.5"),
        ({"guidance_rescale": float("nan")}, "guidance_rescale must be"),
        ({"init": 1.5}, "init must be"),
        ({"init": float("nan")}, "init must be"),
    ],
)
def test_values_out_of_range_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SamecastError, match=message):
        RenderSettings(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"init": "zero"}, "init must be"), ({"fit": "stretch"}, "fit must be"), ({"pairing": "x"}, "pairing must be")],
)
def test_words_that_are_no_choice_are_refused(
    fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Outside the tests nothing checks types at run time.
    monkeypatch.setattr(config, "jaxtyping_disable", True)
    with pytest.raises(SamecastError, match=message):
        RenderSettings(**fields)


def test_guidance_is_the_models_unless_given() -> None:
    open_settings = RenderSettings()
    with pytest.raises(ValueError, match="settle"):
        _ = open_settings.guidance
    assert open_settings.settled(5.0).guidance == 5.0
    assert RenderSettings(guidance_scale=2.0).settled(5.0).guidance == 2.0


@pytest.mark.parametrize(("init", "share"), [("inverted", 0.0), ("noise", 1.0), (0.3, 0.3)])
def test_init_is_a_share_of_noise(init: Any, share: float) -> None:
    assert RenderSettings(init=init).noise_share == share
