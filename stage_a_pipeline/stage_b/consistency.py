"""How far the summaries of a group support what a reason claims. Rules and cases: docs/stage-b-rewards.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from stage_a_pipeline.stage_b.claim_words import ADVERSE, ATTRIBUTES, DEFLECTOR, FAVOURABLE
from stage_a_pipeline.stage_b.claims import Claim, read_claims
from stage_a_pipeline.stage_b.clauses import Fact
from stage_a_pipeline.stage_b.evidence import Evidence, join_evidence, read_evidence
from stage_a_pipeline.vocabulary import VOCABULARY

NEUTRAL: Final = 0.5
"""The score of a reason that claims nothing checkable, and the most for one with a contradicted claim."""

_NAMES: Final = tuple(frozenset(category.name for category in known) for known in VOCABULARY.values())
_SUPPORTED, _UNKNOWN, _CONTRADICTED = 1, 0, -1


def score_reason(reason: str, summaries: Mapping[str, str]) -> float:
    """From 0.0 to 1.0: (supported - contradicted) / claims, at least 0.0 and, if any is contradicted, at most
    `NEUTRAL`; `NEUTRAL` where there is no claim.

    `summaries` are by the number of their image. Claims that are neither supported nor contradicted
    count among the claims. Linear in the length of the reason.
    """
    found = read_claims(reason)
    photos = {number: read_evidence(summary) for number, summary in summaries.items()}
    group = join_evidence(photos.values())
    outcomes: dict[Fact, int] = {}
    for claim in found.claims:
        outcome = _check_claim(claim, photos, group)
        # Said of several images, a fact is one claim, and the worst of what is said counts.
        outcomes[claim.fact] = min(outcome, outcomes.get(claim.fact, outcome))
    invented = len(found.images - photos.keys())
    if not outcomes and not invented:
        return NEUTRAL
    score = (sum(outcomes.values()) - invented) / (len(outcomes) + invented)
    contradicted = invented or _CONTRADICTED in outcomes.values()
    return min(max(0.0, score), NEUTRAL if contradicted else 1.0)


def _check_claim(claim: Claim, photos: Mapping[str, Evidence], group: Evidence) -> int:
    if not claim.images <= photos.keys():
        return _CONTRADICTED
    if not photos:
        return _UNKNOWN
    places = [photos[number] for number in sorted(claim.images)] or [group]
    return min(_check(claim.fact, place, group, every=claim.every) for place in places)


def _check(fact: Fact, place: Evidence, group: Evidence, *, every: bool) -> int:
    if fact.kind == "sound":
        return _check_sound(place)
    if fact.kind == "absent":
        return _check_absent(fact, place, group)
    if fact.kind == "shown":
        return _SUPPORTED if any(name in place.shown for name, _, _ in fact.parts) else _UNKNOWN
    stated = [(value, place.values.get((name, key), frozenset())) for name, key, value in fact.parts]
    if fact.kind == "stated":
        return _SUPPORTED if any(known for _, known in stated) else _UNKNOWN
    shown = any(value in known for value, known in stated)
    if fact.kind == "not_value":
        return _CONTRADICTED if shown else _SUPPORTED if any(known for _, known in stated) else _UNKNOWN
    others = any(known - {value} for value, known in stated)
    if every and others:
        return _CONTRADICTED
    if shown or any(parts <= fact.parts for parts in place.unnamed):
        return _SUPPORTED
    return _CONTRADICTED if others else _UNKNOWN


def _check_sound(place: Evidence) -> int:
    readings = place.readings
    if not readings.isdisjoint(ADVERSE) or place.lacks_deflector:
        return _CONTRADICTED
    return _SUPPORTED if not readings.isdisjoint(FAVOURABLE) else _UNKNOWN


def _check_absent(fact: Fact, place: Evidence, group: Evidence) -> int:
    ((name, _, _),) = fact.parts
    if name == DEFLECTOR and place.lacks_deflector:
        return _SUPPORTED
    if name in place.shown:
        return _CONTRADICTED
    # That a cabinet shows nothing of a mast is true of every cabinet, and tells nothing.
    return _SUPPORTED if name in _in_question(group) else _UNKNOWN


def _in_question(group: Evidence) -> frozenset[str]:
    """The categories of the datasets that the group's photos can be of."""
    seen = group.shown.keys() & ATTRIBUTES.keys()
    fitting = [names for names in _NAMES if seen <= names]
    return frozenset().union(*(fitting or _NAMES))
