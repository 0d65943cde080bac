"""Widgets that Gradio does not have, each a piece of `static/`; their values are plain data."""

from functools import cache
from importlib.resources import files
from typing import Any

import gradio as gr

_EVENTS = {
    "runner": ("over",),
    "board": ("removed",),
    "grid": ("edited",),
    "history": ("open", "use", "again", "delete"),
    "sweep": ("use",),
}


def widget(name: str, value: Any = None, **props: Any) -> gr.HTML:
    """One of the page's own widgets.

    Args:
        name: its name in `static/`.
        value: what it shows at first.
        props: that it has beside its value, such as `elem_id`.
    """
    events = " ".join(f"'{event}'" for event in _EVENTS.get(name, ()))
    # What it triggers has to stand in the code, for Gradio looks there.
    code = f"/* {events} */ const at = () => window.samecast && window.samecast.widgets.loss ? window.samecast.mount('{name}', element, props, trigger, watch) : setTimeout(at, 25); at();"  # noqa: E501
    return gr.HTML(value, html_template=f'<div class="sc-{name}"></div>', js_on_load=code, **props)


@cache
def static(name: str) -> str:
    """A file of `static/`."""
    return (files("samecast.ui") / "static" / name).read_text(encoding="utf-8")


def head() -> str:
    """The widgets' code, in the page itself."""
    return "<script>" + "\n".join(static(name) for name in ("core.js", "board.js", "views.js")) + "</script>"
