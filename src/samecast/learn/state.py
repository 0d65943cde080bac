"""A run's state on disk, from which it goes on: what is trained, the optimizer's moments, and the step.

One safetensors file. An optimizer's state is tensors by parameter and name, whichever optimizer it is; single numbers
go beside them as JSON.
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
    """Where a run is.

    Args:
        step: how many steps are done.
        key: of the run that this is the state of.
        weights: what is trained, by name.
        optimizer: its `state_dict()["state"]`.
        scaler: of the loss scaler; empty where there is none.
        seconds: how long the steps have taken.
        losses: of the steps, one mean for each hundredth or so; for people.
        recent: losses of the steps since the last of these.
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
    """The tensors and the words of a state's file."""
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
        path: of the file.
        key: of the run that wants to go on.

    Raises:
        SamecastError: the file is damaged, or of another run.
    """
    try:
        with safe_open(str(path), "pt") as file:
            facts: Any = parse_json(file.metadata()["samecast.learning"], f"{path} is damaged")
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if facts["format"] != FORMAT or facts["key"] != key:
            raise SamecastError(f"{path} is of another run; choose another --out, or delete it")
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
        raise SamecastError(f"{path} is damaged ({error!r:.80}): delete it, and learning starts anew") from None
