"""A batch in which a row that has ended leaves, and the next photo takes its place at once.

A static batch runs until its longest answer has ended. Here every row has its own length: newcomers are
prefilled by themselves into slots of the cache (see `slots`), and from then on decoded with everybody
else. The tokens before the photo are the same for all photos of a mission: their keys and values are
computed once and copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from random import Random
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from stage_a_pipeline.engines.base import BatchUsage, Completion, FinishReason, GenerationOptions, Request
from stage_a_pipeline.engines.device_rows import DeviceRows, HostTokens
from stage_a_pipeline.engines.newcomers import Newcomer

if TYPE_CHECKING:
    from stage_a_pipeline.engines.grammar import GrammarState
    from stage_a_pipeline.engines.refill import RefillEngine


@dataclass(slots=True, eq=False)
class Row:
    """A request under way. `length` counts the filled cells of its slot and `asked` the tokens that the
    device was asked for; `answer` holds those of them that the host has heard of, and `grammar`, where there
    is one, what may follow them."""

    request: Request
    options: GenerationOptions
    prompt_tokens: int
    length: int
    random: Random
    grammar: GrammarState | None
    asked: int = 0
    answer: list[int] = field(default_factory=list)
    end: FinishReason | None = None

    @property
    def is_asked_out(self) -> bool:
        return self.end is None and self.asked >= self.options.max_new_tokens


@dataclass(frozen=True, slots=True)
class _Unheard:
    """Tokens of rows that the host has not looked at; a decoding step `computed` so many rows for them."""

    rows: Sequence[Row]
    tokens: HostTokens
    computed: int


class RefillBatch:
    """Rows stand in places 0, 1, ... without a gap: the last one moves to the place of one that ended.

    Nothing is held on the device while nobody is under way, but what the engine keeps for the next batch.
    """

    def __init__(self, engine: RefillEngine, places: int) -> None:
        assert places >= 1
        self.usage = BatchUsage()
        self._engine = engine
        self._places = places
        self._lump = max(1, min(engine.policy.lump, places // 4))
        self._waiting: list[tuple[Request, GenerationOptions]] = []
        self._rows: list[Row] = []
        self._unheard: deque[_Unheard] = deque()
        self._device_rows: DeviceRows | None = None

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
            rows = self._device_rows or self._engine.take_rows(self._places)
            self._device_rows = rows
            while self._waiting:
                self._admit(self._next_lump(), rows)
            while not self._leaving():
                self._decode(rows)
            if len(self._leaving()) == len(self._rows):
                # What is still under way belongs to nobody, and is counted as that.
                self._hear(keep=0)
            ended = self._take_leaving(rows)
        if not self._rows:
            self._engine.give_back(rows)
            self._device_rows = None
        return ended

    def _leaving(self) -> list[Row]:
        """Rows that have ended, and leave before anybody goes on."""
        return [row for row in self._rows if row.end is not None]

    def _next_lump(self) -> list[tuple[Request, GenerationOptions]]:
        """The first waiting requests, as far as they share a prompt."""
        prompt = self._waiting[0][0].prompt
        return list(takewhile(lambda waiting: waiting[0].prompt == prompt, self._waiting[: self._lump]))

    # Whatever fails on the device must leave `open` telling who is under way. So in the next three, the
    # lists change at the end.

    def _admit(self, lump: list[tuple[Request, GenerationOptions]], rows: DeviceRows) -> None:
        """Prefill behind the last row, and choose the first tokens."""
        newcomers = [self._engine.newcomer(*waiting) for waiting in lump]
        places = slice(len(self._rows), len(self._rows) + len(lump))
        logits = self._prefill(newcomers, rows, places)
        entered = []
        for place, newcomer in enumerate(newcomers, start=places.start):
            options, length = newcomer.options, len(newcomer.tokens)
            rows.enter(place, newcomer.tokens, int(newcomer.positions.max()) + 1, options)
            random = Random(f"{options.seed}/{newcomer.request.id}")
            grammar = self._engine.start_grammar(newcomer.request)
            entered.append(Row(newcomer.request, options, length, length, random, grammar))
        draw, constrained = self._set_choice(entered, places, rows)
        tokens = rows.choose(logits, places, draw=draw, constrained=constrained)
        self._rows += entered
        del self._waiting[: len(lump)]
        self._asked(entered, tokens, computed=0)

    def _decode(self, rows: DeviceRows) -> None:
        """One token more for every row."""
        if self._unheard and any(row.is_asked_out or row.grammar for row in self._rows):
            # A row that may say no more is not computed, and a grammar goes by what was said last.
            self._hear(keep=0)
            if self._leaving():
                return
        draw, constrained = self._set_choice(self._rows, slice(0, len(self._rows)), rows)
        longest = max(row.length for row in self._rows)
        tokens, computed = rows.decode(len(self._rows), longest, draw=draw, constrained=constrained)
        for row in self._rows:
            row.length += 1
        self._asked(self._rows, tokens, computed=computed)

    def _take_leaving(self, rows: DeviceRows) -> list[Completion]:
        """Completions of the rows that leave; their places are taken by others."""
        kept, ended = list(self._rows), []
        for row in reversed(self._leaving()):
            assert row.end is not None
            ended.append(self._engine.completion(row.request, row.answer, row.prompt_tokens, row.end))
            place, last = kept.index(row), kept.pop()
            if last is row:
                rows.leave(place)
            else:
                rows.move(len(kept), place, length=last.length)
                kept[place] = last
        self._rows = kept
        return ended

    def _prefill(self, newcomers: Sequence[Newcomer], rows: DeviceRows, places: slice) -> torch.Tensor:
        """Logits [rows, vocabulary] behind the prompts of newcomers that share their text."""
        forward, text = self._engine.forward, newcomers[0].text
        start = text.reused
        # Slots that grow step by step leave holes in a host's memory.
        rows.cache.reserve(max(map(self._expected_cells, newcomers)))
        if text.cache is None:
            rows.cache.clear(places)
        else:
            rows.cache.copy(text.cache, 0, places, cells=start)
        rest = [newcomer.tokens[start:] for newcomer in newcomers]
        positions = [newcomer.positions[:, start:].T for newcomer in newcomers]
        photos = [newcomer.photo for newcomer in newcomers]
        self.usage.compute([len(tokens) for tokens in rest])
        hidden = forward.prefill(
            rows.cache,
            places,
            pad_sequence(rest, batch_first=True, padding_value=self._engine.filler),
            pad_sequence(positions, batch_first=True).permute(2, 0, 1),
            start=start,
            photos={
                "pixel_values": self._engine.patches.pixel_values(photos),
                "image_grid_thw": torch.cat([photo.image_grid_thw for photo in photos]).to(forward.device),
            },
        )
        last = torch.tensor([len(tokens) - 1 for tokens in rest])
        return forward.logits(hidden[torch.arange(len(rest)), last])

    def _expected_cells(self, newcomer: Newcomer) -> int:
        answer = min(newcomer.options.max_new_tokens, self._engine.policy.answer)
        return len(newcomer.tokens) + answer

    def _set_choice(self, entries: Sequence[Row], places: slice, rows: DeviceRows) -> tuple[bool, bool]:
        """Throw the dice for rows that sample, and tell rows with a grammar what it allows; whether there
        are such rows."""
        draw = not all(row.options.greedy for row in entries)
        if draw:
            points = [0.0 if row.options.greedy else row.random.random() for row in entries]
            rows.set_points(points, places)
        constrained = any(row.grammar for row in entries)
        if constrained:
            rows.allow([row.grammar for row in entries], places)
        return draw, constrained

    def _asked(self, entries: Sequence[Row], tokens: HostTokens, *, computed: int) -> None:
        """The device was asked for one more token of those rows."""
        for row in entries:
            row.asked += 1
        self._unheard.append(_Unheard(list(entries), tokens, computed))
        self._hear(keep=self._engine.policy.behind)

    def _hear(self, *, keep: int) -> None:
        """Look at the tokens of all but the newest steps, and at what has ended by them."""
        while len(self._unheard) > keep:
            unheard = self._unheard.popleft()
            live = 0
            for row, token in zip(unheard.rows, unheard.tokens.read(), strict=True):
                # What comes behind an answer's end was under way when that was not known.
                if row.end is None:
                    live += 1
                    row.answer.append(token)
                    row.end = self._engine.end_of(row.answer, row.options)
                    if row.grammar is not None:
                        row.grammar.accept(token)
            if unheard.computed:
                self.usage.add(places=self._places, filled=len(unheard.rows))
                self.usage.tokens += unheard.computed
                self.usage.padding += unheard.computed - live
