"""The summaries of a dataset as a grammar: its vocabulary in canonical form, every repetition bounded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import zip_longest
from typing import Final

from stage_a_pipeline.model_json import INVISIBLE
from stage_a_pipeline.vocabulary import (
    CATEGORY,
    DATASETS,
    GROUP_STATISTICS,
    IRRELEVANT,
    REMARKS,
    STATISTICS,
    VOCABULARY,
    Attribute,
    Category,
    Dataset,
)

# Cleaning calls what is said 32 times over endless, in a text from 64 characters on.
_LONGEST_TEXT: Final = 60
_MOST_OPEN_VALUES: Final = 24
_MOST_REMARKS: Final = 8
_MOST_GROUPS: Final = 16

# What a canonical line holds as \u escape only, and `<`, with which special tokens begin.
_FORBIDDEN: Final = rf'"\\<\x00-\x1f\x85\u2028\u2029{INVISIBLE}'
_ESCAPE: Final = r'\\["\\]'

_OPEN_RULES: Final = (
    "COUNT: /[1-9][0-9]{0,2}/",
    'DIGITS: /"[0-9]{1,6}"/',
    f'TEXT: /"([^\\s{_FORBIDDEN}]|{_ESCAPE})([^{_FORBIDDEN}]|{_ESCAPE}){{0,{_LONGEST_TEXT - 1}}}"/',
    f'digit_counts: DIGITS ": " COUNT (", " DIGITS ": " COUNT){{0,{_MOST_OPEN_VALUES - 1}}}',
    f'text_counts: TEXT ": " COUNT (", " TEXT ": " COUNT){{0,{_MOST_OPEN_VALUES - 1}}}',
)

TEXT_SLICES: Final = tuple(f"[^{_FORBIDDEN}]{{1,{length}}}" for length in (10, 30))
"""Patterns of tokens that may stand within a text. llguidance keeps the set of tokens that match each, and
need not try 150,000 of them one by one: 0.1 ms a step instead of 2."""


@cache
def summary_grammar(dataset: Dataset) -> str:
    """All canonical summary lines of a dataset, in llguidance's dialect of Lark.

    Categories, attributes and listed values stand in the vocabulary's order, each at most once. Of texts
    and digits a grammar cannot tell that one has occurred; cleaning resolves a doubled one.
    """
    categories = VOCABULARY[dataset]
    start = f"start: {_quoted(IRRELEVANT)} | {_begin(STATISTICS, '{', '[')} entry {_quoted(']')} rest"
    rules = [start, *_some_of("entry", [f"category_{place}" for place in range(len(categories))])]
    for place, category in enumerate(categories):
        rules += _category_rules(f"category_{place}", category)
    return "\n".join([*rules, *_rest_rules(dataset, categories), *_OPEN_RULES])


@cache
def grammar_version() -> str:
    """Names the form that the grammars hold answers to; another whenever a grammar changes."""
    texts = "\n".join(map(summary_grammar, DATASETS))
    return f"summary-grammar/{hashlib.sha256(texts.encode()).hexdigest()[:16]}"


def _category_rules(rule: str, category: Category) -> Iterator[str]:
    attributes = []
    for place, attribute in enumerate(category.attributes):
        counts = _open_counts(attribute) or f"{rule}_{place}"
        attributes.append(f"({_begin(attribute.name, ', ', '{')} {counts} {_quoted('}')})?")
        yield from _some_of(counts, _counted(attribute.values)) if attribute.values else ()
    name = json.dumps(category.name, ensure_ascii=False)
    yield " ".join([f"{rule}: {_begin(CATEGORY, '{', name)}", *attributes, _quoted("}")])


def _open_counts(attribute: Attribute) -> str | None:
    if attribute.values:
        return None
    return "digit_counts" if attribute.digits else "text_counts"


def _rest_rules(dataset: Dataset, categories: Sequence[Category]) -> Iterator[str]:
    """What follows the list of categories, up to the end of the line."""
    if dataset == "bbu":
        more = f'(", " TEXT){{0,{_MOST_REMARKS - 1}}}'
        yield f"rest: ({_begin(REMARKS, ', ', '[')} TEXT {more} {_quoted(']')})? {_quoted('}')}"
        return
    more = f'(", " group){{0,{_MOST_GROUPS - 1}}}'
    yield f"rest: ({_begin(GROUP_STATISTICS, ', ', '{')} group {more} {_quoted('}')})? {_quoted('}')}"
    yield f"group: DIGITS {_quoted(': {')} grouped {_quoted('}')}"
    yield from _some_of("grouped", _counted([category.name for category in categories]))


def _counted(names: Sequence[str]) -> list[str]:
    return [f"{_begin(name, '', '')} COUNT" for name in names]


def _some_of(rule: str, items: Sequence[str]) -> Iterator[str]:
    """Rules by which `rule` is one or more of the items, in their order, each at most once."""
    names = [rule, *(f"{rule}_from_{place}" for place in range(1, len(items)))]
    for name, item, rest in zip_longest(names, items, names[1:]):
        yield f"{name}: {item}" if rest is None else f'{name}: {item} (", " {rest})? | {rest}'


def _begin(key: str, before: str, after: str) -> str:
    """A key of an object as a Lark string, with what stands around it."""
    return _quoted(f"{before}{json.dumps(key, ensure_ascii=False)}: {after}")


def _quoted(text: str) -> str:
    # Lark's strings are escaped as those of JSON.
    return json.dumps(text, ensure_ascii=False)
