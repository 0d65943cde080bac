"""The state of a run on disk, for resuming: trained parameters, the optimizer's moments, and the step.

One safetensors file. The state of any optimizer is stored as tensors by parameter and name; single numbers are stored
as JSON in the metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from samecast.checked import parse_json
from samecast.errors import SamecastError

FORMAT = 2


@dataclass(frozen=True)
class State:
    """The state of a run.

    Args:
        step: number of steps done.
        key: key of the run.
        weights: trained parameters by name.
        optimizer: the optimizer's `state_dict()["state"]`.
        scaler: state of the loss scaler; empty for none.
        seconds: duration of the steps.
        losses: mean losses, one per hundredth of the run, for display.
        recent: losses of the steps since the last mean.
    """

    step: int
    key: str
    weights: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Any]]
    scaler: Mapping[str, Any]
    seconds: float
    losses: tuple[tuple[int, float], ...] = ()
    recent: tuple[float, ...] = ()


def pack(state: State) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a state file."""
    tensors = {f"weights/{name}": value.detach().cpu().contiguous() for name, value in state.weights.items()}
    numbers: dict[str, Any] = {}
    for index, moments in state.optimizer.items():
        for name, value in moments.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{name}"] = value.detach().cpu().contiguous().clone()
            else:
                numbers[f"{index}/{name}"] = value
    facts = {
        "format": FORMAT,
        "step": state.step,
        "key": state.key,
        "numbers": numbers,
        "scaler": dict(state.scaler),
        "seconds": state.seconds,
        "losses": state.losses,
        "recent": state.recent,
    }
    return tensors, {"samecast.learning": json.dumps(facts)}


def read_state(path: Path, key: str) -> State:
    """The state in a file.

    Args:
        path: path of the file.
        key: key of the run to resume.

    Raises:
        SamecastError: the file is damaged, or belongs to another run.
    """
    try:
        with safe_open(str(path), "pt") as file:
            facts: Any = parse_json(file.metadata()["samecast.learning"], f"{path} is damaged")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts["format"] != FORMAT or facts["key"] != key:
            raise SamecastError(f"{path} belongs to another run; choose another --out, or delete it")
        optimizer: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *((f"optimizer/{at}", v) for at, v in facts["numbers"].items())]:
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                index, _, word = rest.partition("/")
                optimizer.setdefault(int(index), {})[word] = value
        weights = {
            name.removeprefix("weights/"): value for name, value in tensors.items() if name.startswith("weights/")
        }
        losses = tuple((int(step), float(loss)) for step, loss in facts["losses"])
        recent = tuple(float(loss) for loss in facts["recent"])
        return State(
            int(facts["step"]), key, weights, optimizer, facts["scaler"], float(facts["seconds"]), losses, recent
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, SamecastError):
            raise
        raise SamecastError(f"{path} is damaged ({error!r:.80}): delete it to start again") from None
