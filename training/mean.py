"""The weighted mean of runs of one part: `python -m training.mean --of unet-14=0.58 unet-15=0.42 --name unet`.

Runs that began at the same weights lie in one basin, and their mean is often better than each of them (*Model soups*,
Wortsman et al., ICML 2022).
"""

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from training.data import ROOT


def mean(states: Mapping[str, dict[str, torch.Tensor]], shares: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Return the mean of weights, by shares that make up one; computed in float32, kept in the weights' own precision.

    Raises:
        ValueError: the shares do not make up one.
    """
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares must make up 1; got {', '.join(f'{run}={share:g}' for run, share in shares.items())}")
    first = next(iter(states.values()))
    return {
        name: torch.stack([share * states[run][name].float() for run, share in shares.items()]).sum(0).to(weight.dtype)
        for name, weight in first.items()
    }


def share_of(words: str) -> tuple[str, float]:
    """Read `run=share`."""
    run, _, share = words.partition("=")
    return run, float(share)


def weights_file(run: str) -> Path:
    """Return where a run's weights lie."""
    return next((ROOT / run / "model").glob("*.safetensors"))


def main() -> None:
    """Average, and write weights and facts as a run's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=share_of, nargs="+", required=True, metavar="RUN=SHARE")
    parser.add_argument("--name", required=True, help="of the run that is written")
    given = parser.parse_args()
    shares: dict[str, float] = dict(given.of)
    last = list(shares)[-1]
    found = mean({run: load_file(weights_file(run)) for run in shares}, shares)
    facts = {run: json.loads((ROOT / run / "facts.json").read_text()) for run in shares}
    record = {name: value for name, value in facts[last].items() if name != "held_out"}
    record |= {name: round(sum(fact[name] for fact in facts.values()), 1) for name in ("steps", "minutes")}
    shutil.copytree(ROOT / last / "model", ROOT / given.name / "model", dirs_exist_ok=True)
    save_file(found, weights_file(given.name), metadata={"format": "pt"})
    (ROOT / given.name / "facts.json").write_text(json.dumps(record | {"mean_of": shares}, indent=2))


if __name__ == "__main__":
    main()
