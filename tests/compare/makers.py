"""Judgements as the benchmark would give them."""

from dataclasses import asdict
from typing import Any

from samecast.compare.benchmark import Judgement
from samecast.diorama.probe import Verdict

RIGHT = Verdict(True, True, True, 4.0, 6.0, True, True, True)


def judged(method: str, subject: str, verdict: Verdict = RIGHT, **others: Any) -> Judgement:
    """One picture's, right in every respect unless the verdict says otherwise."""
    data: dict[str, Any] = {
        **asdict(verdict),
        "subject": subject,
        "method": method,
        "prompt": "a dog",
        "seed": 0,
        "text_alignment": 0.1,
        "image_alignment": 0.2,
        "dino_alignment": 0.3,
        "picture": "picture.png",
    }
    return Judgement(**data | others)
