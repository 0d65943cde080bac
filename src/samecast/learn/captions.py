"""Caption templates, so that a token is not tied to one sentence (Textual Inversion, section 4.1)."""

WORDINGS = (
    "a photo of {}",
    "a picture of {}",
    "a rendering of {}",
    "a good photo of {}",
    "a bright photo of {}",
    "a dark photo of {}",
    "a cropped photo of {}",
    "a close up photo of {}",
    "a depiction of {}",
    "{}",
)
_OPENINGS = ("a photo of ", "photo of ")


def say(caption: str, wording: int) -> str:
    """A caption in template number `wording` of `WORDINGS`; 0, or a caption that does not start with "a photo of",
    keeps it."""
    opening = next((words for words in _OPENINGS if caption.lower().startswith(words)), None)
    if wording == 0 or opening is None:
        return caption
    return WORDINGS[wording].format(caption[len(opening) :])
