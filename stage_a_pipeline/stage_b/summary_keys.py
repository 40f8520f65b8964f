"""Which attributes a summary states of each category, read strictly: what is not JSON is no summary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stage_a_pipeline.vocabulary import CATEGORY, IRRELEVANT, STATISTICS

_HEADER: Final = re.compile(r"\s*+<DOMAIN=[^<>]*+>\s*+[,，]?\s*+<TASK=[^<>]*+>")
_NOT_COUNTED: Final = frozenset({CATEGORY, "文本"})
"""Keys of an entry that are no attribute to recall: its name, and texts as they were read off."""


@dataclass(frozen=True, slots=True)
class SummaryKeys:
    """Attributes by category; entries of one category are taken together."""

    irrelevant: bool = False
    attributes: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_keys(text: str) -> SummaryKeys | None:
    """The keys of 无关图片 or of one JSON object with 统计, behind a header or none; None for all else."""
    header = _HEADER.match(text)
    body = text[header.end() if header else 0 :].strip()
    if body == IRRELEVANT:
        return SummaryKeys(irrelevant=True)
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    entries = document.get(STATISTICS) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        return None
    found: dict[str, frozenset[str]] = {}
    for entry in entries:
        name = entry.get(CATEGORY) if isinstance(entry, dict) else None
        if isinstance(name, str):
            found[name] = found.get(name, frozenset()) | (entry.keys() - _NOT_COUNTED)
    return SummaryKeys(attributes=found)


def recall_keys(predicted: SummaryKeys, reference: SummaryKeys) -> float:
    """Mean over the reference's categories with attributes of the share that `predicted` states too.

    0.0 where only one is 无关图片; 1.0 where the reference has nothing to recall.
    """
    if predicted.irrelevant != reference.irrelevant:
        return 0.0
    shares = [
        len(keys & predicted.attributes.get(name, frozenset())) / len(keys)
        for name, keys in reference.attributes.items()
        if keys
    ]
    return sum(shares) / len(shares) if shares else 1.0


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
