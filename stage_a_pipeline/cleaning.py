"""From what a model wrote to one clean line, with flags for what was noticed on the way.

A clean line has one of three forms: 无关图片, one line of JSON with the key 统计, or one line of text.
Cleaning never invents: JSON that was cut is flagged, not closed. Cleaning a clean line changes nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from stage_a_pipeline.model_json import (
    INVISIBLE,
    Json,
    dump_json,
    is_unclosed,
    parse_json,
    parse_json_at,
    texts_within,
    with_ascii_punctuation,
)
from stage_a_pipeline.repetition import is_endless
from stage_a_pipeline.vocabulary import GROUP_STATISTICS, IRRELEVANT, REMARKS, STATISTICS

IRRELEVANT_PHOTO: Final = "irrelevant"
"""The line is 无关图片."""
FREE_TEXT: Final = "free_text"
"""The line is text, neither 无关图片 nor a summary object."""
EXTRACTED: Final = "extracted"
"""The summary stood inside other text or in a wrapping object, which was dropped."""
REPAIRED: Final = "repaired"
"""Punctuation was mended or a doubled key resolved before the summary could be read."""
STOP_TOKEN: Final = "stop_token"
"""A stop token at the end was cut off."""
SPECIAL_TOKENS: Final = "special_tokens"
"""The answer holds a token such as `<|im_start|>`, which is never content."""
REPETITION: Final = "repetition"
"""Most of the answer is one piece of text over and over."""
TRUNCATED_JSON: Final = "truncated_json"
"""A JSON object was begun and not ended."""
BROKEN_JSON: Final = "broken_json"
"""Text that was meant as JSON and cannot be read as such."""
NOT_A_NUMBER: Final = "not_a_number"
"""A value is NaN or infinite."""
EMPTY: Final = "empty"
"""No letter or digit is left."""

DEFECTS: Final = (SPECIAL_TOKENS, REPETITION, TRUNCATED_JSON, BROKEN_JSON, NOT_A_NUMBER, EMPTY)
"""Flags of an answer that is not a usable summary, the most telling first."""
FLAGS: Final = (IRRELEVANT_PHOTO, FREE_TEXT, EXTRACTED, REPAIRED, STOP_TOKEN, *DEFECTS)
"""All flags, in the order in which they are reported."""


@dataclass(frozen=True, slots=True)
class CleanSummary:
    """One line of text, and what was noticed; `flags` is a subset of FLAGS in their order."""

    text: str
    flags: tuple[str, ...] = ()


# An answer is judged when it comes, and again when it is written: the latest need not be cleaned twice.
@lru_cache(maxsize=512)
def clean_summary(text: str) -> CleanSummary:
    """The answer as one line that UTF-8 can hold. Linear in its length; raises nothing."""
    noticed: set[str] = set()
    while (line := _cleaned_once(text, noticed)) != text:
        # Every pass unwraps, shortens or canonicalises, so this ends; and what it ends with is, by
        # construction, changed by no further pass.
        text = line
    noticed |= set(_judge(line))
    return CleanSummary(line, tuple(flag for flag in FLAGS if flag in noticed))


def defect(clean: CleanSummary) -> str | None:
    """Why this is not a usable summary, as one of DEFECTS; None for a usable one."""
    return next((flag for flag in DEFECTS if flag in clean.flags), None)


_DROPPED: Final = re.compile(rf"[\x00-\x08\x0e-\x1b{INVISIBLE}]")
"""Invisible and control characters. What counts as white space is folded instead."""
_HEADER: Final = r"<DOMAIN=[^<>]*>\s*[,，]?\s*<TASK=[^<>]*>"
_FENCE: Final = r"```(?:json|JSON|text)?"
_DROPPED_LINE: Final = re.compile(rf"\s*(?:{_HEADER}|{_FENCE})\s*")
_DROPPED_START: Final = re.compile(rf"(?:\s*+(?:{_HEADER}|{_FENCE}))+")
_STOP_TOKENS: Final = ("<|im_end|>", "<|endoftext|>")
_DROPPED_ENDS: Final = (*_STOP_TOKENS, "```")
_SPECIAL_TOKEN: Final = re.compile(r"<\|[^<>|\s]{1,40}\|>|</?(?:think|tool_call|tool_response)>")

_FIRST_KEYS: Final = (STATISTICS, REMARKS, GROUP_STATISTICS)
_WRAPPING_KEYS: Final = ("image_1", "图片_1")
_OBJECT_START: Final = re.compile(rf'\{{\s*"{STATISTICS}"\s*:')
_ASSIGNED: Final = {
    key: re.compile(rf'(?<!\w)"?{key}"?\s*[=:]\s*(?={bracket})')
    for key, bracket in ((STATISTICS, r"\["), (REMARKS, r"\["), (GROUP_STATISTICS, r"\{"))
}
_LIKE_JSON: Final = re.compile(r'\A[\[{]\s*(?:["\[\]{}]|\Z)|\{\s*"')
_NOTHING: Final = frozenset({"null", "none"})
_NO_NUMBER: Final = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


def _cleaned_once(text: str, noticed: set[str]) -> str:
    text = _without_ends(_printable(text), noticed)
    text = _without_headers(text).strip()
    if text.startswith(IRRELEVANT):
        return IRRELEVANT
    whole = parse_json(text)
    if whole is not None and isinstance(whole.value, dict):
        line = _from_object(whole, noticed)
        line = _joined_texts(whole.value) if line is None else line
    else:
        line = _from_prose(text, noticed)
    return " ".join(text.split()) if line is None else line


def _printable(text: str) -> str:
    # Surrogate pairs are joined, halves of pairs replaced by U+FFFD.
    encodable = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _DROPPED.sub("", encodable).strip()


def _without_ends(text: str, noticed: set[str]) -> str:
    end = len(text)
    while tail := next((token for token in _DROPPED_ENDS if text.endswith(token, 0, end)), None):
        end -= len(tail)
        if tail in _STOP_TOKENS:
            noticed.add(STOP_TOKEN)
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def _without_headers(text: str) -> str:
    lines = text.splitlines()
    kept = [line for line in lines if not _DROPPED_LINE.fullmatch(line)]
    if len(kept) < len(lines):
        text = "\n".join(kept)
    start = _DROPPED_START.match(text)
    return text[start.end() :] if start else text


def _from_object(found: Json, noticed: set[str]) -> str | None:
    """The line that a summary object or a wrapping object stands for; None for any other value."""
    if not isinstance(found.value, dict):
        return None
    if STATISTICS in found.value:
        if found.doubled_key:
            noticed.add(REPAIRED)
        first = {key: found.value[key] for key in _FIRST_KEYS if key in found.value}
        return dump_json(first | found.value)
    for key in _WRAPPING_KEYS:
        if key in found.value:
            noticed.add(EXTRACTED)
            inner = found.value[key]
            return inner if type(inner) is str else dump_json(inner)
    return None


def _joined_texts(value: dict[str, object]) -> str | None:
    texts = [text for text in value.values() if type(text) is str]
    return "，".join(filter(None, map(str.strip, texts))) if value and len(texts) == len(value) else None


def _from_prose(text: str, noticed: set[str]) -> str | None:
    """The summary within other text, as it stands or after a repair of its punctuation.

    None also where a special token or a summary that was cut stands beside it: what remains as text
    is judged as such, so that cleaning a line twice cannot hide its defect.
    """
    if _SPECIAL_TOKEN.search(text):
        return None
    mended = with_ascii_punctuation(text)
    for candidate, flag in ((text, EXTRACTED), (mended, REPAIRED)):
        for found, end in _objects_within(candidate):
            line = _from_object(found, noticed)
            if line is not None:
                if _ASSIGNED[STATISTICS].search(candidate, end) and is_unclosed(candidate[end:]):
                    return None
                noticed.add(flag)
                return line
    line = None if is_unclosed(mended) else _assigned_values(mended)
    if line is not None:
        noticed.add(REPAIRED)
    return line


def _objects_within(text: str) -> Iterator[tuple[Json, int]]:
    """JSON within a text, and where it ends: lines from the last, the widest braces, the last summary."""
    end = len(text)
    for line in reversed(text.splitlines(keepends=True)):
        body = line.strip()
        if body.startswith("{") and body.endswith("}") and (found := parse_json(body)):
            yield found, end
        end -= len(line)
    start, stop = text.find("{"), text.rfind("}") + 1
    if 0 <= start < stop and (found := parse_json(text[start:stop])):
        yield found, stop
    for match in _last(_OBJECT_START.finditer(text)):
        at = parse_json_at(text, match.start())
        if at and not is_unclosed(text[: match.start()]):
            yield at


def _assigned_values(text: str) -> str | None:
    """The summary of a text like `统计=[...], 备注: [...]`."""
    values: dict[str, object] = {}
    for key, pattern in _ASSIGNED.items():
        for match in _last(pattern.finditer(text)):
            if at := parse_json_at(text, match.end()):
                values[key] = at[0].value
    return dump_json(values) if STATISTICS in values else None


def _last(matches: Iterator[re.Match[str]]) -> deque[re.Match[str]]:
    return deque(matches, maxlen=1)


def _judge(line: str) -> Iterator[str]:
    """What a line is, and whether it can be used."""
    if line == IRRELEVANT:
        yield IRRELEVANT_PHOTO
        return
    if _SPECIAL_TOKEN.search(line):
        yield SPECIAL_TOKENS
    found = parse_json(line)
    if (found and found.not_finite) or _NO_NUMBER.fullmatch(line):
        yield NOT_A_NUMBER
    if found and isinstance(found.value, dict) and STATISTICS in found.value:
        if is_endless(line, closed=True) or any(map(is_endless, texts_within(found.value))):
            yield REPETITION
        return
    if is_endless(line):
        yield REPETITION
    yield EMPTY if line.lower() in _NOTHING or not any(map(str.isalnum, line)) else FREE_TEXT
    if found is None:
        yield from _judge_unread_json(with_ascii_punctuation(line))


def _judge_unread_json(text: str) -> Iterator[str]:
    like_json = _LIKE_JSON.search(text)
    if (like_json or _ASSIGNED[STATISTICS].search(text)) and is_unclosed(text):
        yield TRUNCATED_JSON
    elif like_json and like_json.start() == 0:
        yield BROKEN_JSON
