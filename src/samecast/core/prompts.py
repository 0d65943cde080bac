"""What a prompt may be."""

from collections.abc import Sequence

from samecast.checked import check_text
from samecast.errors import SamecastError


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuses what cannot be a prompt.

    Raises:
        SamecastError: one is empty, or no text.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not check_text(prompt, f"prompt {number}").strip():
            raise SamecastError(f"prompt {number} is empty: say what the picture is to show")
