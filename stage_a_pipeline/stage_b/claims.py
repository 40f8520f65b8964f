"""What a Chinese text claims about a group's photos, as claims that can be checked. Linear in the text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from stage_a_pipeline.stage_b.claim_words import ATTRIBUTES, Word, read_words
from stage_a_pipeline.stage_b.clauses import Clause, Fact, read_clauses


@dataclass(frozen=True, slots=True)
class Claim:
    """A fact about the images of these numbers, or about any where there are none.

    `every`: that it is so wherever it is stated.
    """

    fact: Fact
    images: frozenset[str] = frozenset()
    every: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """All claims of a text in their order, and the images that it refers to."""

    claims: tuple[Claim, ...]
    images: frozenset[str]


def read_claims(text: str) -> Claims:
    """The claims of a text; a weaker one that another implies is left out."""
    claims: list[Claim] = []
    images: set[str] = set()
    for sentence in _sentences(read_words(text)):
        clauses = list(read_clauses(sentence))
        images.update(number for clause in clauses for number in clause.images)
        claims += _with_images(clauses)
    return Claims(tuple(_without_weaker(dict.fromkeys(claims))), frozenset(images))


def _sentences(words: Iterable[Word]) -> Iterator[list[Word]]:
    sentence: list[Word] = []
    for word in words:
        if word.kind == "sentence":
            yield sentence
            sentence = []
        else:
            sentence.append(word)
    yield sentence


def _with_images(clauses: Iterable[Clause]) -> list[Claim]:
    """The facts of a sentence with their images: those of their clause, or of one beside it without facts."""
    scoped: list[tuple[Clause, frozenset[str]]] = []
    waiting: set[str] = set()
    lead: frozenset[str] = frozenset()
    for clause in clauses:
        if not clause.joined:
            lead = frozenset()
        if not clause.facts:
            waiting |= clause.images
            continue
        images = frozenset(waiting | clause.images)
        if images:
            # What a list begins with holds for all of it: image_1中挡风板、BBU设备完整.
            lead = images if clause.leads or waiting else frozenset()
        scoped.append((clause, images or lead))
        waiting = set()
    if waiting and scoped:
        clause, images = scoped.pop()
        scoped.append((clause, images | waiting))
    return [
        Claim(fact, images, every=clause.every)
        for clause, images in scoped
        for fact in clause.facts
        if not clause.doubtful
    ]


def _without_weaker(claims: Collection[Claim]) -> Iterator[Claim]:
    """Leaves out what another claim implies, whichever images it is of: to say it again earns nothing."""
    facts = {claim.fact for claim in claims}
    values = [fact.parts for fact in facts if fact.kind in ("value", "not_value")]
    told = {part[:2] for parts in values for part in parts}
    of = {
        name
        for fact in facts
        if fact.kind not in ("shown", "sound") and len(fact.parts) == 1
        for category, attribute, _ in fact.parts
        for name in (category, *(known for known in ATTRIBUTES if attribute.startswith(known)))
    }
    for claim in claims:
        fact = claim.fact
        if fact.kind == "shown":
            weaker = all(category in of for category, _, _ in fact.parts)
        elif fact.kind == "stated":
            weaker = any(part[:2] in told for part in fact.parts)
        else:
            weaker = fact.kind == "value" and any(parts < fact.parts for parts in values)
        if not weaker:
            yield claim
