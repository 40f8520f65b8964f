"""An evaluation as a whole: its parts from readings, and the JSON document and picture it leaves."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.evaluation.confusion import Confusion, confuse
from stage_a_pipeline.evaluation.picture import draw_evaluation
from stage_a_pipeline.evaluation.scores import (
    AttributeScores,
    CategoryScores,
    Reading,
    Scores,
    compare_answer,
    score_attributes,
    score_categories,
    score_readings,
)
from stage_a_pipeline.evaluation.truth import MissionTruth, Unmatched
from stage_a_pipeline.evaluation.verdicts import Verdicts
from stage_a_pipeline.places import Place, absolute
from stage_a_pipeline.records import Outcome, Rejection
from stage_a_pipeline.storage import atomic_write, child_path, ensure_folder, output_errors

_NAMED_MISSIONS: Final = 2
"""A title names no more missions than these."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated: the checkpoint as it was set, the fingerprint per mission, and on what."""

    checkpoint: str
    fingerprints: Mapping[str, str]
    root: Place
    truth: Place


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that is told of an evaluation. `per_mission` holds every mission that was looked at."""

    subject: Subject
    scores: Scores
    per_attribute: Mapping[str, AttributeScores]
    per_category: Mapping[str, CategoryScores]
    per_mission: Mapping[str, Scores]
    confusions: Sequence[Confusion]
    unmatched: Unmatched
    rejected: Mapping[str, str]
    verdicts: Verdicts | None = None

    @property
    def rejected_reasons(self) -> dict[str, int]:
        """How many photos were rejected for each reason."""
        return dict(sorted(Counter(self.rejected.values()).items()))

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data, in the order of docs/data-contract.md."""
        mapping: dict[str, object] = {
            "checkpoint": self.subject.checkpoint,
            "fingerprint": dict(self.subject.fingerprints),
            "root": str(self.subject.root),
            "truth": str(self.subject.truth),
            **asdict(self.scores),
            "per_attribute": {name: asdict(scores) for name, scores in self.per_attribute.items()},
            "per_category": {name: asdict(scores) for name, scores in self.per_category.items()},
            "per_mission": {name: asdict(scores) for name, scores in self.per_mission.items()},
            "confusions": {one.name: _confusion_rows(one) for one in self.confusions if one.wrong},
            "unmatched": asdict(self.unmatched),
            "rejected": {
                "photos": len(self.rejected),
                "reasons": self.rejected_reasons,
                "paths": dict(self.rejected),
            },
        }
        if self.verdicts is not None:
            mapping["verdicts"] = self.verdicts.to_mapping()
        return mapping


@dataclass(frozen=True, slots=True)
class EvaluationPaths:
    """Where a mission's evaluation lies, beside its JSONL."""

    document: Place
    picture: Place


def evaluation_paths(output_dir: Place, mission: str) -> EvaluationPaths:
    """The files of a mission; OutputError for a mission name that leads out of the folder."""
    return EvaluationPaths(
        document=child_path(output_dir, f"{mission}_stage_a.evaluation.json"),
        picture=child_path(output_dir, f"{mission}_stage_a.evaluation.svg"),
    )


def read_outcomes(truth: MissionTruth, outcomes: Iterable[Outcome]) -> list[Reading]:
    """Cleaned outcomes beside their truth, in discovery order; photos without a truth are left out."""
    ordered = sorted(outcomes, key=lambda outcome: (outcome.ref.group_index, outcome.ref.image_index))
    readings = []
    for outcome in ordered:
        known = truth.of(outcome.ref)
        if known is None or known.summary is None:
            continue
        rejected = f"{outcome.stage}: {outcome.reason}" if isinstance(outcome, Rejection) else None
        answer = "" if isinstance(outcome, Rejection) else outcome.text
        reading = compare_answer(
            known.summary, answer, mission=truth.mission, path=known.path, rejected=rejected
        )
        readings.append(reading)
    return readings


def summarise_readings(
    subject: Subject,
    by_mission: Mapping[str, Sequence[Reading]],
    unmatched: Unmatched,
    verdicts: Verdicts | None = None,
) -> Evaluation:
    """The evaluation of the missions' readings."""
    readings = [reading for group in by_mission.values() for reading in group]
    return Evaluation(
        subject=subject,
        scores=score_readings(readings),
        per_attribute=score_attributes(readings),
        per_category=score_categories(readings),
        per_mission={name: score_readings(group) for name, group in by_mission.items()},
        confusions=confuse(readings),
        unmatched=unmatched,
        rejected={reading.path: reading.rejected for reading in readings if reading.rejected is not None},
        verdicts=verdicts,
    )


def write_document(path: Place, evaluation: Evaluation) -> None:
    """Replace the JSON document at `path`. OutputError when it cannot be written, or is the truth."""
    text = json.dumps(evaluation.to_mapping(), ensure_ascii=False, allow_nan=False, indent=2) + "\n"
    _write(path, text, truth=evaluation.subject.truth)


def write_picture(path: Place, evaluation: Evaluation) -> None:
    """Replace the picture at `path`. OutputError when it cannot be written, or is the truth."""
    _write(path, picture(evaluation), truth=evaluation.subject.truth)


def picture(evaluation: Evaluation) -> str:
    """The evaluation's confusions as an SVG document."""
    names = [name for name, scores in evaluation.per_mission.items() if scores.photos]
    missions = "、".join(names) if len(names) <= _NAMED_MISSIONS else f"{len(names)} missions"
    title = f"{evaluation.subject.checkpoint}: {missions}"
    return draw_evaluation(evaluation.confusions, evaluation.scores, title=title)


def _write(path: Place, text: str, *, truth: Place) -> None:
    with output_errors(path):
        if _is_same_file(path, truth):
            raise OutputError(f"{path} is the truth that was compared with; give the path of another file")
        if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
            # Renaming over it would take the device's place, and for root that succeeds.
            raise OutputError(f"{path} is a device or pipe and cannot be replaced; give the path of a file")
    ensure_folder(absolute(path).parent)
    with atomic_write(path, "wb") as file:
        # Half a surrogate pair, from a model's answer or a sidecar, becomes its JSON escape.
        file.write(text.encode("utf-8", "backslashreplace"))


def _is_same_file(path: Place, other: Place) -> bool:
    if not (isinstance(path, Path) and isinstance(other, Path)):
        return path == other
    return path.exists() and other.exists() and path.samefile(other)


def _confusion_rows(confusion: Confusion) -> list[dict[str, object]]:
    return [{"true": true, "said": said, "count": count} for (true, said), count in confusion.wrong.items()]
