"""One server and one browser for all tests of the page; each test has pages of its own."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import samecast

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
NO_BROWSER = "no browser: apt-get install -y chromium, and pip install 'samecast[dev,ui]'"
SOURCES = str(Path(samecast.__file__).parents[1])
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@dataclass
class Running:
    """The page in a process of its own, as a user starts it."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[Running]:
    pytest.importorskip("gradio", reason="pip install 'samecast[ui]'")
    words = [sys.executable, "-m", "samecast", "ui", "--port", "0", "--root", str(root)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": SOURCES}
    process = subprocess.Popen(words, cwd=root, env=environment, text=True, stdout=subprocess.PIPE)
    line = process.stdout.readline()
    yield Running(line.split()[3], process)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    finally:
        process.kill()
        process.stdout.close()


@pytest.fixture(scope="session")
def browser(server: Running) -> Iterator[object]:
    if not CHROMIUM:
        if os.environ.get("SAMECAST_NEEDS_BROWSER"):
            pytest.fail(NO_BROWSER)
        pytest.skip(NO_BROWSER)
    api = pytest.importorskip("playwright.sync_api", reason=NO_BROWSER)
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--force-color-profile=srgb"]
        )
        yield opened
        opened.close()


DESK = {"viewport": {"width": 1360, "height": 940}, "color_scheme": "light"}


@pytest.fixture(scope="session")
def context(browser: object) -> object:
    """One user's browser, whose cache makes every page but the first quick."""
    return browser.new_context(**DESK)


class Page:
    """A page, what it asks for, and what goes wrong in it."""

    def __init__(self, context: object, url: str) -> None:
        context.set_default_timeout(60_000)
        self.page, self.asked, self.faults = context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.goto(url)
        self.page.wait_for_selector("#render")
        self.page.wait_for_selector('.sc-model[data-state="ready"]')


@pytest.fixture
def opened(browser: object, context: object, server: Running) -> Iterator[object]:
    """Opens a page; with options it is another user's, in a browser of its own."""
    closing: list[object] = []

    def make(**options: object) -> Page:
        chosen = browser.new_context(**{**DESK, **options}) if options else context
        page = Page(chosen, server.url)
        closing.append(chosen if options else page.page)
        return page

    yield make
    for each in closing:
        each.close()


def picture(page: object, name: str, **options: object) -> None:
    """Takes a picture for docs/ui.md, where SAMECAST_PICTURES asks for it; the page is looked at in any case."""
    folder = PICTURES if os.environ.get("SAMECAST_PICTURES") else None
    page.screenshot(path=None if folder is None else folder / f"ui-{name}.png", animations="disabled", **options)
