"""`metrics.jsonl` as a training writes it: one line per step of the optimizer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.jsonl import load_json_line, numbered_lines
from stage_a_pipeline.places import Place

_COMPONENT: Final = re.compile(r"rewards/(.+)/mean")
_MISSING: Final = "give the metrics.jsonl of a training, or train first"
_DAMAGED: Final = "remove that line, or train again"


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """One step: the mean reward, that of each component, and every other number that was finite."""

    step: int
    reward: float
    components: Mapping[str, float]
    others: Mapping[str, float]


def read_metrics(path: Place) -> tuple[StepMetrics, ...]:
    """The steps in their order; none of an empty file.

    A step that is not above the one before it begins again from there, as a training does that goes on
    from its checkpoint. A last line without its end is left out where it is torn: the training
    may be writing it. InputError names file and line of any other damage.
    """
    steps: list[StepMetrics] = []
    for number, line in numbered_lines(path, what="metrics", remedy=_MISSING):
        try:
            found = _parse_step(load_json_line(line))
        except RecordError as error:
            if not line.endswith(b"\n"):
                break
            raise InputError(f"{path}, line {number}: {error}; {_DAMAGED}") from None
        while steps and steps[-1].step >= found.step:
            steps.pop()
        steps.append(found)
    return tuple(steps)


def _parse_step(value: object) -> StepMetrics:
    if not isinstance(value, Mapping):
        raise RecordError("record", "must be a JSON object")
    step = value.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise RecordError("step", f"must be a whole number from 0 on, not {step!r}")
    numbers = {key: _number(key, found) for key, found in value.items() if key != "step"}
    finite = {key: number for key, number in numbers.items() if math.isfinite(number)}
    if "reward" not in finite:
        raise RecordError("reward", f"must be a number, not {value.get('reward')!r}")
    reward = finite.pop("reward")
    components = {match[1]: number for key, number in finite.items() if (match := _COMPONENT.fullmatch(key))}
    others = {key: number for key, number in finite.items() if not _COMPONENT.fullmatch(key)}
    return StepMetrics(step, reward, components, others)


def _number(key: str, value: object) -> float:
    """NaN stands for null: a trainer writes either where it could not measure."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(key, f"must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise RecordError(key, "is a number too large") from None
