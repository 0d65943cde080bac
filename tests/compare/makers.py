"""Judgements as the benchmark would give them."""

from dataclasses import asdict
from typing import Any

from samecast.compare.benchmark import Judgement
from samecast.diorama.probe import Verdict

RIGHT = Verdict(True, True, True, 4.0, 6.0, True, True, True)


def judged(method: str, subject: str, verdict: Verdict = RIGHT, **others: Any) -> Judgement:
    """One picture's, right in every respect unless the verdict says otherwise."""
    cosines = {"text_alignment": 0.1, "image_alignment": 0.2, "dino_alignment": 0.3}
    truth = {name: getattr(verdict, name) for name in ("identity", "scene", "both")}
    given = {name: others.pop(name) for name in cosines if name in others}
    data: dict[str, Any] = {"subject": subject, "method": method, "prompt": "a dog", "seed": 0, "picture": "a.png"}
    return Judgement(**data | others, scores={**truth, **asdict(verdict), **cosines, **given})
