"""JSON as models write it: read leniently where that is safe, written on one line, numbers untouched.

Everything here is linear in the length of the text, whatever the text.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_MAX_DEPTH: Final = 32
"""Deeper nesting is not read. A summary has five levels, and the limit keeps recursion harmless."""
_MAX_NUMBER: Final = 300
"""Digits beyond which a number with a fraction or exponent counts as infinite."""

_LONGEST_COUNT: Final = 9
"""Digits of a count; what a runaway answer writes beyond them is no count of things in a photo."""

INVISIBLE: Final = r"\x7f-\x84\x86-\x9f\u200b\u200e\u200f\u2060\ufeff"
"""Byte-order mark, zero-width marks, delete and control characters, as a range of a pattern."""
_ESCAPED: Final = re.compile(rf"[\x85\u2028\u2029{INVISIBLE}]")
"""What a string keeps as an escape: line ends that json.dumps lets through, and the invisible."""

_TEXT: Final = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
"""A string, or what is left of the text where it does not end."""
_TEXT_OR_BRACKET: Final = re.compile(rf"{_TEXT}|[\[\]{{}}]", re.DOTALL)
_QUOTED: Final = re.compile(rf"{_TEXT}|“[^“”]*”|＂[^＂]*＂", re.DOTALL)
_ASCII: Final = str.maketrans("｛｝［］【】：，＝“”＂\u3000\xa0", '{}[][]:,="""  ')


class Number(str):
    """A number as it was written: 1.0 stays 1.0."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Json:
    """A parsed value. Numbers are Number; of a doubled key the last value counts, as everywhere."""

    value: object
    doubled_key: bool = False
    not_finite: bool = False


def parse_json(text: str) -> Json | None:
    """The object or array that is the whole text; None for anything else."""
    if text[:1] not in ("{", "["):
        return None
    found = parse_json_at(text, 0)
    return found[0] if found and not text[found[1] :].strip() else None


def parse_json_at(text: str, start: int) -> tuple[Json, int] | None:
    """The object or array that begins at `start`, and where it ends; None where none can be read."""
    if _is_too_deep(text, start):
        return None
    doubled: list[str] = []
    infinite: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(found := dict(pairs)) < len(pairs):
            doubled.append("")
        return found

    def number(digits: str) -> Number:
        if len(digits) > _MAX_NUMBER or not math.isfinite(float(digits)):
            infinite.append(digits)
        return Number(digits)

    decoder = json.JSONDecoder(
        # Models put raw line breaks and tabs into strings.
        strict=False,
        object_pairs_hook=collect,
        parse_int=Number,
        parse_float=number,
        parse_constant=number,
    )
    try:
        value, end = decoder.raw_decode(text, start)
    except ValueError:
        return None
    return Json(value, doubled_key=bool(doubled), not_finite=bool(infinite)), end


def dump_json(value: object) -> str:
    """One line with separators `, ` and `: `, numbers as they were written."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {dump_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dump_json, value)) + "]"
    if isinstance(value, str) and not isinstance(value, Number):
        return _quoted(value)
    return str(value) if isinstance(value, Number) else json.dumps(value)


def texts_within(value: object) -> Iterator[str]:
    """All keys and strings of a parsed value."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts_within(item)
    elif type(value) is str:
        yield value


def counts_of(value: object) -> Iterator[tuple[str, int]]:
    """The values that a parsed object counts, with their counts above 0; nothing of what is no count."""
    for name, count in value.items() if isinstance(value, dict) else ():
        if isinstance(count, Number) and len(count) <= _LONGEST_COUNT and count.isdigit() and int(count):
            yield name, int(count)


def items_of(value: object) -> list[object]:
    """The items of a parsed list; none of anything else."""
    return value if isinstance(value, list) else []


def is_unclosed(text: str) -> bool:
    """Whether an object or array is still open at the end; an open string hides what follows it."""
    last = deque(_depths(text, 0), maxlen=1)
    return bool(last) and last[0] > 0


def with_ascii_punctuation(text: str) -> str:
    """Full-width punctuation outside strings as JSON has it, and full-width quotes as its quotes."""
    parts = []
    end = 0
    for quoted in _QUOTED.finditer(text):
        parts.append(text[end : quoted.start()].translate(_ASCII))
        body = quoted[0]
        parts.append(body if body.startswith('"') else _quoted(body[1:-1]))
        end = quoted.end()
    return "".join(parts) + text[end:].translate(_ASCII)


def _quoted(text: str) -> str:
    return _ESCAPED.sub(lambda mark: f"\\u{ord(mark[0]):04x}", json.dumps(text, ensure_ascii=False))


def _is_too_deep(text: str, start: int) -> bool:
    """Looks no further than the end of the value that begins at `start`."""
    for depth in _depths(text, start):
        if not 0 < depth <= _MAX_DEPTH:
            return depth > 0
    return False


def _depths(text: str, start: int) -> Iterator[int]:
    """How many brackets are open behind each bracket that is outside strings."""
    depth = 0
    for token in _TEXT_OR_BRACKET.finditer(text, start):
        if not token[0].startswith('"'):
            depth = depth + 1 if token[0] in "[{" else max(0, depth - 1)
            yield depth
