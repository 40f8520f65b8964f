"""From runs to the rows of the table: medians over the rounds, shares, and equality of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from stage_a_pipeline.bench.contenders import CONTENDERS, REFERENCE
from stage_a_pipeline.bench.engine_records import Answer, EngineRun, Work
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.errors import StageAError


@dataclass(frozen=True, slots=True)
class EngineRow:
    """One engine's figures; None for what cannot be known. docs/performance.md defines each."""

    engine: str
    photos_per_second: float
    photos_per_cpu_second: float | None
    tokens_per_second: float | None
    batch_fill: float | None
    wasted_row_steps: float | None
    padding_share: float | None
    device_wait_share: float | None
    peak_memory_mb: float | None
    same_text: float | None
    must_be_same: bool
    wall_seconds: tuple[float, ...]
    cpu_seconds: tuple[float | None, ...]
    retried: int | None
    roofline_share: float | None

    def to_json(self) -> dict[str, object]:
        """The row as its file has it: the agreed keys first."""
        row: dict[str, object] = {
            "engine": self.engine,
            "photos_per_second": self.photos_per_second,
            "photos_per_cpu_second": self.photos_per_cpu_second,
            "tokens_per_second": self.tokens_per_second,
            "batch_fill": self.batch_fill,
            "wasted_row_steps": self.wasted_row_steps,
            "padding_share": self.padding_share,
            "device_wait_share": self.device_wait_share,
            "peak_memory_mb": self.peak_memory_mb,
            "same_text_as_single": self.same_text,
            "wall_seconds": list(self.wall_seconds),
            "cpu_seconds": list(self.cpu_seconds),
            "retried": self.retried,
        }
        if self.roofline_share is not None:
            row["roofline_share"] = self.roofline_share
        return row


def engine_rows(
    runs: Mapping[str, Sequence[EngineRun]], *, ideal_seconds_per_photo: float | None = None
) -> list[EngineRow]:
    """One row per engine, in the order given."""
    reference = runs.get(REFERENCE)
    return [
        _row(name, rounds, reference[0].answers if reference else None, ideal_seconds_per_photo)
        for name, rounds in runs.items()
    ]


def _row(
    name: str, rounds: Sequence[EngineRun], reference: Sequence[Answer] | None, ideal: float | None
) -> EngineRow:
    contender = CONTENDERS.get(name)
    photos = len(rounds[0].answers)
    rate = median(photos / run.wall_seconds for run in rounds)
    return EngineRow(
        engine=name,
        photos_per_second=rate,
        photos_per_cpu_second=_median(rounds, lambda run: _ratio(photos, run.cpu_seconds)),
        tokens_per_second=_median(rounds, _tokens_per_second),
        batch_fill=_median(rounds, lambda run: _of_work(run, batch_fill)),
        wasted_row_steps=_median(rounds, lambda run: _of_work(run, wasted_row_steps)),
        padding_share=_median(rounds, lambda run: _of_work(run, padding_share)),
        device_wait_share=_median(rounds, lambda run: _ratio(run.waiting_seconds, run.wall_seconds)),
        peak_memory_mb=_median(rounds, lambda run: run.peak_memory_mb),
        same_text=None if reference is None else min(same_text(run.answers, reference) for run in rounds),
        must_be_same=contender is not None and contender.other_answers is None,
        wall_seconds=tuple(run.wall_seconds for run in rounds),
        cpu_seconds=tuple(run.cpu_seconds for run in rounds),
        retried=rounds[0].retried,
        roofline_share=None if ideal is None or contender is None else ideal * rate,
    )


def batch_fill(work: Work) -> float:
    """Share of the places offered by decode steps that held an answer which was not finished."""
    return _share(work.useful_row_steps, work.places)


def wasted_row_steps(work: Work) -> float:
    """Share of the rows computed in decode steps whose answer was finished already."""
    return 1 - work.useful_row_steps / work.row_steps if work.row_steps else 0.0


def padding_share(work: Work) -> float:
    """Share of the computed tokens that pad a prompt or a finished answer."""
    return _share(work.padding, work.tokens)


def same_text(answers: Sequence[Answer], reference: Sequence[Answer]) -> float:
    """Share of photos with the reference's text; of a loop that was broken off, the text so far counts."""
    pairs = list(zip(answers, reference, strict=True))
    return sum(_is_same(answer, other) for answer, other in pairs) / len(pairs)


def _is_same(answer: Answer, other: Answer) -> bool:
    return other.text.startswith(answer.text) if answer.cut else answer.text == other.text


def check_lengths(name: str, photos: Sequence[PlannedPhoto], run: EngineRun) -> None:
    """StageAError for an answer that has not the length that was forced on it."""
    for place, (photo, answer) in enumerate(zip(photos, run.answers, strict=True)):
        if photo.answer_tokens not in (None, answer.tokens):
            raise StageAError(
                f"{name}: answer {place} has {answer.tokens} tokens where {photo.answer_tokens} were forced "
                "on it; the random model may have fallen into a loop: choose another --seed"
            )
    if run.retried and all(photo.answer_tokens is not None for photo in photos):
        raise StageAError(
            f"{name}: {run.retried} answers were asked twice, since the random model fell into a loop; "
            "choose another --seed"
        )


def _tokens_per_second(run: EngineRun) -> float | None:
    tokens = sum(answer.tokens for answer in run.answers)
    return tokens / run.wall_seconds if tokens else None


def _of_work(run: EngineRun, share: Callable[[Work], float]) -> float | None:
    return None if run.work is None else share(run.work)


def _median(rounds: Sequence[EngineRun], figure: Callable[[EngineRun], float | None]) -> float | None:
    known = [value for value in map(figure, rounds) if value is not None]
    return median(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
