"""Pages: self-contained, escaped, complete."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy
import pytest
from PIL import Image

from samecast.notebook import data_uri
from samecast.report.article import Article, Plate, Section, article_html
from samecast.report.page import Page, Table, page_html
from samecast.report.panels import Mark, Panel, Row


def noise(size: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 255, (size, size, 3), dtype=numpy.uint8))


def full_page() -> Page:
    panel = Panel(noise(32), "a dog <b>on</b> the beach", (Mark("same subject", True), Mark("scene", False)))
    return Page(
        title="Rex & friends",
        summary="Six prompts.",
        references=(Panel(noise(32, 1), "photo"),),
        rows=(Row((panel, panel), "no control", "a plain run"),),
        table=Table(("setting", "identity"), (("no control", "1 of 6"),), "by the probe"),
        facts={"seed": "0"},
    )


class Outline(HTMLParser):
    """Collects the tags, and the addresses that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


def test_the_page_fetches_nothing() -> None:
    html = page_html(full_page())
    outline = Outline()
    outline.feed(html)
    assert outline.tags.count("img") == 3
    assert all(address.startswith("data:image/") for address in outline.addresses)
    assert not {"script", "link", "iframe"} & set(outline.tags)
    assert not re.search(r"url\(|@import|https?:", html)


def test_text_is_escaped() -> None:
    html = page_html(full_page())
    assert "<b>" not in html
    assert "Rex &amp; friends" in html


def test_everything_said_is_on_the_page() -> None:
    html = page_html(full_page())
    for words in ("Six prompts.", "no control", "a plain run", "same subject", "by the probe", "1 of 6", "seed"):
        assert words in html


def test_small_pictures_are_inlined_without_loss() -> None:
    picture = noise(64)
    encoded = data_uri(picture).removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).tobytes() == picture.tobytes()


def test_large_pictures_stay_small_on_the_page() -> None:
    assert data_uri(Image.new("RGB", (512, 512), "teal")).startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("size", [(32, 32), (96, 32), (32, 96)])
def test_pictures_are_shown_whole_whatever_their_shape(size: tuple[int, int]) -> None:
    """The attributes give a picture's size; only `height: auto` keeps its shape where its width is another. Anything
    that fits it into another box cuts it."""
    panel = Panel(noise(96).resize(size), "a picture")
    plates = [Plate.of(panel.image, "a picture")]
    pages = (
        page_html(Page("t", "", references=(panel,), rows=(Row((panel,)),))),
        article_html(Article("t", "", [Section("s", plates=plates)])),
    )
    for html in pages:
        assert f'width="{size[0]}" height="{size[1]}"' in html
        rules = [
            (selectors, dict(part.split(":", 1) for part in body.replace(" ", "").strip(";").split(";")))
            for selectors, body in re.findall(
                r"([^{}]+)\{([^{}]*)\}", re.findall(r"<style>(.*?)</style>", html, re.S)[0]
            )
            if "img" in selectors
        ]
        assert rules
        for _, data in rules:
            assert data["height"] == "auto"
            assert not {"object-fit", "aspect-ratio", "max-height"} & set(data)


def test_a_bare_page_renders() -> None:
    assert "<h1>Only a title</h1>" in page_html(Page("Only a title", ""))
