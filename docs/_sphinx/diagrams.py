"""Mermaid blocks on the site: the pictures in images/diagrams, which `make diagrams` has drawn of them.

GitHub draws the blocks by itself. A site that did so would need three megabytes of script from somewhere; a
picture of an older block fails the build.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parents[1]
PICTURES = DOCS / "images" / "diagrams"
THEMES = ("light", "dark")


def title_of(source: str) -> str:
    """What the diagram shows, from its `accTitle`. Raises ValueError without one."""
    found = re.search(r"^\s*accTitle: (.+)$", source, re.M)
    if found is None:
        raise ValueError("a mermaid block needs a line `accTitle: ...`, which names its picture")
    return found[1].strip()


def picture_of(source: str, theme: str) -> Path:
    """Where the block's picture lies."""
    name = re.sub(r"\W+", "-", title_of(source).lower()).strip("-")
    return PICTURES / f"{name}.{theme}.svg"


def mark_of(source: str) -> str:
    """The line by which a picture tells of which text it was drawn."""
    return f"<!-- of {hashlib.sha256(source.strip().encode()).hexdigest()} -->"


def is_current(source: str, picture: Path) -> bool:
    """Whether the picture was drawn of this very text."""
    return picture.exists() and picture.read_text("utf-8").startswith(mark_of(source))


class Mermaid(SphinxDirective):
    """Both pictures of the block; the theme shows one of them."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        source = "\n".join(self.content)
        try:
            title = title_of(source)
        except ValueError as error:
            raise self.error(str(error)) from error
        shown = nodes.container(classes=["diagram"])
        for theme in THEMES:
            picture = picture_of(source, theme)
            if not is_current(source, picture):
                raise self.error(f"{picture.name} is not of this diagram; run `make diagrams`")
            place = f"/{picture.relative_to(DOCS).as_posix()}"
            shown += nodes.image(uri=place, alt=title, classes=[f"only-{theme}"])
        return [shown]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
