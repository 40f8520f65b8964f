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
_FORM: Final = re.compile(r"(通过|不通过)\r?\n理由[:：]([^\r\n]*\S[^\r\n]*)")


def read_verdict(text: str) -> Label | None:
    """The verdict of an answer of exactly two lines, 通过 or 不通过 and `理由: ...`; None for any other."""
    match = _FORM.fullmatch(text.strip())
    return _LABELS[match[1]] if match else None
