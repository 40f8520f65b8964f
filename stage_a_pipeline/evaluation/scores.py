"""Pure metrics: shares over what was said of photos whose truth is known.

All are micro: counts are summed over photos first. A share of nothing is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.summary_content import Content, attribute_order, category_order, read_content
from stage_a_pipeline.vocabulary import IRRELEVANT


@dataclass(frozen=True, slots=True)
class Reading:
    """One photo: its true summary, what was answered, and what both count.

    `answer` is empty, and `rejected` says why, for a photo that the pipeline rejected. `defect` is what
    is wrong with the answer's form.
    """

    mission: str
    path: str
    truth: str
    answer: str
    defect: str | None
    true: Content
    said: Content
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares over some photos; docs/data-contract.md defines each."""

    photos: int
    valid: float | None
    exact_match: float | None
    attribute_recall: float | None
    attribute_precision: float | None
    category_recall: float | None
    category_precision: float | None
    count_accuracy: float | None
    irrelevant_recall: float | None
    irrelevant_precision: float | None


@dataclass(frozen=True, slots=True)
class AttributeScores:
    """One attribute, over its counted values; `true` and `said` are the sums of their counts."""

    recall: float | None
    precision: float | None
    count_accuracy: float | None
    true: int
    said: int


@dataclass(frozen=True, slots=True)
class CategoryScores:
    """One category, present in a photo or not; `true` and `said` are numbers of photos."""

    recall: float | None
    precision: float | None
    true: int
    said: int


def compare_answer(
    truth: str, answer: str, *, mission: Mission, path: str, rejected: str | None = None
) -> Reading:
    """The reading of a photo of that mission."""
    return Reading(
        mission=mission.name,
        path=path,
        truth=truth,
        answer=answer,
        defect=summary_defect(answer, mission.dataset),
        true=read_content(truth),
        said=read_content(answer),
        rejected=rejected,
    )


def score_readings(readings: Sequence[Reading]) -> Scores:
    """The shares over all readings together."""
    values = _sum(_tally_attributes(readings).values())
    categories = _sum(_tally_categories(readings).values())
    irrelevant = [reading for reading in readings if reading.truth == IRRELEVANT]
    called_irrelevant = [reading for reading in readings if reading.answer == IRRELEVANT]
    found = sum(reading.answer == IRRELEVANT for reading in irrelevant)
    return Scores(
        photos=len(readings),
        valid=_share(sum(reading.defect is None for reading in readings), len(readings)),
        exact_match=_share(sum(reading.answer == reading.truth for reading in readings), len(readings)),
        attribute_recall=_share(values.hits, values.true),
        attribute_precision=_share(values.hits, values.said),
        category_recall=_share(categories.hits, categories.true),
        category_precision=_share(categories.hits, categories.said),
        count_accuracy=_share(values.same, values.shared),
        irrelevant_recall=_share(found, len(irrelevant)),
        irrelevant_precision=_share(found, len(called_irrelevant)),
    )


def score_attributes(readings: Iterable[Reading]) -> dict[str, AttributeScores]:
    """Scores of every attribute that is true of a photo or said of one, in the vocabulary's order."""
    tallies = _tally_attributes(readings)
    return {name: _attribute_scores(tallies[name]) for name in attribute_order(tallies)}


def score_categories(readings: Iterable[Reading]) -> dict[str, CategoryScores]:
    """Scores of every category that is true of a photo or said of one, in the vocabulary's order."""
    tallies = _tally_categories(readings)
    return {name: _category_scores(tallies[name]) for name in category_order(tallies)}


@dataclass(slots=True)
class _Tally:
    """Sums of counts; `shared` are the entries that both sides have, `same` those with equal counts."""

    true: int = 0
    said: int = 0
    hits: int = 0
    shared: int = 0
    same: int = 0

    def add(self, true: int, said: int) -> None:
        self.true += true
        self.said += said
        self.hits += min(true, said)
        self.shared += min(true, said) > 0
        self.same += true == said


def _tally_attributes(readings: Iterable[Reading]) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for reading in readings:
        true, said = reading.true.values, reading.said.values
        for key in true.keys() | said.keys():
            tallies[key[0]].add(true.get(key, 0), said.get(key, 0))
    return tallies


def _tally_categories(readings: Iterable[Reading]) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for reading in readings:
        true, said = reading.true.categories, reading.said.categories
        for name in true | said:
            tallies[name].add(name in true, name in said)
    return tallies


def _sum(tallies: Iterable[_Tally]) -> _Tally:
    total = _Tally()
    for tally in tallies:
        total.true += tally.true
        total.said += tally.said
        total.hits += tally.hits
        total.shared += tally.shared
        total.same += tally.same
    return total


def _attribute_scores(tally: _Tally) -> AttributeScores:
    return AttributeScores(
        recall=_share(tally.hits, tally.true),
        precision=_share(tally.hits, tally.said),
        count_accuracy=_share(tally.same, tally.shared),
        true=tally.true,
        said=tally.said,
    )


def _category_scores(tally: _Tally) -> CategoryScores:
    return CategoryScores(
        recall=_share(tally.hits, tally.true),
        precision=_share(tally.hits, tally.said),
        true=tally.true,
        said=tally.said,
    )


def _share(hits: int, total: int) -> float | None:
    return hits / total if total else None
