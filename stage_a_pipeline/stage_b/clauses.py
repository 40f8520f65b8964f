"""What each clause of a sentence says: which value of which category, and what it denies.

One pass over the words: at any time only names of the vocabulary are remembered.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from stage_a_pipeline.stage_b.claim_words import ATTRIBUTES, GOOD, Reading, Word

Part = tuple[str, str, str]
"""Category, attribute and value; the latter two are empty where nothing is said of them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """That one of `parts` is so; more than one where the text names a value and no category.

    `shown`, `absent`: a category. `stated`: an attribute. `value`, `not_value`: a value. `sound`: that
    nothing is wrong, without parts.
    """

    kind: Literal["shown", "absent", "stated", "value", "not_value", "sound"]
    parts: frozenset[Part] = frozenset()


@dataclass(slots=True)
class Clause:
    """What stands between two marks. `joined`: the mark before it only lists; `leads`: images come first.

    `names_other`: it speaks of something that is no category, such as 螺丝.
    """

    joined: bool = False
    images: set[str] = field(default_factory=set)
    facts: list[Fact] = field(default_factory=list)
    every: bool = False
    doubtful: bool = False
    leads: bool = False
    names_other: bool = False


def read_clauses(words: Sequence[Word]) -> Iterator[Clause]:
    """The clauses of a sentence in their order."""
    reader = _Reader(words)
    for place, word in enumerate(words):
        if word.kind in ("join", "clause"):
            yield reader.end_clause(joined=word.kind == "join")
        else:
            reader.take(place, word)
    yield reader.end_clause(joined=False)


class _Reader:
    """Reads one sentence: which value is said of which category, and what is denied."""

    def __init__(self, words: Sequence[Word]) -> None:
        self._next = _next_categories(words)
        self._clause = Clause()
        self._subjects: dict[str, None] = {}
        """All categories of the sentence, the last named last."""
        self._own: set[str] = set()
        """Those of this clause."""
        self._run: dict[str, None] = {}
        """Those named one after another, of which a value may be said together."""
        self._run_ended = False
        self._denied: dict[str, None] | None = None
        """Categories behind a word of absence; None where there was no such word."""

    def take(self, place: int, word: Word) -> None:
        if word.kind == "image":
            self._clause.leads |= not self._own and not self._clause.facts
            self._clause.images.add(word.name)
        elif word.kind == "category":
            self._take_category(word)
        elif word.kind == "attribute":
            self._take_attribute(word.name)
        elif word.kind == "value":
            self._take_value(word.readings, self._next[place])
        elif word.kind == "absent":
            self._deny()
            self._denied = {}
        elif word.kind == "sound":
            self._clause.facts.append(Fact("sound"))
        elif word.kind == "every":
            self._clause.every = True
        elif word.kind == "other":
            self._clause.names_other = True
        else:
            assert word.kind == "doubt", word
            self._clause.doubtful = True

    def end_clause(self, *, joined: bool) -> Clause:
        """What was read; a list that goes on keeps the categories that still wait for their value."""
        if not joined or self._denied == {}:
            self._deny()
            self._run = {}
        clause, self._clause = self._clause, Clause(joined=joined)
        self._own.clear()
        return clause

    def _take_category(self, word: Word) -> None:
        name = word.name
        # 尾纤标签 is the pigtail's attribute, not the category of that name.
        if any(name in ATTRIBUTES[owner] for owner in self._own - {name}):
            self._take_attribute(name)
            return
        if self._denied is not None:
            self._denied[name] = None
        else:
            self._clause.facts.append(Fact("shown", frozenset({(name, "", "")})))
        if self._run_ended:
            self._run, self._run_ended = {}, False
        self._run[name] = None
        self._own.add(name)
        self._subjects.pop(name, None)
        self._subjects[name] = None

    def _take_attribute(self, name: str) -> None:
        owners, _ = self._owners([name], None)
        if self._denied is None:
            self._clause.facts.append(Fact("stated", frozenset((owner, name, "") for owner in owners)))
            return
        # 没有套管 says 无套管.
        lacking = frozenset(
            (owner, name, value)
            for owner in owners
            for value in ATTRIBUTES[owner][name]
            if value.startswith("无")
        )
        if lacking:
            self._clause.facts.append(Fact("value", lacking))
        self._denied = None

    def _take_value(self, readings: Sequence[Reading], following: str | None) -> None:
        owners, named = self._owners([attribute for attribute, _ in readings], following)
        parts = frozenset(
            (owner, attribute, value)
            for owner in owners
            for attribute, value in readings
            if value in ATTRIBUTES[owner].get(attribute, ())
        )
        if self._denied == {} or (self._denied and not self._denied.keys().isdisjoint(owners)):
            self._clause.facts.append(Fact("not_value", parts))
            self._clause.facts += _absent(name for name in self._denied if name not in owners)
            self._denied = None
        elif named:
            # Of a list of categories each is claimed; of a category that is not named, one of many.
            self._clause.facts += [Fact("value", frozenset({part})) for part in sorted(parts)]
        else:
            self._clause.facts.append(_unnamed(readings, parts, whole=not self._clause.names_other))
        self._run_ended = True

    def _owners(self, attributes: Sequence[str], following: str | None) -> tuple[list[str], bool]:
        """The categories that have one of the attributes, and whether the text names them.

        Those named just before, else the last of the clause, the next of it, the last of the sentence;
        where it names none, all of the vocabulary.
        """
        for names in (list(self._run), self._last(attributes, within=self._own), [following]):
            if found := [name for name in names if name is not None and _has(name, attributes)]:
                return found, True
        if found := self._last(attributes, within=self._subjects):
            return found, True
        return [name for name in ATTRIBUTES if _has(name, attributes)], False

    def _last(self, attributes: Sequence[str], *, within: Container[str]) -> list[str]:
        return [name for name in self._subjects if name in within and _has(name, attributes)][-1:]

    def _deny(self) -> None:
        """Categories behind a word of absence, or those named before it, are claimed to be absent."""
        if self._denied is None:
            return
        self._clause.facts += _absent(self._denied or self._run or list(self._subjects)[-1:])
        self._denied = None


def _absent(categories: Iterable[str]) -> list[Fact]:
    return [Fact("absent", frozenset({(name, "", "")})) for name in categories]


def _has(category: str, attributes: Sequence[str]) -> bool:
    return not ATTRIBUTES[category].keys().isdisjoint(attributes)


def _unnamed(readings: Sequence[Reading], parts: frozenset[Part], *, whole: bool) -> Fact:
    """A value that is said of no category: of the whole group, of a label, or of any that has it."""
    if readings == GOOD and whole:
        return Fact("sound")
    attribute, value = readings[0]
    if attribute in ATTRIBUTES:
        kind: Literal["absent", "shown"] = "absent" if value.startswith("无") else "shown"
        return Fact(kind, frozenset({(attribute, "", "")}))
    return Fact("value", parts)


def _next_categories(words: Sequence[Word]) -> list[str | None]:
    """For each word the category that is named next in its clause."""
    following: str | None = None
    found: list[str | None] = []
    for word in reversed(words):
        found.append(following)
        if word.kind == "category":
            following = word.name
        elif word.kind in ("join", "clause"):
            following = None
    return found[::-1]
