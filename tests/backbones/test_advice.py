import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

import samecast as sc
from samecast.backbones.advice import ADVICE
from samecast.errors import SamecastError


@pytest.fixture
def copy(tiny_pipeline_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline_dir, tmp_path / "model"))


def rendered(model: sc.Model, rescale: float | None = None) -> tuple[Image.Image, object]:
    settings = sc.RenderSettings(steps=3, init="noise", guidance_rescale=rescale)
    out = model.render(None, ["a dog"], rules=(), settings=settings)
    return out.renders[0].image, out.provenance["settings"]["guidance_rescale"]


def test_a_models_folder_says_how_much_of_guidance_to_rescale(copy: Path, tiny_pipeline_dir: Path) -> None:
    (copy / ADVICE).write_text(json.dumps({"guidance_rescale": 0.7}))
    silent, advised = sc.load(tiny_pipeline_dir, device="cpu"), sc.load(copy, device="cpu")
    (as_asked, written), (by_default, taken) = rendered(silent, 0.7), rendered(advised)
    assert (written, taken) == (0.7, 0.7)
    assert as_asked.tobytes() == by_default.tobytes()
    (never, none), (refused, zero) = rendered(silent), rendered(advised, 0.0)
    assert (none, zero) == (0.0, 0.0)
    assert never.tobytes() == refused.tobytes()
    assert never.tobytes() != by_default.tobytes()


@pytest.mark.parametrize(
    "told",
    ["{", "[]", "{}", '{"guidance_rescale": 2}', '{"guidance_rescale": true}', '{"guidance_rescale": 0, "a": 1}'],
)
def test_other_advice_is_refused_in_one_line(copy: Path, told: str) -> None:
    (copy / ADVICE).write_text(told)
    with pytest.raises(SamecastError, match=ADVICE) as caught:
        sc.load(copy, device="cpu")
    assert "\n" not in str(caught.value)


def test_the_embedded_model_asks_for_some() -> None:
    assert sc.load(device="cpu").backbone.guidance_rescale == 0.7
