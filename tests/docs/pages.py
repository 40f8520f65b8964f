"""The fenced blocks of every page, and what a comment above one says of it.

`<!-- not run: REASON -->` leaves a block of commands out, for one of REASONS. `<!-- file: NAME -->` names the
file that a reader is told to save the block as.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
LANGUAGES: Final = {"sh", "python", "toml", "json", "yaml", "text", "mermaid"}
SPHINX: Final = re.compile(r"\{[a-z-]+\}.*")
REASONS: Final = (
    "needs a GPU",
    "needs Docker",
    "needs Kubernetes",
    "needs a Ray cluster of several hosts",
    "needs vLLM's own environment",
    "needs ms-swift's own environment",
    "needs a certificate authority",
    "is what runs the tests",
    "needs torchvision",
    "takes a quarter of an hour",
    "takes hours",
)
"""Why commands may be left out; a test that runs them in another way may be named behind a semicolon."""

_COMMENT = r"(?:<!-- (?P<kind>not run|file): (?P<said>[^\n]*?) -->\n\n?)?"
_BLOCK = re.compile(rf"{_COMMENT}^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$", re.S | re.M)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its fence, from 1."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None
    file: str | None

    @property
    def place(self) -> str:
        """For messages and test ids."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """The lines that are typed, continued ones in one."""
        joined = self.text.replace("\\\n", " ")
        return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    text = page.read_text("utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        said = {match["kind"]: match["said"]} if match["kind"] else {}
        fence = match.start("indent")
        indent = len(match["indent"])
        content = "".join(line[indent:] for line in match["text"].splitlines(keepends=True))
        line = text.count("\n", 0, fence) + 1
        found.append(
            Block(page, line, match["language"].strip(), content, said.get("not run"), said.get("file"))
        )
    return found


def all_blocks() -> list[Block]:
    """Those of every page."""
    return [block for page in PAGES for block in blocks_of(page)]
