"""Pure metrics: whether Stage-A answers as well with the adapter as without it, on the same photos.

docs/stage-b-evaluation.md defines each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from stage_a_pipeline.stage_b.bootstrap import Estimate, Resampled
from stage_a_pipeline.stage_b.rewards import attribute_key_recall

LISTED: Final = 20
"""How many changed answers are listed; all are counted."""
_ROUNDING: Final = 1e-9
"""What the sum of shares of photos may be off, where a drop is just allowed."""


@dataclass(frozen=True, slots=True)
class PhotoAnswers:
    """One photo's summaries: the checkpoint's own, the one with the adapter, and the true one where known.

    An answer is empty where the pipeline rejected the photo.
    """

    group_id: str
    photo: str
    base: str
    adapted: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A share without the adapter and with it, and the paired difference."""

    base: Estimate
    adapted: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class SummaryQuality:
    """Stage-A with the adapter beside without it. None over no photo.

    `exact_match` and `key_recall` are over the photos with a truth; `agreement` is the share of all photos
    whose answers are equal, `base_key_recall` recall with the answer without the adapter as the reference.
    """

    photos: int
    photos_with_truth: int
    exact_match: Change | None
    key_recall: Change | None
    agreement: Estimate | None
    base_key_recall: Estimate | None
    changed: int
    listed: tuple[PhotoAnswers, ...]

    def kept(self, max_drop: float) -> bool:
        """Whether neither share fell by more than that.

        Against the truth where any photo has one, else against the answers without the adapter. No photo at
        all has lost nothing.
        """
        least = -max_drop - _ROUNDING
        if self.exact_match is not None and self.key_recall is not None:
            return min(self.exact_match.difference.value, self.key_recall.difference.value) >= least
        if self.agreement is not None and self.base_key_recall is not None:
            return min(self.agreement.value, self.base_key_recall.value) - 1 >= least
        return True

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        return asdict(self) | {"listed": [asdict(answers) for answers in self.listed]}


def compare_summaries(photos: Sequence[PhotoAnswers], *, samples: int, seed: int) -> SummaryQuality:
    """The comparison over photos that were summarised twice; intervals resample their groups."""
    changed = [photo for photo in photos if photo.base != photo.adapted]
    whole = Resampled(
        {
            "photos": [1] * len(photos),
            "same": [photo.base == photo.adapted for photo in photos],
            "recall": _recall_of_base(photos),
        },
        [photo.group_id for photo in photos],
        samples=samples,
        seed=seed,
    )
    known = [(photo, photo.reference) for photo in photos if photo.reference is not None]
    against_truth = _resample_truth(known, samples=samples, seed=seed)
    return SummaryQuality(
        photos=len(photos),
        photos_with_truth=len(known),
        exact_match=_change(against_truth, "exact"),
        key_recall=_change(against_truth, "recall"),
        agreement=whole.share("same", "photos"),
        base_key_recall=whole.share("recall", "photos"),
        changed=len(changed),
        listed=tuple(changed[:LISTED]),
    )


def _recall_of_base(photos: Sequence[PhotoAnswers]) -> list[float]:
    base = [photo.base for photo in photos]
    recalls = attribute_key_recall([photo.adapted for photo in photos], reference=base)
    # A broken answer is no reference, and its equal has lost nothing.
    return [
        1.0 if photo.adapted == photo.base else recall for photo, recall in zip(photos, recalls, strict=True)
    ]


def _resample_truth(known: Sequence[tuple[PhotoAnswers, str]], *, samples: int, seed: int) -> Resampled:
    references = [reference for _, reference in known]
    columns: dict[str, Sequence[float]] = {"photos": [1] * len(known)}
    for side in ("base", "adapted"):
        answers: list[str] = [getattr(photo, side) for photo, _ in known]
        pairs = zip(answers, references, strict=True)
        columns[f"{side} exact"] = [answer == reference for answer, reference in pairs]
        columns[f"{side} recall"] = attribute_key_recall(answers, reference=references)
    return Resampled(columns, [photo.group_id for photo, _ in known], samples=samples, seed=seed)


def _change(resampled: Resampled, measure: str) -> Change | None:
    base = resampled.share(f"base {measure}", "photos")
    adapted = resampled.share(f"adapted {measure}", "photos")
    difference = resampled.difference(f"base {measure}", f"adapted {measure}", "photos")
    if base is None or adapted is None or difference is None:
        return None
    return Change(base, adapted, difference)
