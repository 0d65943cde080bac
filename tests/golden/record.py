"""Writes the numbers that the tests beside it hold the engine to: `python -m tests.golden.record`."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

import samecast as sc
from tests.conftest import make_tiny_pipeline, make_tiny_xl_pipeline
from tests.golden.cases import (
    LOOK,
    Named,
    attach_cases,
    flat,
    in_float64,
    learn_case,
    photo,
    render_cases,
    rendered,
    study_case,
)

FILE = Path(__file__).with_name("golden.safetensors")
EMBEDDED = "embedded/masactrl_auto_masked"
LEARNED = ("custom-diffusion", "textual-inversion", "lora", "dreambooth")
# XL has 70 layers, of which one case each kind of routing needs is enough.
OF_XL = {"masactrl", "masactrl two references", "masactrl_auto_masked", "masactrl generated", "style_aligned"}
OF_VELOCITY = {"masactrl", "masactrl fixed point", "masactrl pairing"}


def embedded_case() -> Named:
    """The embedded model finds and keeps a dog."""
    model = sc.load()
    model.backbone.pipeline.to(torch.float64)  # type: ignore[attr-defined]
    subject = sc.Subject((photo(),), class_noun="dog")
    named = rendered(model, subject, sc.masactrl_auto_masked(2, 6, layers="10-15", tokens=LOOK))
    return {name: value for name, value in named.items() if "map" not in name}


def record() -> None:
    """Runs every case and writes what came of it."""
    found: Named = {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        made = {
            "sd": make_tiny_pipeline(root / "a"),
            "xl": make_tiny_xl_pipeline(root / "b"),
            "velocity": make_tiny_pipeline(root / "c", prediction_type="v_prediction"),
        }
        for family, pipeline in made.items():
            pipeline.save_pretrained(root / family)
            where = "44-69" if family == "xl" else "10-15"
            wanted = {"sd": None, "xl": OF_XL, "velocity": OF_VELOCITY}[family]
            for name, case in render_cases(in_float64(root / family), where).items():
                if wanted is None or name in wanted:
                    found |= flat({f"{family}/{name}": case()})
            for name, case in attach_cases(root / family, where).items() if family != "velocity" else ():
                if wanted is None or name in ("rows", "photo masked"):
                    found |= flat({f"attach {family}/{name}": case()})
        found |= flat({EMBEDDED: embedded_case()})
        found |= flat({"study": study_case(root / "sd", root / "study")})
        for method in LEARNED:
            learned = learn_case(sc.load(root / "sd"), root / method, method)
            found |= flat({f"learn/{method}": learned})
    save_file({name: value.contiguous() for name, value in found.items()}, FILE)


if __name__ == "__main__":
    record()
