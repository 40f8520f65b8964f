"""A batch in which a row that has ended leaves, and the next photo takes its place at once.

A static batch runs until its longest answer has ended. Here every row has its own length: newcomers are
prefilled by themselves into slots of the cache (see `slots`), and from then on decoded with everybody
else. The tokens before the photo are the same for all photos of a mission: their keys and values are
computed once and copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING, Final

import torch
from torch.nn.utils.rnn import pad_sequence

from stage_a_pipeline.engines.base import BatchUsage, Completion, GenerationOptions, Request
from stage_a_pipeline.engines.newcomers import Newcomer
from stage_a_pipeline.engines.next_token import NextToken
from stage_a_pipeline.engines.slot_forward import SlotForward

if TYPE_CHECKING:
    from stage_a_pipeline.engines.refill import RefillEngine

_LARGEST_LUMP: Final = 4
"""Newcomers that are prefilled together: fewer calls of the model, against places that stand empty."""


@dataclass(slots=True)
class _Row:
    """A request under way. `length` counts the filled cells of its slot, as the device does: the host
    needs it without asking there."""

    request: Request
    options: GenerationOptions
    prompt_tokens: int
    length: int
    random: Random
    answer: list[int] = field(default_factory=list)

    def has_ended(self, stop_ids: Sequence[int]) -> bool:
        return self.answer[-1] in stop_ids or len(self.answer) >= self.options.max_new_tokens


class _DeviceRows:
    """What the device holds of each row, in the same place in all: its slot, newest token, what it said.

    The newest token stands at cell `lengths` of its slot, once it is decoded, and at the rotary position
    `positions`; all are [rows].
    """

    def __init__(self, forward: SlotForward, rows: int) -> None:
        self.cache = forward.empty_cache(rows)
        self.next_token = NextToken(rows=rows, vocabulary=forward.vocabulary, device=forward.device)
        self.tokens, self.lengths, self.positions = torch.zeros(
            (3, rows), dtype=torch.long, device=forward.device
        )

    def move(self, source: int, target: int, *, length: int) -> None:
        self.cache.copy(self.cache, source, slice(target, target + 1), cells=length)
        self.next_token.move(source, target)
        for column in (self.tokens, self.lengths, self.positions):
            column[target] = column[source]


class RefillBatch:
    """Rows stand in places 0, 1, ... without a gap: the last one moves to the place of one that ended.

    Nothing is held on the device while nobody is under way.
    """

    def __init__(self, engine: RefillEngine, places: int) -> None:
        assert places >= 1
        self.usage = BatchUsage()
        self._engine = engine
        self._places = places
        self._lump = max(1, min(_LARGEST_LUMP, places // 4))
        self._waiting: list[tuple[Request, GenerationOptions]] = []
        self._rows: list[_Row] = []
        self._device_rows: _DeviceRows | None = None

    @property
    def room(self) -> int:
        """See RunningBatch. Nothing until a lump has room, unless there is nobody to go on with."""
        free = self._places - len(self._rows) - len(self._waiting)
        return free if self._waiting or not self._rows or free >= self._lump else 0

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return [*((row.request, row.options) for row in self._rows), *self._waiting]

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        assert len(self._rows) + len(self._waiting) < self._places
        self._waiting.append((request, options))

    def step(self) -> list[Completion]:
        """See RunningBatch."""
        assert self._waiting or self._rows
        with self._engine.translated_errors(), self._engine.inference_mode():
            rows = self._device_rows or _DeviceRows(self._engine.forward, self._places)
            self._device_rows = rows
            while self._waiting:
                self._admit(self._next_lump(), rows)
            while not any(row.has_ended(self._engine.stop_ids) for row in self._rows):
                self._decode(rows)
            ended = self._take_ended(rows)
        if not self._rows:
            self._device_rows = None
        return ended

    def _next_lump(self) -> list[tuple[Request, GenerationOptions]]:
        """The first waiting requests, as far as they share a prompt."""
        prompt = self._waiting[0][0].prompt
        return list(takewhile(lambda waiting: waiting[0].prompt == prompt, self._waiting[: self._lump]))

    # Whatever fails on the device must leave `open` telling who is under way. So in the next three, the
    # lists change at the end.

    def _admit(self, lump: list[tuple[Request, GenerationOptions]], rows: _DeviceRows) -> None:
        """Prefill behind the last row, and choose the first tokens."""
        newcomers = [self._engine.newcomer(*waiting) for waiting in lump]
        places = slice(len(self._rows), len(self._rows) + len(lump))
        logits = self._prefill(newcomers, rows, places)
        entered = []
        for place, newcomer in enumerate(newcomers, start=places.start):
            request, options, length = newcomer.request, newcomer.options, len(newcomer.tokens)
            rows.next_token.enter(place, options, newcomer.tokens)
            rows.lengths[place] = length
            rows.positions[place] = int(newcomer.positions.max()) + 1
            random = Random(f"{options.seed}/{request.id}")
            entered.append(_Row(request, options, length, length, random))
        self._choose(logits, rows, places, entered)
        self._rows += entered
        del self._waiting[: len(lump)]

    def _decode(self, rows: _DeviceRows) -> None:
        """One token more for every row."""
        places = slice(0, len(self._rows))
        logits = self._engine.forward.decode(
            rows.cache,
            rows.tokens[places],
            rows.positions[places],
            rows.lengths[places],
            longest=max(row.length for row in self._rows),
        )
        self.usage.add(places=self._places, filled=len(self._rows))
        self.usage.compute([1] * len(self._rows))
        rows.lengths[places] += 1
        rows.positions[places] += 1
        self._choose(logits, rows, places, self._rows)
        for row in self._rows:
            row.length += 1

    def _take_ended(self, rows: _DeviceRows) -> list[Completion]:
        """Completions of the rows that have ended; their places are taken by others."""
        kept, ended = list(self._rows), []
        for place in reversed(range(len(kept))):
            row = kept[place]
            if row.has_ended(self._engine.stop_ids):
                ended.append(self._engine.completion(row.request, row.answer, row.prompt_tokens))
                last = kept.pop()
                if last is not row:
                    rows.move(len(kept), place, length=last.length)
                    kept[place] = last
        self._rows = kept
        return ended

    def _prefill(self, newcomers: Sequence[Newcomer], rows: _DeviceRows, places: slice) -> torch.Tensor:
        """Logits [rows, vocabulary] behind the prompts of newcomers that share their text."""
        forward, text = self._engine.forward, newcomers[0].text
        start = len(text.before)
        rows.cache.copy(text.cache, 0, places, cells=start)
        rest = [newcomer.tokens[start:] for newcomer in newcomers]
        positions = [newcomer.positions[:, start:].T for newcomer in newcomers]
        self.usage.compute([len(tokens) for tokens in rest])
        hidden = forward.prefill(
            rows.cache,
            places,
            pad_sequence(rest, batch_first=True, padding_value=self._engine.filler),
            pad_sequence(positions, batch_first=True).permute(2, 0, 1),
            start=start,
            photos={
                "pixel_values": torch.cat([newcomer.pixel_values for newcomer in newcomers]),
                "image_grid_thw": torch.cat([newcomer.image_grid_thw for newcomer in newcomers]),
            },
        )
        last = torch.tensor([len(tokens) - 1 for tokens in rest])
        return forward.logits(hidden[torch.arange(len(rest)), last])

    def _choose(
        self, logits: torch.Tensor, rows: _DeviceRows, places: slice, entries: Sequence[_Row]
    ) -> None:
        """The next token of those rows."""
        tokens = rows.next_token.choose(
            logits, places, [row.options for row in entries], [row.random for row in entries]
        )
        rows.tokens[places] = tokens
        for row, token in zip(entries, tokens.tolist(), strict=True):
            row.answer.append(token)
