"""Policy, and nothing else: which photos form a shard, who gets it next, and what becomes of a lost one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from typing import Final

from stage_a_pipeline.inference.batching import ShardingMode
from stage_a_pipeline.records import ImageRef

_ROUNDS: Final = 4
"""So many shards per actor, at least, where there are photos enough: the last ones then end together."""

_FEW: Final = 2
"""So many shards under way keep an actor busy: one that ends, and the next."""

_LOST_BEFORE_CUT: Final = 2
_LOST_BEFORE_LEFT_OUT: Final = 3


@dataclass(frozen=True, slots=True)
class Shard:
    """Photos that an actor is given together, and how many actors were lost with them.

    `ended_before` is how many shards had ended when the last of those was lost.
    """

    refs: tuple[ImageRef, ...]
    losses: int = 0
    ended_before: int = 0

    @property
    def id(self) -> str:
        """Its first and last place: the same in every run over the same photos, and nobody else's."""
        first, last = self.refs[0], self.refs[-1]
        return f"{first.group_index}.{first.image_index}-{last.group_index}.{last.image_index}"


def shard_size(photos: int, *, actors: int, most: int) -> int:
    """Photos per shard: at most so many, and fewer where the actors would not all have some."""
    return max(1, min(most, ceil(photos / (actors * _ROUNDS))))


def cut_shards(refs: Sequence[ImageRef], *, size: int, mode: ShardingMode) -> Iterator[Shard]:
    """Shards of `size` photos, in order; `per_group` cuts between groups only, unless one is larger."""
    shard: list[ImageRef] = []
    for _, own in groupby(refs, key=lambda ref: ref.group_index if mode == "per_group" else id(ref)):
        photos = list(own)
        if shard and len(shard) + len(photos) > size:
            yield Shard(tuple(shard))
            shard = []
        shard += photos
        while len(shard) >= size:
            yield Shard(tuple(shard[:size]))
            shard = shard[size:]
    if shard:
        yield Shard(tuple(shard))


def after_loss(shard: Shard) -> list[Shard]:
    """What is tried instead of a shard whose actor was lost; nothing where a photo has proved to be at fault.

    A host may die over any shard: the first time it is only tried again. Then it is cut in halves, down to
    the photo; that one is given up when two more actors were lost with it alone.
    """
    losses = shard.losses + 1
    if len(shard.refs) == 1:
        return [replace(shard, losses=losses)] if losses < _LOST_BEFORE_LEFT_OUT else []
    if losses < _LOST_BEFORE_CUT:
        return [replace(shard, losses=losses)]
    half = len(shard.refs) // 2
    return [Shard(shard.refs[:half], losses - 1), Shard(shard.refs[half:], losses - 1)]


class ShardQueue:
    """Shards that wait, and those that actors have. Each ends once: who answers late is told so.

    `lost_in_a_row` counts actors that were lost since a shard has ended, or a photo was given up, and whose
    loss no photo explains: where the actors work otherwise, each of many guilty photos may cost some.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        self.lost_in_a_row = 0
        self._ended = 0
        self._waiting = deque(shards)
        self._under_way: dict[str, dict[str, Shard]] = {}

    def __bool__(self) -> bool:
        """Whether anything is left to do."""
        return bool(self._waiting) or any(self._under_way.values())

    def take(self, actor: str, *, most: int, actors: int) -> Shard | None:
        """The next shard for an actor that may have `most` under way; None where it has enough.

        A suspect, one with which an actor was lost, is alone with its actor: nobody else is blamed for it.
        When few are left, an actor gets only as many as keep it busy.
        """
        own = self._under_way.setdefault(actor, {})
        if len(own) >= (most if len(self._waiting) > actors else min(most, _FEW)):
            return None
        if any(shard.losses for shard in own.values()):
            return None
        for place, shard in enumerate(self._waiting):
            if not (shard.losses and own):
                del self._waiting[place]
                own[shard.id] = shard
                return shard
        return None

    def end(self, actor: str, shard_id: str) -> Shard | None:
        """The shard, which is done now; None where it is no longer this actor's."""
        shard = self._under_way.get(actor, {}).pop(shard_id, None)
        if shard is not None:
            self._ended += 1
            self.lost_in_a_row = 0
        return shard

    def put_back(self, shard: Shard) -> None:
        """Let somebody else do a shard that has ended to no use."""
        self._waiting.appendleft(shard)

    def give_back(self, actor: str) -> None:
        """Let others have an actor's shards, which nobody blames."""
        self._waiting.extendleft(reversed(self._under_way.pop(actor, {}).values()))

    def lose(self, actor: str) -> tuple[int, list[ImageRef]]:
        """How many shards were lost with an actor, and the photos that are given up for it."""
        shards = self._under_way.pop(actor, {}).values()
        given_up: list[ImageRef] = []
        self.lost_in_a_row += not any(map(self._is_guilty, shards))
        for shard in shards:
            parts = after_loss(shard)
            # Behind all others: whatever else can end, ends first.
            self._waiting.extend(replace(part, ended_before=self._ended) for part in parts)
            given_up += () if parts else shard.refs
        if given_up:
            self.lost_in_a_row = 0
        return len(shards), given_up

    def _is_guilty(self, shard: Shard) -> bool:
        """Whether an actor was lost with it before, and others have ended since, so that actors do work."""
        return shard.losses > 0 and shard.ended_before < self._ended
