"""Draw every mermaid block of the pages into images/diagrams, as the site shows it: `make diagrams`.

`python draw_diagrams.py MERMAID_JS` needs mermaid's own script and an installed Chromium.
"""

import re
import shutil
import sys
from pathlib import Path

from diagrams import DOCS, PICTURES, THEMES, is_current, mark_of, picture_of
from playwright.sync_api import Page, sync_playwright

THEME_NAMES = {"light": "neutral", "dark": "dark"}
DRAW = """async ([source, theme]) => {
  mermaid.initialize({
    startOnLoad: false, theme, htmlLabels: false, deterministicIds: true, fontFamily: 'sans-serif',
    flowchart: {htmlLabels: false, useMaxWidth: false}, sequence: {useMaxWidth: false},
  });
  return (await mermaid.render('diagram', source)).svg;
}"""


def diagrams() -> list[str]:
    """The source of every block, page by page."""
    pages = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
    return [
        source
        for page in pages
        for source in re.findall(r"^```mermaid\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
    ]


def draw(page: Page, source: str) -> None:
    """Write the block's pictures, unless they are of this text."""
    for theme in THEMES:
        picture = picture_of(source, theme)
        if not is_current(source, picture):
            svg = page.evaluate(DRAW, [source, THEME_NAMES[theme]])
            picture.write_text(f"{mark_of(source)}\n{svg}\n", "utf-8")
            print(picture.relative_to(DOCS))


def main(script: Path) -> None:
    """Draw what is missing or of another text, and remove pictures of no block."""
    PICTURES.mkdir(exist_ok=True)
    programs = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next(filter(None, programs)), args=["--no-sandbox"]
        )
        page = browser.new_page()
        page.add_script_tag(path=script)
        for source in diagrams():
            draw(page, source)
        browser.close()
    kept = {picture_of(source, theme) for source in diagrams() for theme in THEMES}
    for picture in set(PICTURES.iterdir()) - kept:
        picture.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
