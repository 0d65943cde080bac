"""The page: its tabs, its colours, and how they hang together."""

from typing import Any

import gradio as gr
from gradio.themes import Base

from samecast.ui.studio import Studio
from samecast.ui.tabs.compare import CompareTab
from samecast.ui.tabs.history import history_tab
from samecast.ui.tabs.learn import LearnTab
from samecast.ui.tabs.render import RenderTab
from samecast.ui.tabs.study import study_tab
from samecast.ui.widgets import head, static, widget

# Fonts of the system alone: Gradio's own themes would ask a server for theirs.
_FONTS = ["Inter", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]


def build_page(studio: Studio) -> gr.Blocks:
    """All tabs over one studio."""
    with gr.Blocks(title="samecast", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        with gr.Row(elem_classes="sc-head"):
            gr.HTML(
                "<h1>samecast<span>cast a subject once, render it in any scene</span></h1>", elem_classes="sc-title"
            )
            widget("model")
            widget("theme")
        with gr.Tabs(selected="render") as tabs:
            with gr.Tab("Render", id="render"):
                render = RenderTab(studio)
            with gr.Tab("Compare", id="compare"):
                CompareTab(studio, render, tabs)
            with gr.Tab("Learn", id="learn"):
                LearnTab(studio, render)
            with gr.Tab("History", id="history") as past:
                history_tab(studio, render, tabs, past)
            with gr.Tab("Study", id="study") as study:
                study_tab(studio, study)
        page.load(render.opened, None, render.at_load, show_progress="hidden", api_visibility="private")
    return page


def page_style() -> dict[str, Any]:
    """Theme, style and code, as Gradio's mount takes them."""
    theme = Base(primary_hue="teal", neutral_hue="stone", radius_size="lg", font=_FONTS, font_mono=_MONO).set(
        body_background_fill="#faf8f5",
        body_background_fill_dark="#151412",
        block_background_fill="white",
        block_background_fill_dark="#1f1d1b",
        block_border_color="#e4e0da",
        block_border_color_dark="#33302d",
        border_color_primary="#e4e0da",
        border_color_primary_dark="#33302d",
        input_background_fill="white",
        input_background_fill_dark="#171614",
        input_border_color="#e4e0da",
        input_border_color_dark="#3d3935",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#115e59",
        button_primary_background_fill_dark="#0f766e",
        button_primary_background_fill_hover_dark="#0d9488",
        button_primary_text_color="white",
        color_accent="#0f766e",
        color_accent_soft="#ccfbf1",
        color_accent_soft_dark="#134e4a",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="#f5f3ef",
        button_secondary_background_fill_dark="#26231f",
        button_secondary_background_fill_hover_dark="#33302d",
        button_secondary_border_color="#e4e0da",
        button_secondary_border_color_dark="#3d3935",
        button_border_width="1px",
        checkbox_label_background_fill="white",
        checkbox_label_background_fill_dark="#26231f",
        checkbox_label_border_color="#e4e0da",
        checkbox_label_border_color_dark="#3d3935",
        checkbox_label_border_width="1px",
        checkbox_label_background_fill_selected="#ecfdf9",
        checkbox_label_background_fill_selected_dark="#134e4a",
        checkbox_label_border_color_selected="#0f766e",
        input_border_width="1px",
        input_radius="10px",
        block_radius="14px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="600",
    )
    return {"theme": theme, "css": static("style.css"), "head": head()}
