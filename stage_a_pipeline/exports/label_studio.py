"""Label Studio: a task per photo, with what the model said as a prediction, and the page to label on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.export import Writer
from stage_a_pipeline.exports.labelling_config import (
    CATEGORIES,
    IMAGE,
    KIND,
    SUMMARY,
    VERDICT,
    Control,
    Page,
    labelling_config,
    page_of,
)
from stage_a_pipeline.exports.photo_bytes import PhotoWithBytes
from stage_a_pipeline.exports.photos import DeliveredPhoto, Said, said_by
from stage_a_pipeline.places import Place
from stage_a_pipeline.storage import atomic_write
from stage_a_pipeline.vocabulary import DATASETS

CONFIG_NAME: Final = "labelling_config.xml"
LOCAL_FILES: Final = "/data/local-files/?d="
"""Where Label Studio serves files of its machine; behind it stands a path below its document root."""

_TASKS_PER_FILE: Final = 10_000
_STORE: Final = re.compile(r"(s3|gs|azure-blob)://")


def default_image_prefix(root: Place) -> str:
    """What stands before a photo's path: local files below the root's parent, or the root's own URL."""
    if isinstance(root, Path):
        return f"{LOCAL_FILES}{quote(root.absolute().name)}/"
    return f"{str(root).rstrip('/')}/"


def label_studio_writer(image_prefix: str) -> Writer:
    """Writes tasks, in files of ten thousand, and the labelling page. Every photo must have its file."""

    def write(folder: Path, photos: Iterator[PhotoWithBytes], deliveries: Sequence[Delivery]) -> None:
        named = {delivery.mission.dataset for delivery in deliveries}
        page = page_of(dataset for dataset in DATASETS if dataset in named)
        with atomic_write(folder / CONFIG_NAME, "wb") as file:
            file.write(labelling_config(page))
        tasks = (task_of(photo, image_prefix, page) for photo, _ in photos)
        for number, some in enumerate(_in_files(tasks), start=1):
            _write_tasks(folder / f"tasks-{number:03d}.json", some)

    return write


def task_of(photo: DeliveredPhoto, image_prefix: str, page: Page) -> dict[str, object]:
    """One task. What the page cannot choose, words outside the vocabulary, stands in the summary alone."""
    assert photo.path is not None
    data = {
        IMAGE: image_url(image_prefix, photo.path),
        "title": f"{photo.mission} / {photo.group_id} / {photo.image_index}",
        "mission": photo.mission,
        "group_id": photo.group_id,
        "label": photo.label,
        "image_name": photo.image,
        "image_index": photo.image_index,
        "path": photo.path,
        "summary": photo.summary,
        "fail_reasons": None if photo.fail_reasons is None else list(photo.fail_reasons),
        "rejected_reason": photo.rejected_reason,
    }
    if photo.summary is None:
        return {"data": data}
    result = list(_results(photo.label, photo.summary, said_by(photo.summary), page))
    return {"data": data, "predictions": [{"model_version": photo.model, "result": result}]}


def image_url(prefix: str, path: str) -> str:
    """The photo's URL: escaped for the web and local files, as it is for stores, whose keys are not."""
    return prefix + (path if _STORE.match(prefix) else quote(path))


def _results(label: str, summary: str, said: Said, page: Page) -> Iterator[dict[str, object]]:
    yield _result(VERDICT, "choices", [label])
    yield _result(SUMMARY, "textarea", [summary])
    yield _result(KIND, "choices", [said.kind])
    if categories := [name for name in said.categories if name in page.categories]:
        yield _result(CATEGORIES, "choices", categories)
    values: dict[str, list[str]] = {}
    for value in said.values:
        question = page.questions.get(f"{value.category}.{value.attribute}")
        if question is not None and (not question.values or value.value in question.values):
            values.setdefault(question.name, []).append(value.value)
    for name, chosen in values.items():
        yield _result(name, "choices" if page.questions[name].values else "textarea", chosen)


def _result(name: str, control: Control, values: list[str]) -> dict[str, object]:
    value = {"choices" if control == "choices" else "text": values}
    return {"id": name, "from_name": name, "to_name": IMAGE, "type": control, "value": value}


def _in_files(tasks: Iterator[dict[str, object]]) -> Iterator[Iterator[dict[str, object]]]:
    """The tasks in runs, the first even where there is none. Each run is used up before the next."""
    yield islice(tasks, _TASKS_PER_FILE)
    for first in tasks:
        yield islice(chain([first], tasks), _TASKS_PER_FILE)


def _write_tasks(path: Path, tasks: Iterable[dict[str, object]]) -> None:
    with atomic_write(path) as file:
        file.write("[")
        for number, task in enumerate(tasks):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(task, ensure_ascii=False))
        file.write("\n]\n")
