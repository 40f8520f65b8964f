"""An evaluation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stage_a_pipeline.evaluation.document import Evaluation
from stage_a_pipeline.evaluation.scores import Scores
from stage_a_pipeline.evaluation.thresholds import percent, weakest_first
from stage_a_pipeline.evaluation.verdicts import Verdicts, VerdictScores
from stage_a_pipeline.harmless_text import harmless

_MISSION_COLUMNS = ("photos", "valid", "exact", "attributes\nrec. / prec.", "irrelevant\nrec. / prec.")


def tables(evaluation: Evaluation) -> list[Table]:
    """Missions and total, then attributes, the weakest first, then verdicts where there are any."""
    shown = [_mission_table(evaluation), _attribute_table(evaluation)]
    return shown if evaluation.verdicts is None else [*shown, _verdict_table(evaluation.verdicts)]


def sentences(evaluation: Evaluation) -> list[str]:
    """What else is to be known: other shares, rejected photos, photos and truth lines without a partner."""
    scores = evaluation.scores
    shares = (
        f"categories {_pair(scores.category_recall, scores.category_precision)} (recall / precision), "
        f"equal counts of values that both have {percent(scores.count_accuracy)}"
    )
    reasons = ", ".join(f"{count} {reason}" for reason, count in evaluation.rejected_reasons.items())
    rejected = [f"rejected photos, which count as wrong: {len(evaluation.rejected)} ({reasons})"]
    return [shares, *(rejected if evaluation.rejected else []), *evaluation.unmatched.sentences()]


def _mission_table(evaluation: Evaluation) -> Table:
    rows = {name: _score_cells(scores) for name, scores in evaluation.per_mission.items()}
    return _table_with_total("mission", _MISSION_COLUMNS, rows, _score_cells(evaluation.scores))


def _score_cells(scores: Scores) -> Iterable[str]:
    return (
        str(scores.photos),
        percent(scores.valid),
        percent(scores.exact_match),
        _pair(scores.attribute_recall, scores.attribute_precision),
        _pair(scores.irrelevant_recall, scores.irrelevant_precision),
    )


def _pair(recall: float | None, precision: float | None) -> str:
    return " / ".join("-" if share is None else f"{100 * share:.1f}" for share in (recall, precision))


def _attribute_table(evaluation: Evaluation) -> Table:
    table = _table("attribute, the weakest first", ("recall", "precision", "counts", "true", "said"))
    for name, scores in weakest_first(evaluation):
        shares = map(percent, (scores.recall, scores.precision, scores.count_accuracy))
        table.add_row(Text(harmless(name)), *shares, str(scores.true), str(scores.said))
    return table


def _verdict_table(verdicts: Verdicts) -> Table:
    rows = {name: _verdict_cells(scores) for name, scores in verdicts.per_mission.items()}
    columns = ("groups", "format", "from truth", "from answers")
    return _table_with_total("verdicts", columns, rows, _verdict_cells(verdicts.total))


def _verdict_cells(scores: VerdictScores) -> Iterable[str]:
    shares = (scores.format, scores.accuracy_from_truth, scores.accuracy_from_answers)
    return [str(scores.groups), *map(percent, shares)]


def _table_with_total(
    first: str, columns: Sequence[str], rows: Mapping[str, Iterable[str]], total: Iterable[str]
) -> Table:
    """A row per mission, and the total below them."""
    table = _table(first, columns)
    for mission, cells in rows.items():
        table.add_row(Text(mission), *cells)
    table.add_section()
    table.add_row("total", *total, style="bold")
    return table


def _table(first: str, columns: Sequence[str]) -> Table:
    # Borders between columns would not fit a terminal of 80 columns.
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table
