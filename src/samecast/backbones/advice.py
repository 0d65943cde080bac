"""What a model's makers advise for sampling: `samecast.json` in its folder. Diffusers' files have no place for it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samecast.backbones.quiet import first_line
from samecast.errors import SamecastError

ADVICE = "samecast.json"


@dataclass(frozen=True)
class Advice:
    """Settings that hold where nobody says otherwise.

    Args:
        guidance_rescale: 0..1, as in `RenderSettings`.
    """

    guidance_rescale: float = 0.0


NO_ADVICE = Advice()


def read_advice(folder: Path, name: str) -> Advice:
    """What a model's folder advises; nothing where it has no such file.

    Args:
        folder: of the model.
        name: what the user called it, for messages.

    Raises:
        SamecastError: the file is damaged, or holds anything else.
    """
    file = folder / ADVICE
    if not file.is_file():
        return NO_ADVICE
    try:
        told: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SamecastError(f"model {name} has a damaged {ADVICE}: {first_line(error)}") from error
    rescale: Any = told.get("guidance_rescale") if isinstance(told, dict) else None
    sound = isinstance(rescale, int | float) and not isinstance(rescale, bool) and 0 <= rescale <= 1
    if not sound or set(told) != {"guidance_rescale"}:
        raise SamecastError(f'model {name}: {ADVICE} must be {{"guidance_rescale": 0 to 1}}; it holds {str(told)[:80]}')
    return Advice(float(rescale))
