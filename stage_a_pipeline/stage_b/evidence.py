"""What a photo's summary shows, as claims are checked against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from stage_a_pipeline.model_json import counts_of, items_of, parse_json
from stage_a_pipeline.stage_b.claim_words import DEFLECTOR, NEEDS_DEFLECTOR, READABLE, Reading
from stage_a_pipeline.stage_b.claims import read_claims
from stage_a_pipeline.stage_b.clauses import Part
from stage_a_pipeline.vocabulary import CATEGORY, GROUP_STATISTICS, IRRELEVANT, REMARKS, STATISTICS


@dataclass(frozen=True, slots=True)
class Evidence:
    """One or more photos: how many of each category, the values of each attribute, and how many need one.

    `unnamed` are values that a summary in plain text says of no category: one of the parts is shown.
    """

    shown: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    unnamed: frozenset[frozenset[Part]] = frozenset()
    deflectors_needed: int = 0

    @property
    def readings(self) -> frozenset[Reading]:
        """All values, whichever category they are of."""
        return frozenset((name, value) for (_, name), values in self.values.items() for value in values)

    @property
    def lacks_deflector(self) -> bool:
        """Whether fewer are shown than are needed."""
        return self.deflectors_needed > self.shown.get(DEFLECTOR, 0)


@lru_cache(maxsize=1024)
def read_evidence(summary: str) -> Evidence:
    """What a summary shows: its JSON, or what a plain text says; nothing for 无关图片."""
    if summary.startswith(IRRELEVANT):
        return Evidence()
    found = parse_json(summary)
    if found is None or not isinstance(found.value, dict) or STATISTICS not in found.value:
        return _from_text(summary)
    document = found.value
    remarks = "\n".join(text for text in items_of(document.get(REMARKS)) if type(text) is str)
    parts = [_from_entry(entry) for entry in items_of(document[STATISTICS]) if isinstance(entry, dict)]
    return join_evidence([*parts, _from_groups(document.get(GROUP_STATISTICS)), _from_text(remarks)])


def join_evidence(parts: Iterable[Evidence]) -> Evidence:
    """What several show together."""
    shown: Counter[str] = Counter()
    values: dict[tuple[str, str], set[str]] = {}
    unnamed: set[frozenset[Part]] = set()
    needed = 0
    for part in parts:
        shown.update(part.shown)
        for key, known in part.values.items():
            values.setdefault(key, set()).update(known)
        unnamed |= part.unnamed
        needed += part.deflectors_needed
    return Evidence(
        shown, {key: frozenset(known) for key, known in values.items()}, frozenset(unnamed), needed
    )


def _from_entry(entry: Mapping[str, object]) -> Evidence:
    name = entry.get(CATEGORY)
    if type(name) is not str:
        return Evidence()
    counted = {key: dict(counts_of(counts)) for key, counts in entry.items()}
    values = {(name, key): frozenset(counts) for key, counts in counted.items() if counts}
    if (name, "文本") in values:
        key = (name, READABLE[0])
        values[key] = values.get(key, frozenset()) | {READABLE[1]}
    attribute, value = NEEDS_DEFLECTOR
    return Evidence(
        shown={name: max((sum(counts.values()) for counts in counted.values() if counts), default=1)},
        values=values,
        deflectors_needed=counted.get(attribute, {}).get(value, 0),
    )


def _from_groups(groups: object) -> Evidence:
    listed = groups.values() if isinstance(groups, dict) else ()
    # They are counted in 统计 too, if it is whole.
    return Evidence(shown={name: 0 for counts in listed for name, _ in counts_of(counts)})


def _from_text(text: str) -> Evidence:
    facts = [claim.fact for claim in read_claims(text).claims]
    values: dict[tuple[str, str], set[str]] = {}
    shown: Counter[str] = Counter()
    unnamed = set()
    needed = 0
    for fact in facts:
        if fact.kind == "value" and len(fact.parts) > 1:
            unnamed.add(fact.parts)
        elif fact.kind in ("shown", "stated", "value") and len(fact.parts) == 1:
            ((category, attribute, value),) = fact.parts
            shown[category] = 1
            if value:
                values.setdefault((category, attribute), set()).add(value)
                needed += (attribute, value) == NEEDS_DEFLECTOR
    return Evidence(
        shown, {key: frozenset(known) for key, known in values.items()}, frozenset(unnamed), needed
    )
