"""Notebook output: pictures with captions and short tables as HTML, and progress bars."""

import base64
import io
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from html import escape
from typing import Any

from PIL import Image

STAGES = {
    "invert": "reading the photo",
    "mix": "reading the photo",
    "source": "making the source",
    "look": "looking",
    "denoise": "rendering",
    "check": "checking inversion",
    "decode": "developing",
    "captions": "reading captions",
    "merge": "merging",
    "compress": "decomposing",
    "class": "class pictures",
    "learn": "learning",
}
"""The displayed names of the stages."""
_LARGEST_PNG = 256
_SHOWN = 256
"""Longest side of a picture in a notebook, in pixels."""
_MOST_FIGURES = 24


def data_uri(image: Image.Image) -> str:
    """A picture as a data URI: lossless up to 256 pixels, JPEG of high quality above."""
    buffer = io.BytesIO()
    if max(image.size) <= _LARGEST_PNG:
        image.save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        image.convert("RGB").save(buffer, format="JPEG", quality=92, subsampling=0)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def figures_html(figures: Iterable[tuple[Image.Image, str]], *, below: Iterable[str] = ()) -> str:
    """Pictures in rows, each with its caption.

    Args:
        figures: pictures and captions; those beyond 24 are only counted.
        below: lines of text.
    """
    found = list(figures)
    parts = [_figure(image, caption) for image, caption in found[:_MOST_FIGURES]]
    lines = [*below] + [f"and {len(found) - _MOST_FIGURES} more"] * (len(found) > _MOST_FIGURES)
    texts = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px;align-items:flex-start">{"".join(parts)}</div>{texts}'


def table_html(title: str, rows: Mapping[str, object]) -> str:
    """A heading above names with their values."""
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<div><b>{escape(title)}</b><table>{cells}</table></div>"


def _figure(image: Image.Image, caption: str) -> str:
    small = image.copy()
    small.thumbnail((_SHOWN, _SHOWN))
    return (
        f'<figure style="margin:0;max-width:{_SHOWN}px"><img src="{data_uri(small)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


@contextmanager
def _bars() -> Generator[Callable[[str, int, int], None]]:
    """A bar for each stage of the work, in a notebook or a terminal; yields the callback to report progress to."""
    from tqdm.auto import tqdm

    open_bars: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in open_bars:
            open_bars[stage] = tqdm(total=total, desc=STAGES.get(stage, stage))
        open_bars[stage].update(done - open_bars[stage].n)

    try:
        yield report
    finally:
        for bar in open_bars.values():
            bar.close()


def reporting(progress: Callable[[str, int, int], None] | bool | None) -> Any:
    """A context that yields the progress callback: new bars for True, None for False, or the given function."""
    return _bars() if progress is True else nullcontext(progress or None)
