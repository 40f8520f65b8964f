"""The pages as a site: it builds without a warning, asks nobody else for anything, and fits a telephone."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import sys
import threading
from functools import partial

import pytest

from tests.docs.pages import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ADDRESSES = re.compile(
    r"""<(?:link|script|img|iframe|source)\b[^>]*?(?:src|href)=["']((?:https?:)?//[^"']+)"""
)
IMPORTS = re.compile(r"""(?:@import|url\()\s*["']?((?:https?:)?//[^"')]+)""")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_every_page_is_built(site):
    pages = [
        path.relative_to(ROOT / "docs")
        for path in (ROOT / "docs").rglob("*.md")
        if "_build" not in path.parts
    ]
    assert [page for page in pages if not (site / page.with_suffix(".html")).exists()] == []


def test_the_reference_is_made_of_settings_commands_assets_and_docstrings(site):
    text = {
        name: (site / f"{name}.html").read_text("utf-8") for name in ("settings", "commands", "assets", "api")
    }
    assert "max_failed_fraction" in text["settings"]
    assert "Materialise every asset" in text["commands"]
    assert "--picture" in text["commands"]
    assert "stage_b_adapter" in text["assets"]
    assert "stage_a_pipeline.discovery.discover_groups" in text["api"]


def test_no_page_asks_another_host_for_anything(site):
    for path in site.rglob("*"):
        if path.suffix in {".html", ".css", ".svg"}:
            text = path.read_text("utf-8")
            assert ADDRESSES.findall(text) + IMPORTS.findall(text) == [], path.name


@pytest.fixture(scope="module")
def browser_page(site):
    """A page of a real browser, as narrow as a telephone, and what it has asked for."""
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    from playwright.sync_api import sync_playwright

    handler = partial(QuietHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        yield page, f"http://127.0.0.1:{server.server_port}"
        browser.close()
    server.shutdown()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Tests show nothing."""


@pytest.mark.browser
def test_every_page_fits_a_telephone_and_is_whole_without_a_network(site, browser_page):
    page, address = browser_page
    asked, broken = set(), []
    page.on("request", lambda request: asked.add(request.url.split("/")[2]))
    page.on("response", lambda response: broken.append(response.url) if response.status >= 400 else None)
    page.on("pageerror", lambda error: broken.append(str(error)))
    wide = []
    for path in sorted(site.glob("*.html")):
        page.goto(f"{address}/{path.name}")
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(path.name)
    assert wide == []
    assert broken == []
    assert asked == {address.split("/")[2]}


@pytest.mark.browser
def test_a_diagram_is_drawn_for_the_light_and_for_the_dark_theme(browser_page):
    page, address = browser_page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.goto(f"{address}/architecture.html")
        shown = page.locator(".diagram img:visible")
        assert shown.count() >= 3
        assert {theme in (shown.nth(place).get_attribute("src") or "") for place in range(shown.count())} == {
            True
        }
        assert all(shown.nth(place).bounding_box()["width"] > 200 for place in range(shown.count()))
