"""A scene's truth per cell of the picture: what the vision half learns before it meets the language half."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.demo.rendering.viewpoint import Viewpoint
from stage_a_pipeline.demo.scenes import REMARK_TEXTS, Scene, SceneObject, rendered_values
from stage_a_pipeline.vocabulary import REMARKS, VOCABULARY

State = tuple[str, str, str]
"""A category, one of its attributes, and the value; both are empty for a category without any.

A remark stands as the value of the category 备注."""

COVERED_SHARE: Final = 0.33
"""A cell counts as covered when the object fills this share of it, or of the object's own length."""


@cache
def all_states() -> dict[State, int]:
    """Every state that pictures show, numbered."""
    states: dict[State, int] = {}
    for categories in VOCABULARY.values():
        for category in categories:
            if not category.attributes:
                states.setdefault((category.name, "", ""), len(states))
            for attribute in category.attributes:
                for value in rendered_values(category, attribute):
                    states.setdefault((category.name, attribute.name, value), len(states))
    for remark in REMARK_TEXTS:
        states[REMARKS, "", remark] = len(states)
    return states


@cache
def rival_states() -> tuple[tuple[int, ...], ...]:
    """For every attribute the numbers of its values, two at least, between which an object decides."""
    rivals: dict[tuple[str, str], list[int]] = {}
    for (category, attribute, _), number in all_states().items():
        if attribute:
            rivals.setdefault((category, attribute), []).append(number)
    return tuple(tuple(numbers) for numbers in rivals.values() if len(numbers) > 1)


def channel_count() -> int:
    """Channels per cell: every state once for `covered` and once for `centre lies here`."""
    return 2 * len(all_states())


def cell_truth(scene: Scene, columns: int, rows: int) -> npt.NDArray[np.float32]:
    """What covers each cell of the photo, [rows, columns, channels] of 0 and 1; a remark covers all."""
    states = all_states()
    truth = np.zeros((rows, columns, channel_count()), np.float32)
    for remark in scene.remarks:
        truth[..., states[REMARKS, "", remark]] = 1
    viewpoint = Viewpoint.of(scene)
    for item in scene.objects:
        left, top, right, bottom = (min(1.0, max(0.0, edge)) for edge in viewpoint.seen(item.box))
        covered_rows = _covered(top * rows, bottom * rows, rows)
        covered_columns = _covered(left * columns, right * columns, columns)
        covered = np.outer(covered_rows, covered_columns)
        row = min(rows - 1, int((top + bottom) / 2 * rows))
        column = min(columns - 1, int((left + right) / 2 * columns))
        for state in _states_of(item):
            truth[..., states[state]][covered] = 1
            truth[row, column, len(states) + states[state]] = 1
    return truth


def _states_of(item: SceneObject) -> list[State]:
    if not item.attributes:
        return [(item.category, "", "")]
    return [(item.category, attribute, value) for attribute, value in item.attributes.items()]


def _covered(start: float, end: float, cells: int) -> npt.NDArray[np.bool_]:
    """Which of the cells in a row the stretch from `start` to `end` covers."""
    cell = np.arange(cells)
    overlap = np.clip(np.minimum(end, cell + 1) - np.maximum(start, cell), 0, 1)
    return np.asarray(overlap >= COVERED_SHARE * min(1.0, end - start))
