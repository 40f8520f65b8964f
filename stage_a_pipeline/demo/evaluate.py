"""How well an engine reads photos whose truth is known."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from stage_a_pipeline.engines.base import Engine, GenerationOptions, Request
from stage_a_pipeline.images import decode_photo, read_photo
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import build_prompt
from stage_a_pipeline.settings import DEFAULT_MAX_PIXELS
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

DEFAULT_OPTIONS: Final = GenerationOptions(max_new_tokens=256, repetition_penalty=1.05)


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine wrote about one photo, the truth, and what is wrong with the form, if anything."""

    mission: str
    path: str
    truth: str
    answer: str
    defect: str | None

    @property
    def exact(self) -> bool:
        return self.answer == self.truth


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares over the readings of a tree."""

    photos: int
    valid: float
    exact_match: float
    irrelevant_recall: float
    irrelevant_precision: float
    exact_by_mission: Mapping[str, float]


def read_tree(
    root: Path, engine: Engine, *, options: GenerationOptions = DEFAULT_OPTIONS, batch_size: int = 16
) -> list[Reading]:
    """The engine's answer to every unbroken photo in `root/truth.jsonl`, in its order."""
    lines = (root / "truth.jsonl").read_text("utf-8").splitlines()
    truths = iter([line for line in map(json.loads, lines) if line["broken"] is None])
    readings = []
    while batch := list(islice(truths, batch_size)):
        requests = list(_requests(root, batch, engine))
        for truth, completion in zip(batch, engine.generate(requests, options), strict=True):
            readings.append(_reading(truth, completion.text, completion.finish_reason == "stop"))
    return readings


def measure_accuracy(readings: Sequence[Reading]) -> Accuracy:
    """The shares; ValueError without any reading."""
    if not readings:
        raise ValueError("there is no photo to measure on")
    by_mission: dict[str, list[bool]] = defaultdict(list)
    for reading in readings:
        by_mission[reading.mission].append(reading.exact)
    irrelevant = [reading for reading in readings if reading.truth == IRRELEVANT]
    called_irrelevant = [reading for reading in readings if reading.answer == IRRELEVANT]
    return Accuracy(
        photos=len(readings),
        valid=_share([reading.defect is None for reading in readings]),
        exact_match=_share([reading.exact for reading in readings]),
        irrelevant_recall=_share([reading.exact for reading in irrelevant]),
        irrelevant_precision=_share([reading.exact for reading in called_irrelevant]),
        exact_by_mission={name: _share(exact) for name, exact in sorted(by_mission.items())},
    )


def summary_defect(text: str, dataset: Dataset) -> str | None:
    """Why a line is no canonical summary in the dataset's vocabulary; None when it is one."""
    if text == IRRELEVANT:
        return None
    try:
        document = json.loads(text)
    except ValueError:
        return "not JSON"
    if not isinstance(document, dict) or json.dumps(document, ensure_ascii=False) != text:
        return "not one canonical line of a JSON object"
    if set(document) - {STATISTICS, REMARKS, GROUP_STATISTICS} or not isinstance(
        document.get(STATISTICS), list
    ):
        return f"not an object with the list {STATISTICS}"
    entries = document[STATISTICS]
    names = [entry.get(CATEGORY) if isinstance(entry, dict) else None for entry in entries]
    if not names or not all(isinstance(name, str) for name in names):
        return "an entry without a category, or no entry"
    if len(set(names)) != len(names):
        return "a category twice"
    return next((problem for entry in entries if (problem := _entry_defect(entry, dataset))), None)


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
            if not _fits(attributes[key], value) or type(count) is not int or count < 1:
                return f"{name}.{key} counts {value!r}: {count!r}"
    return None


def _fits(attribute: Attribute, value: str) -> bool:
    if attribute.digits:
        return value.isascii() and value.isdigit()
    return value in attribute.values if attribute.values else bool(value.strip())


def _requests(root: Path, batch: Sequence[Mapping[str, str]], engine: Engine) -> Iterator[Request]:
    missions = load_missions()
    for truth in batch:
        mission = missions[truth["mission"]]
        limit = DEFAULT_MAX_PIXELS[mission.dataset]

        def fit(width: int, height: int, limit: int = limit) -> tuple[int, int]:
            return engine.target_size(width, height, max_pixels=limit)

        image = decode_photo(read_photo(root / truth["path"]), fit=fit)
        yield Request(truth["path"], image, build_prompt(mission))


def _reading(truth: Mapping[str, str], answer: str, ended: bool) -> Reading:
    dataset = load_missions()[truth["mission"]].dataset
    defect = summary_defect(answer, dataset) if ended else "cut at the longest length"
    return Reading(truth["mission"], truth["path"], truth["summary"], answer, defect)


def _share(hits: Sequence[bool]) -> float:
    """The share of hits; of nothing, all are right."""
    return sum(hits) / len(hits) if hits else 1.0
