"""Write a flow transformer's pipeline: `python -m training.flow_export --run flow-1 --out runs/flow-1/pipeline`.

Reads the averaged weights of a run's last checkpoint, while it trains or after, and writes a stock FluxPipeline
directory in half precision.
"""

import argparse
import json
from pathlib import Path

import torch

from training.data import ROOT
from training.flow_model import TEXT, export, make_text, make_tokenizer, make_transformer


def exported(checkpoint: Path, folder: Path, blocks: str = "3+5") -> dict[str, float]:
    """Write the pipeline of a checkpoint to a folder; return its sizes in MB by part."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    weights: dict[str, torch.Tensor] = state["average"]
    tokenizer = make_tokenizer()
    width, channels = weights["transformer.x_embedder.weight"].shape
    context = weights["transformer.context_embedder.weight"].shape[1]
    double, single = (int(count) for count in blocks.split("+"))
    transformer = make_transformer(channels // 4, context, context, width, double=double, single=single)
    text = make_text(len(tokenizer), context)
    for name, part in (("transformer.", transformer), ("text.", text)):
        part.load_state_dict({key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)})
    export(folder, transformer.eval(), text.eval(), tokenizer)
    sizes = {
        part.name: round(sum(file.stat().st_size for file in part.rglob("*") if file.is_file()) / 1e6, 2)
        for part in sorted(folder.iterdir())
        if part.is_dir()
    }
    return sizes | {"together": round(sum(sizes.values()), 2), "steps": state["step"]}


def main() -> None:
    """Export a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--blocks", default="3+5", help="as the run's")
    given = parser.parse_args()
    print(json.dumps(exported(ROOT / given.run / "last.pt", given.out, given.blocks)))
    print(f"load it with DiffusionPipeline.from_pretrained; pass height=256, width=256, max_sequence_length={TEXT}")


if __name__ == "__main__":
    main()
