"""PURE: what one summary says otherwise than another, by category, attribute and value, or as texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Final, Literal

from stage_a_pipeline.report.frequencies import content_of, key_order
from stage_a_pipeline.summary_content import Content

_LONGEST: Final = 4_000
"""Words beyond which two texts are told apart as wholes: the time for more would grow with its square."""
_WORD: Final = re.compile(r"[A-Za-z]+|[0-9]+|.", re.DOTALL)
"""Letters and digits stand together; each Chinese character, space or mark is a word of its own."""

PieceKind = Literal["same", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Difference:
    """How often a value is counted before and after; a category, where `value` is None, counts once."""

    attribute: str
    value: str | None
    before: int
    after: int

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Whether the value is new, gone, or counted otherwise."""
        if not self.before:
            return "added"
        return "changed" if self.after else "removed"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of two texts: what both have, or what only one has."""

    kind: PieceKind
    text: str


def differences(before: str, after: str) -> tuple[Difference, ...]:
    """What two summaries count differently, in the vocabulary's order; nothing where only words differ."""
    first, second = _counts(before), _counts(after)
    changed = [key for key in first.keys() | second.keys() if first.get(key, 0) != second.get(key, 0)]
    return tuple(Difference(*key, first.get(key, 0), second.get(key, 0)) for key in key_order(changed))


def text_pieces(before: str, after: str) -> tuple[Piece, ...]:
    """Both texts, word by word: those of kinds same and removed are the first, same and added the second."""
    first, second = _WORD.findall(before), _WORD.findall(after)
    start = _common(first, second)
    end = _common(first[start:][::-1], second[start:][::-1])
    middle = first[start : len(first) - end], second[start : len(second) - end]
    pieces = [Piece("same", "".join(first[:start])), *_middle_pieces(*middle)]
    pieces.append(Piece("same", "".join(first[len(first) - end :])))
    return tuple(piece for piece in pieces if piece.text)


def contents_of(summary: str) -> Content:
    """`content_of`, remembered: many photos have the same summary."""
    return _content_of(summary)


_content_of = lru_cache(maxsize=65_536)(content_of)


def _counts(summary: str) -> dict[tuple[str, str | None], int]:
    content = contents_of(summary)
    return dict.fromkeys(((name, None) for name in content.categories), 1) | dict(content.values.items())


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words both begin with."""
    count = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        count += 1
    return count


def _middle_pieces(first: Sequence[str], second: Sequence[str]) -> Iterator[Piece]:
    if len(first) + len(second) > _LONGEST:
        yield Piece("removed", "".join(first))
        yield Piece("added", "".join(second))
        return
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Piece("same", "".join(first[i1:i2]))
        else:
            yield Piece("removed", "".join(first[i1:i2]))
            yield Piece("added", "".join(second[j1:j2]))
