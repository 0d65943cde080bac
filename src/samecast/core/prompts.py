"""Validation of prompts."""

from collections.abc import Sequence

from samecast.checked import check_text
from samecast.errors import SamecastError


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuses empty prompts and values that are not text.

    Raises:
        SamecastError: a prompt is empty or not text.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not check_text(prompt, f"prompt {number}").strip():
            raise SamecastError(f"prompt {number} is empty: describe the picture")
