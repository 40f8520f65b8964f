"""What an answer earns: pure functions over a batch, `f(completions, **columns) -> list[float]`.

A completion is a string. Columns are lists as long as the completions; those that a function does not
name are ignored. docs/stage-b-rewards.md has the formulas, with a table of cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from stage_a_pipeline.stage_b.answer import VERDICT_WORDS, first_line, read_reason, read_verdict
from stage_a_pipeline.stage_b.consistency import score_reason
from stage_a_pipeline.stage_b.summary_keys import read_keys, recall_keys

_IMAGE_KEY: Final = re.compile(r"image_([1-9][0-9]*)")

Reward = Callable[..., list[float]]
"""`f(completions, **columns)`: one number per completion."""


def label_reward(
    completions: Sequence[str], *, group_label: Sequence[object] | None = None, **_columns: object
) -> list[float]:
    """1.0 where the first line, stripped, is the row's `group_label`; 0.0 for a label that is no verdict."""
    texts = _texts(completions)
    words = frozenset(VERDICT_WORDS.values())
    labels = _column("group_label", group_label, texts)
    return [
        float(isinstance(label, str) and label in words and first_line(text) == label)
        for text, label in zip(texts, labels, strict=True)
    ]


def format_reward(completions: Sequence[str], **_columns: object) -> list[float]:
    """1.0 where the answer has the form of two lines that `answer.read_verdict` reads, else 0.0."""
    return [float(read_verdict(text) is not None) for text in _texts(completions)]


def consistency_reward(
    completions: Sequence[str], *, stage_a_summaries: Sequence[object] | None = None, **_columns: object
) -> list[float]:
    """How far the row's `stage_a_summaries` support what the reason claims, from 0.0 to 1.0.

    A row has a list of summaries in image order, or a mapping `image_1..image_N` to them; None stands for
    no image. ValueError for a row that is neither.
    """
    texts = _texts(completions)
    groups = _column("stage_a_summaries", stage_a_summaries, texts)
    return [
        score_reason(read_reason(text), _summaries_by_number(group, row))
        for row, (text, group) in enumerate(zip(texts, groups, strict=True))
    ]


def attribute_key_recall(
    completions: Sequence[str], *, reference: Sequence[object] | None = None, **_columns: object
) -> list[float]:
    """The share of the attributes in the row's `reference` summary that a summary states too.

    0.0 where either of them cannot be read, or only one is 无关图片.
    """
    texts = _texts(completions)
    scores = []
    for text, expected in zip(texts, _column("reference", reference, texts), strict=True):
        known = read_keys(expected) if isinstance(expected, str) else None
        stated = read_keys(text)
        scores.append(recall_keys(stated, known) if stated is not None and known is not None else 0.0)
    return scores


def combine_rewards(rewards: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """The weighted sum per completion; ValueError unless there is one weight for each list of rewards."""
    if len(weights) != len(rewards):
        raise ValueError(f"{len(weights)} weights for {len(rewards)} rewards; give one weight per reward")
    lengths = [len(values) for values in rewards]
    if len(set(lengths)) > 1:
        raise ValueError(f"rewards of {lengths} completions; all must be of the same completions")
    return [
        sum(weight * value for weight, value in zip(weights, values, strict=True))
        for values in zip(*rewards, strict=True)
    ]


VERDICT_REWARDS: Final[Mapping[str, Reward]] = MappingProxyType(
    {"label": label_reward, "format": format_reward, "consistency": consistency_reward}
)
"""What training rewards, in the order of `GrpoSettings.reward_weights`."""


def _texts(completions: Sequence[str]) -> Sequence[str]:
    for row, text in enumerate(completions):
        # Message lists would earn 0.0 without an error, and training would learn nothing.
        if not isinstance(text, str):
            raise ValueError(f"completions[{row}] is {_kind(text)}, not a string; unwrap it first")
    return completions


def _column(name: str, values: Sequence[object] | None, texts: Sequence[str]) -> Sequence[object]:
    if values is None:
        raise ValueError(f"column {name} is missing; keep it in the dataset")
    if isinstance(values, str | Mapping):
        raise ValueError(f"column {name} is {_kind(values)}; give a list with one entry per completion")
    if len(values) != len(texts):
        raise ValueError(f"column {name} has {len(values)} rows for {len(texts)} completions")
    return values


def _summaries_by_number(group: object, row: int) -> dict[str, str]:
    """The summaries by the number of their image, as a reason writes it."""
    place = f"stage_a_summaries[{row}]"
    if isinstance(group, Mapping):
        items = [(_image_number(key, place), summary) for key, summary in group.items()]
    elif isinstance(group, Sequence) and not isinstance(group, str):
        items = [(str(number), summary) for number, summary in enumerate(group, start=1)]
    else:
        raise ValueError(f"{place} is {_kind(group)}; give the summaries as a list in image order")
    found = {}
    for number, summary in items:
        if isinstance(summary, str):
            found[number] = summary
        elif summary is not None:
            raise ValueError(f"{place}, image {number}, is {_kind(summary)}; summaries are strings")
    return found


def _image_number(key: object, place: str) -> str:
    if not (isinstance(key, str) and (match := _IMAGE_KEY.fullmatch(key))):
        raise ValueError(f"{place} has the key {key!r}; the keys of a mapping are image_1, image_2 and so on")
    return match[1]


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
