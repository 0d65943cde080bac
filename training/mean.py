"""The weighted mean of denoisers: `python -m training.mean --of unet-14=0.5 unet-15=0.5 --name unet`.

Runs that began at the same weights lie in one basin, and their mean is often better than each of them (*Model soups*,
Wortsman et al., ICML 2022).
"""

import argparse
import json
from collections.abc import Mapping

import torch
from diffusers import UNet2DConditionModel

from training.data import ROOT


def mean(states: Mapping[str, dict[str, torch.Tensor]], shares: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Return the mean of weights, by shares that make up one; computed in float32.

    Raises:
        ValueError: the shares do not make up one.
    """
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares must make up 1; got {', '.join(f'{run}={share:g}' for run, share in shares.items())}")
    first = next(iter(states.values()))
    return {
        name: torch.stack([share * states[run][name].float() for run, share in shares.items()]).sum(0) for name in first
    }


def share_of(words: str) -> tuple[str, float]:
    """Read `run=share`."""
    run, _, share = words.partition("=")
    return run, float(share)


def main() -> None:
    """Average, and write weights and facts as a run's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", type=share_of, nargs="+", required=True, metavar="RUN=SHARE")
    parser.add_argument("--name", required=True, help="of the run that is written")
    given = parser.parse_args()
    shares: dict[str, float] = dict(given.of)
    models = {run: UNet2DConditionModel.from_pretrained(ROOT / run / "model") for run in shares}
    last = next(reversed(models))
    models[last].load_state_dict(mean({run: model.state_dict() for run, model in models.items()}, shares))
    models[last].save_pretrained(ROOT / given.name / "model")
    facts = {run: json.loads((ROOT / run / "facts.json").read_text()) for run in shares}
    told = {name: value for name, value in facts[last].items() if name != "held_out"}
    told |= {"steps": sum(fact["steps"] for fact in facts.values())}
    told |= {"minutes": sum(fact["minutes"] for fact in facts.values()), "mean_of": shares}
    (ROOT / given.name / "facts.json").write_text(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
