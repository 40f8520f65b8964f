"""What a summary says: the categories it names and the values it counts, whether or not its form is right."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.model_json import counts_of, items_of, parse_json
from stage_a_pipeline.vocabulary import (
    CATEGORY,
    DATASETS,
    GROUP_STATISTICS,
    REMARKS,
    STATISTICS,
    VOCABULARY,
    Attribute,
)


@dataclass(frozen=True, slots=True)
class Content:
    """Categories by name, and counts by (attribute, value).

    An attribute is named with its category, `BBU设备.品牌`; 备注 and 分组统计 are attributes of their own,
    the latter with values like `1/尾纤`.
    """

    categories: frozenset[str]
    values: Mapping[tuple[str, str], int]


def read_content(text: str) -> Content:
    """What can be read of a summary; nothing of a text that is not JSON."""
    found = parse_json(text)
    document = found.value if found is not None and isinstance(found.value, dict) else {}
    entries = [entry for entry in items_of(document.get(STATISTICS)) if isinstance(entry, dict)]
    counted: Counter[tuple[str, str]] = Counter()
    for attribute, value, count in _counted(document, entries):
        counted[attribute, value] += count
    return Content(frozenset(name for entry in entries if (name := _category(entry))), counted)


def attribute_order(names: Iterable[str]) -> list[str]:
    """Attribute names in the order of the vocabulary; unknown ones last, sorted."""
    known = [*_ATTRIBUTES, REMARKS, GROUP_STATISTICS]
    return _ordered(sorted(names), known)


def category_order(names: Iterable[str]) -> list[str]:
    """Category names in the order of the vocabulary; unknown ones last, sorted."""
    known = [category.name for dataset in DATASETS for category in VOCABULARY[dataset]]
    return _ordered(sorted(names), known)


def value_order(attribute: str, values: Iterable[str]) -> list[str]:
    """Values of an attribute in the order of the vocabulary, then numbers by size, then texts."""
    known = _ATTRIBUTES[attribute].values if attribute in _ATTRIBUTES else ()
    numbers_first = sorted(values, key=lambda value: (not _is_number(value), _size(value), value))
    return _ordered(numbers_first, known)


def is_free(attribute: str) -> bool:
    """Whether the attribute takes any text or number, or is not in the vocabulary at all."""
    return attribute not in _ATTRIBUTES or not _ATTRIBUTES[attribute].values


_ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    f"{category.name}.{attribute.name}": attribute
    for dataset in DATASETS
    for category in VOCABULARY[dataset]
    for attribute in category.attributes
}


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Known names first, in their order; the others keep theirs."""
    # A category of both datasets counts where it comes first.
    rank = {name: place for place, name in reversed(list(enumerate(known)))}
    return sorted(names, key=lambda name: rank.get(name, sys.maxsize))


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()


def _size(value: str) -> int:
    """Numbers without leading zeros are in order by length, then as texts; others are in order as texts."""
    return len(value.lstrip("0")) if _is_number(value) else 0


def _counted(
    document: Mapping[str, object], entries: Iterable[Mapping[str, object]]
) -> Iterator[tuple[str, str, int]]:
    for entry in entries:
        if name := _category(entry):
            for key, counts in entry.items():
                yield from ((f"{name}.{key}", value, count) for value, count in counts_of(counts))
    for remark in items_of(document.get(REMARKS)):
        if type(remark) is str:
            yield REMARKS, remark, 1
    groups = document.get(GROUP_STATISTICS)
    for group, counts in groups.items() if isinstance(groups, dict) else ():
        yield from ((GROUP_STATISTICS, f"{group}/{name}", count) for name, count in counts_of(counts))


def _category(entry: Mapping[str, object]) -> str | None:
    name = entry.get(CATEGORY)
    return name if type(name) is str else None
