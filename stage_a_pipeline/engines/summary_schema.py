"""The summaries of a dataset as a JSON schema, for servers that hold answers to one."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

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

_COUNT = {"type": "integer", "minimum": 1, "maximum": 999}
_DIGITS = r"^[0-9]{1,6}$"


def response_format(dataset: Dataset) -> dict[str, Any]:
    """OpenAI's `response_format` for the summaries of a dataset."""
    return {
        "type": "json_schema",
        "json_schema": {"name": f"{dataset}_summary", "strict": True, "schema": summary_schema(dataset)},
    }


@cache
def schema_version() -> str:
    """Names the form that the schemas hold answers to; another whenever a schema changes."""
    texts = json.dumps([summary_schema(dataset) for dataset in DATASETS])
    return f"summary-schema/{hashlib.sha256(texts.encode()).hexdigest()[:16]}"


@cache
def summary_schema(dataset: Dataset) -> dict[str, Any]:
    """What is written for a photo: a JSON string where it is irrelevant, an object otherwise.

    The vocabulary's order is that of the properties; whether a server keeps to it is its own affair.
    """
    categories = VOCABULARY[dataset]
    properties: dict[str, Any] = {
        STATISTICS: {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_entry(item) for item in categories]},
        }
    }
    if dataset == "bbu":
        properties[REMARKS] = {"type": "array", "items": {"type": "string"}}
    else:
        counts = _object({category.name: _COUNT for category in categories})
        properties[GROUP_STATISTICS] = _open_object(_DIGITS, counts)
    return {"anyOf": [{"const": IRRELEVANT}, _object(properties, required=[STATISTICS])]}


def _entry(category: Category) -> dict[str, Any]:
    attributes = {attribute.name: _counts(attribute) for attribute in category.attributes}
    return _object({CATEGORY: {"const": category.name}, **attributes}, required=[CATEGORY])


def _counts(attribute: Attribute) -> dict[str, Any]:
    if attribute.values:
        return _object(dict.fromkeys(attribute.values, _COUNT))
    return _open_object(_DIGITS if attribute.digits else None, _COUNT)


def _object(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required or [],
        "additionalProperties": False,
    }


def _open_object(names: str | None, values: dict[str, Any]) -> dict[str, Any]:
    if names is None:
        return {"type": "object", "additionalProperties": values}
    return {"type": "object", "patternProperties": {names: values}, "additionalProperties": False}
