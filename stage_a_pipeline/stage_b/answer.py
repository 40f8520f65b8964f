"""The two lines of a verdict: the words of its first, and how an answer is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from stage_a_pipeline.records import Label

VERDICT_WORDS: Final[Mapping[Label, str]] = MappingProxyType({"pass": "通过", "fail": "不通过"})
"""What the first line says of each label."""

_LABELS: Final[Mapping[str, Label]] = {word: label for label, word in VERDICT_WORDS.items()}
_REASON: Final = r"理由[:：]"
_BREAKS: Final = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
"""All that some reader takes for the end of a line; two lines are two lines to every reader."""
# Possessive: what follows never matches what was taken, and giving it back would take quadratic time.
_FORM: Final = re.compile(rf"({'|'.join(_LABELS)})\r?\n{_REASON}[^\S{_BREAKS}]*+\S[^{_BREAKS}]*+")
_REASON_START: Final = re.compile(_REASON)


def read_verdict(text: str) -> Label | None:
    """The verdict of an answer in the form of two lines, 通过 or 不通过 and `理由: ...`; None for any other.

    White space behind the second line is no part of it. Lines end with LF or CR LF, and nothing stands
    before the verdict or behind it on its line.
    """
    match = _FORM.fullmatch(text.rstrip())
    return _LABELS[match[1]] if match else None


def first_line(text: str) -> str:
    """What stands before the first LF, stripped, whatever the form of the answer."""
    return text.partition("\n")[0].strip()


def read_reason(text: str) -> str:
    """What follows the first `理由:` to the end, in any form; without one, all behind the first line."""
    start = _REASON_START.search(text)
    return text[start.end() :] if start else text.partition("\n")[2]
