"""Results of the engine as they were, case by case: whatever changes inside, pictures, maps, losses and scores stay.

`python -m tests.golden.record` writes the numbers anew; only for a change that is meant to move them.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.golden.cases import Named, attach_cases, flat, in_float64, learn_case, render_cases, study_case
from tests.golden.record import EMBEDDED, FILE, LEARNED, embedded_case

# Everything computes in float64 but the trainings and the scores, in float32.
TOLERANCE = 1e-4
GREY_LEVEL = 1 / 255 + 1e-6  # maps of masks are pictures of 8 bits
GOLDEN = load_file(FILE)
RENDERED = sorted({name.split("/")[1] for name in GOLDEN if name.startswith("sd/")})
ATTACHED = sorted({name.split("/")[1] for name in GOLDEN if name.startswith("attach sd/")})


def check(found: Named) -> None:
    for name, value in found.items():
        absolute = GREY_LEVEL if "/map" in name else TOLERANCE
        torch.testing.assert_close(
            value, GOLDEN[name], atol=absolute, rtol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def families(tiny_pipeline_dir: Path, tiny_xl_dir: Path, tiny_velocity_dir: Path) -> dict[str, Path]:
    return {"sd": tiny_pipeline_dir, "xl": tiny_xl_dir, "velocity": tiny_velocity_dir}


def test_no_case_is_missing(families: dict[str, Path]) -> None:
    model = in_float64(families["sd"])
    assert set(render_cases(model, "10-15")) == set(RENDERED)
    assert set(attach_cases(families["sd"], "10-15")) == set(ATTACHED)


@pytest.mark.parametrize("family", ["sd", "xl", "velocity"])
def test_pictures_and_maps_are_what_they_were(family: str, families: dict[str, Path]) -> None:
    model = in_float64(families[family])
    where = "44-69" if family == "xl" else "10-15"
    for name, case in render_cases(model, where).items():
        if f"{family}/{name}/latents" in GOLDEN:
            check(flat({f"{family}/{name}": case()}))


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_stock_pipelines_under_control_are_what_they_were(family: str, families: dict[str, Path]) -> None:
    where = "44-69" if family == "xl" else "10-15"
    for name, case in attach_cases(families[family], where).items():
        if f"attach {family}/{name}/latents" in GOLDEN:
            check(flat({f"attach {family}/{name}": case()}))


def test_the_embedded_model_is_what_it_was() -> None:
    check(flat({EMBEDDED: embedded_case()}))


def test_a_study_is_what_it_was(families: dict[str, Path], tmp_path: Path) -> None:
    check(flat({"study": study_case(families["sd"], tmp_path)}))


@pytest.mark.parametrize("method", LEARNED)
def test_losses_are_what_they_were(method: str, families: dict[str, Path], tmp_path: Path) -> None:
    import samecast as sc

    check(flat({f"learn/{method}": learn_case(sc.load(families["sd"]), tmp_path, method)}))
