"""What one process is told to measure, and what it found: JSON files between `engines` and `engine_run`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.storage import atomic_write


@dataclass(frozen=True, slots=True)
class EngineTask:
    """One engine's run over all photos.

    `prompt` replaces the pipeline's own where it is given. `batch_size` is the number of places, and
    `max_new_tokens` the most that any answer may have.
    """

    engine: str
    checkpoint: str
    device: str
    batch_size: int
    max_new_tokens: int
    prompt: Prompt | None
    photos_root: str
    photos: tuple[PlannedPhoto, ...]
    scratch: str

    @classmethod
    def read(cls, path: Path) -> EngineTask:
        """The task of a file that `write_json` wrote."""
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        prompt = document.pop("prompt")
        photos = (PlannedPhoto(**{**photo, "size": tuple(photo["size"])}) for photo in document.pop("photos"))
        return cls(**document, prompt=Prompt(**prompt) if prompt else None, photos=tuple(photos))


@dataclass(slots=True)
class Work:
    """What went through the model, rows and tokens that belong to no open answer included.

    A decode step computes one token for each of its rows. It offers `places`, as many as the batch size;
    `row_steps` of them held a row, and `useful_row_steps` a row whose answer was not finished. `tokens` are
    those of prompts, with what pads them, and one for every row and step; `padding` of them belong to
    nobody, or to an answer that had ended.
    """

    places: int = 0
    row_steps: int = 0
    useful_row_steps: int = 0
    tokens: int = 0
    padding: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A photo's first answer. `tokens` count the stop token; `cut` ones were broken off in a loop."""

    text: str
    tokens: int
    cut: bool = False


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One run: seconds from the first photo's file to the last answer, and the answers in the plan's order.

    `peak_memory_mb` is what the run added to the loaded and warmed-up model, in MiB; None where the
    system does not tell, or another process has the model on CUDA. What cannot be known of an engine
    elsewhere is None.
    """

    answers: tuple[Answer, ...]
    wall_seconds: float
    cpu_seconds: float | None = None
    waiting_seconds: float | None = None
    peak_memory_mb: float | None = None
    work: Work | None = None
    prompt_prefix_tokens: int | None = None
    text_tokens: int | None = None
    retried: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> EngineRun:
        """The run of a file that `write_json` wrote."""
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
        answers, work = document.pop("answers"), document.pop("work")
        return cls(
            **document,
            answers=tuple(Answer(**answer) for answer in answers),
            work=Work(**work) if work else None,
        )


def write_json(path: Path, record: EngineTask | EngineRun) -> None:
    """Write a task or a run. Raises OutputError."""
    with atomic_write(path) as file:
        json.dump(asdict(record), file, ensure_ascii=False)
