"""Measure the shipped weights: `python -m training.report` prints one table and writes
`src/samecast/weights/quality.json`.

Everything is on held-out seeds. The probe judges; what it scores on renders and on reconstructions stands beside what
it says of generated pictures, so that its own errors can be told from the model's. Generated pictures are kept in
`runs/report`: a run that was stopped goes on.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from samecast.diorama.scenes import HELD_OUT, sample_spec
from samecast.models.fingerprint import directory_revision
from samecast.models.loading import load_backbone
from training.data import ROOT
from training.measures import (
    diversity,
    inversion,
    renders_and_reconstructions,
    retrieval,
    same_subject,
    speeds,
    stating,
    text_to_image,
)
from training.ship import WEIGHTS


def shown(found: dict[str, Any], count: int) -> Table:
    """Return the table that people read."""
    headline = f"VAE {found['vae_psnr']:.2f} dB, SSIM {found['vae_ssim']:.3f}; CLIP {found['clip_top1_of_256']:.1%}"
    table = Table(title=f"{count} held-out scenes; {headline}")
    for heading in ("attribute", "probe on renders", "on reconstructions", "text to image"):
        table.add_column(heading, justify="left" if heading == "attribute" else "right")
    for name, value in found["probe_renders"].items():
        cells = [value, found["probe_reconstructions"][name], found["text_to_image"].get(name)]
        form = "{:.2f}" if "error" in name or "iou" in name else "{:.1%}"
        table.add_row(name, *(form.format(cell) if cell is not None else "" for cell in cells))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--count", type=int, default=256, help="held-out scenes")
    parser.add_argument("--each", type=int, help="text to image: as many captions as state every attribute so often")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, help="the model's own unless given")
    parser.add_argument("--sheet", type=Path, help="also save the first 48 generated pictures here")
    given = parser.parse_args()
    backbone = load_backbone(WEIGHTS / "diorama", device="cpu")
    pipeline, guidance = backbone.pipeline, backbone.default_guidance if given.guidance is None else given.guidance
    specs = [sample_spec(HELD_OUT + index) for index in range(given.count)]
    found = {"count": given.count} | renders_and_reconstructions(pipeline, specs)
    found["clip_top1_of_256"] = retrieval([sample_spec(HELD_OUT + index) for index in range(256)])
    record = stating(HELD_OUT, given.each) if given.each else specs
    weights = directory_revision(WEIGHTS / "diorama", ["unet", "vae", "text_encoder"]).removeprefix("sha256:")[:12]
    kept = ROOT / "report" / f"{weights}-{given.steps}-{guidance:g}"
    found["text_to_image"] = text_to_image(pipeline, record, given.steps, guidance, kept, given.sheet)
    found["same_subject_of_128"] = same_subject(128)
    found["text_to_image"]["each"] = given.each
    found["parameters"] = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in ("unet", "vae", "text_encoder")
    }
    found["diversity"] = diversity(pipeline, specs[:8], 4, given.steps, guidance)
    found["inversion"] = inversion(specs[:16])
    found["speed"] = speeds()
    found["megabytes"] = sum(file.stat().st_size for file in WEIGHTS.rglob("*.safetensors")) / 1e6
    found["commit"] = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    Console().print(shown(found, given.count))
    for name in ("same_subject_of_128", "diversity", "inversion", "speed", "megabytes"):
        Console().print(name, found[name])
    (WEIGHTS / "quality.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
