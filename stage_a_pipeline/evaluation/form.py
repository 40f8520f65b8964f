"""The form of a summary: whether a line is 无关图片 or canonical JSON in a dataset's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from stage_a_pipeline.model_json import dump_json, parse_json
from stage_a_pipeline.vocabulary import (
    CATEGORY,
    GROUP_STATISTICS,
    IRRELEVANT,
    REMARKS,
    STATISTICS,
    VOCABULARY,
    Attribute,
    Dataset,
)

_KEYS: Final = (STATISTICS, REMARKS, GROUP_STATISTICS)
"""In the order in which cleaning writes them: a truth in another could never be answered."""


def summary_defect(text: str, dataset: Dataset) -> str | None:
    """Why a line is no canonical summary in the dataset's vocabulary; None when it is one."""
    if text == IRRELEVANT:
        return None
    # Nesting deeper than any summary's is not read: it would exhaust the stack.
    if parse_json(text) is None:
        return "not JSON"
    try:
        document = json.loads(text)
    except ValueError:
        return "not JSON"
    if not isinstance(document, dict) or dump_json(document) != text:
        return "not one canonical line of a JSON object"
    return (
        _outline_defect(document)
        or next(
            (problem for entry in document[STATISTICS] if (problem := _entry_defect(entry, dataset))), None
        )
        or _remarks_defect(document, dataset)
        or _groups_defect(document, dataset)
    )


def _outline_defect(document: Mapping[str, object]) -> str | None:
    entries = document.get(STATISTICS)
    if set(document) - set(_KEYS) or not isinstance(entries, list):
        return f"not an object with the list {STATISTICS}"
    if list(document) != [key for key in _KEYS if key in document]:
        return f"keys in another order than {', '.join(_KEYS)}"
    names = [entry.get(CATEGORY) if isinstance(entry, dict) else None for entry in entries]
    if not names or not all(isinstance(name, str) for name in names):
        return "an entry without a category, or no entry"
    return "a category twice" if len(set(names)) != len(names) else None


def _entry_defect(entry: Mapping[str, object], dataset: Dataset) -> str | None:
    known = {category.name: category for category in VOCABULARY[dataset]}
    name = entry[CATEGORY]
    if name not in known:
        return f"unknown category {name}"
    attributes = {attribute.name: attribute for attribute in known[str(name)].attributes}
    for key, counts in entry.items():
        if key == CATEGORY:
            continue
        if key not in attributes:
            return f"{name} has no attribute {key}"
        if not isinstance(counts, dict) or not counts:
            return f"{name}.{key} holds no counts"
        for value, count in counts.items():
            if not _fits(attributes[key], value) or not _is_count(count):
                return f"{name}.{key} counts {value!r}: {count!r}"
    return None


def _remarks_defect(document: Mapping[str, object], dataset: Dataset) -> str | None:
    if REMARKS not in document:
        return None
    if dataset != "bbu":
        return f"{REMARKS} belongs to bbu summaries only"
    remarks = document[REMARKS]
    sound = isinstance(remarks, list) and all(isinstance(text, str) and text.strip() for text in remarks)
    return None if sound else f"{REMARKS} is no list of texts"


def _groups_defect(document: Mapping[str, object], dataset: Dataset) -> str | None:
    if GROUP_STATISTICS not in document:
        return None
    if dataset != "rru":
        return f"{GROUP_STATISTICS} belongs to rru summaries only"
    groups = document[GROUP_STATISTICS]
    if not isinstance(groups, dict):
        return f"{GROUP_STATISTICS} is no object of groups"
    names = {category.name for category in VOCABULARY[dataset]}
    for group, counts in groups.items():
        sound = isinstance(counts, dict) and all(
            name in names and _is_count(count) for name, count in counts.items()
        )
        if not sound:
            return f"{GROUP_STATISTICS}.{group} holds no counts of categories"
    return None


def _is_count(count: object) -> bool:
    return type(count) is int and count >= 1


def _fits(attribute: Attribute, value: str) -> bool:
    if attribute.digits:
        return value.isascii() and value.isdigit()
    return value in attribute.values if attribute.values else bool(value.strip())
