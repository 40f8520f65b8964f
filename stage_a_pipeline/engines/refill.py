"""Continuous batching: a row that has ended leaves, and the next photo takes its place at once.

A static batch runs until its longest answer has ended. Here every row has its own length: newcomers are
prefilled by themselves into slots of the cache (see `slots`), and from then on decoded with everybody
else. The tokens before the photo are the same for all photos of a mission: their keys and values are
computed once and copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from stage_a_pipeline.engines.base import BatchUsage, Completion, GenerationOptions, Request, RunningBatch
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.next_token import NextToken
from stage_a_pipeline.engines.qwen3vl import PhotoTokens, Qwen3VL
from stage_a_pipeline.errors import EngineError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch

    from stage_a_pipeline.engines.slots import SlotCache

_LARGEST_LUMP: Final = 4
"""Newcomers that are prefilled together: fewer calls of the model, against places that stand empty."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A prompt's tokens around its photo; the keys and values of those before it are in slot 0."""

    before: list[int]
    after: list[int]
    cache: SlotCache


@dataclass(frozen=True, slots=True)
class _Newcomer:
    """A request as tensors: its whole prompt [tokens], its positions [3, tokens], and its patches."""

    request: Request
    options: GenerationOptions
    tokens: torch.Tensor
    positions: torch.Tensor
    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor


@dataclass(slots=True)
class _Row:
    """A request under way; `length` cells of its slot are filled."""

    request: Request
    options: GenerationOptions
    prompt_tokens: int
    length: int
    answer: list[int] = field(default_factory=list)


class RefillEngine(Qwen3VL):
    """Qwen3-VL in batches that are refilled while they run.

    In float32 every row gets the tokens that `generate` would give it alone, whoever its neighbours are
    and whenever it joined.
    """

    name = "refill"

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, device: str) -> None:
        super().__init__(checkpoint, settings, device)
        from stage_a_pipeline.engines.slot_forward import SlotForward

        self.forward = SlotForward(self._model, self._device)
        self._texts: dict[Prompt, _Text] = {}

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        if not requests:
            return []
        batch = self.start_batch(len(requests))
        for request in requests:
            batch.add(request, options)
        done: dict[str, Completion] = {}
        while batch.open:
            done.update((completion.id, completion) for completion in batch.step())
        return [done[request.id] for request in requests]

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return _RefillBatch(self, rows)

    def close(self) -> None:
        """See Engine."""
        self._texts.clear()
        super().close()

    def photo_tokens(self, requests: Sequence[Request]) -> list[PhotoTokens]:
        """See Qwen3VL."""
        newcomers = [self.newcomer(request, GenerationOptions(max_new_tokens=1)) for request in requests]
        image_token = self._processor.image_token_id
        return [
            PhotoTokens(
                tuple(newcomer.image_grid_thw[0].tolist()), int((newcomer.tokens == image_token).sum())
            )
            for newcomer in newcomers
        ]

    def text(self, prompt: Prompt) -> _Text:
        """The prompt's tokens, its beginning computed: once per prompt."""
        if prompt not in self._texts:
            tokens = self._processor.tokenizer(self._chat_text(prompt))["input_ids"]
            if (places := tokens.count(self._processor.image_token_id)) != 1:
                raise EngineError(f"the prompt has {places} places for a photo, not one; correct its texts")
            place = tokens.index(self._processor.image_token_id)
            before, after = tokens[:place], tokens[place + 1 :]
            cache = self.forward.empty_cache(rows=1)
            positions = self._torch.arange(place).expand(3, 1, -1)
            self.forward.prefill(cache, slice(0, 1), self._torch.tensor([before]), positions)
            self._texts[prompt] = _Text(before, after, cache)
        return self._texts[prompt]

    def newcomer(self, request: Request, options: GenerationOptions) -> _Newcomer:
        """The request as tensors, patches in the model's type and everything still on the host."""
        text = self.text(request.prompt)
        photo = self._processor.image_processor(images=[request.image], do_resize=False, return_tensors="pt")
        grid = photo["image_grid_thw"]
        image_token = self._processor.image_token_id
        image_tokens = int(grid.prod()) // self._processor.image_processor.merge_size**2
        tokens = self._torch.tensor([*text.before, *[image_token] * image_tokens, *text.after])
        positions = self.forward.positions(tokens, image_token, grid)
        return _Newcomer(request, options, tokens, positions, photo["pixel_values"].to(self._dtype), grid)


class _RefillBatch:
    """Rows stand in slots 0, 1, ... without a gap: the last one moves into the slot of one that ended."""

    def __init__(self, engine: RefillEngine, places: int) -> None:
        import torch

        assert places >= 1
        self.usage = BatchUsage()
        self._engine = engine
        self._forward = engine.forward
        self._places = places
        self._lump = max(1, min(_LARGEST_LUMP, places // 4))
        self._waiting: list[tuple[Request, GenerationOptions]] = []
        self._rows: list[_Row] = []
        self._cache = self._forward.empty_cache(places)
        self._next_token = NextToken(places, self._forward.vocabulary, self._forward.device)
        # Of each row: its newest token, and where that one stands, as a cell and as a rotary position.
        self._columns = torch.zeros((3, places), dtype=torch.long, device=self._forward.device)

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
            while self._waiting:
                self._admit(self._next_lump())
            while not (ended := self._take_ended()):
                self._decode()
        return ended

    def _next_lump(self) -> list[tuple[Request, GenerationOptions]]:
        """The first waiting requests, as far as they share a prompt."""
        prompt = self._waiting[0][0].prompt
        return list(takewhile(lambda waiting: waiting[0].prompt == prompt, self._waiting[: self._lump]))

    def _admit(self, lump: list[tuple[Request, GenerationOptions]]) -> None:
        """Prefill into the slots behind the last row, and choose the first tokens."""
        newcomers = [self._engine.newcomer(*waiting) for waiting in lump]
        slots = slice(len(self._rows), len(self._rows) + len(lump))
        logits = self._prefill(newcomers, slots)
        for newcomer in newcomers:
            length = len(newcomer.tokens)
            self._rows.append(_Row(newcomer.request, newcomer.options, length, length))
            self._next_token.append(newcomer.request, newcomer.options, newcomer.tokens)
        del self._waiting[: len(lump)]
        self._columns[1, slots] = self._columns.new_tensor([len(each.tokens) for each in newcomers])
        self._columns[2, slots] = self._columns.new_tensor(
            [int(each.positions.max()) + 1 for each in newcomers]
        )
        self._choose(logits, slots)

    def _prefill(self, newcomers: Sequence[_Newcomer], slots: slice) -> torch.Tensor:
        """Logits [rows, vocabulary] behind the newcomers' prompts."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        text = self._engine.text(newcomers[0].request.prompt)
        start = len(text.before)
        self._cache.copy(text.cache, 0, slots, cells=start)
        rest = [newcomer.tokens[start:] for newcomer in newcomers]
        positions = [newcomer.positions[:, start:].T for newcomer in newcomers]
        device = self._forward.device
        hidden = self._forward.prefill(
            self._cache,
            slots,
            pad_sequence(rest, batch_first=True, padding_value=self._engine.filler),
            pad_sequence(positions, batch_first=True).permute(2, 0, 1),
            start=start,
            photos={
                "pixel_values": torch.cat([newcomer.pixel_values for newcomer in newcomers]).to(device),
                "image_grid_thw": torch.cat([newcomer.image_grid_thw for newcomer in newcomers]).to(device),
            },
        )
        return self._forward.logits(hidden[torch.arange(len(rest)), torch.tensor([len(r) - 1 for r in rest])])

    def _decode(self) -> None:
        """One token more for every row."""
        rows = slice(len(self._rows))
        tokens, lengths, positions = self._columns[:, rows]
        longest = max(row.length for row in self._rows)
        logits = self._forward.decode(self._cache, tokens, positions, lengths, longest=longest)
        self.usage.add(places=self._places, filled=len(self._rows))
        self._columns[1:, rows] += 1
        for row in self._rows:
            row.length += 1
        self._choose(logits, slice(0, len(self._rows)))

    def _choose(self, logits: torch.Tensor, rows: slice) -> None:
        chosen = self._next_token.choose(logits, range(rows.start, rows.stop))
        self._columns[0, rows] = chosen
        for row, token in zip(self._rows[rows], chosen.tolist(), strict=True):
            row.answer.append(token)

    def _take_ended(self) -> list[Completion]:
        """Completions of the rows that have ended; their slots are free."""
        ended = []
        for place in reversed(range(len(self._rows))):
            row = self._rows[place]
            if row.answer[-1] in self._engine.stop_ids or len(row.answer) >= row.options.max_new_tokens:
                ended.append(self._engine.completion(row.request, row.answer, row.prompt_tokens))
                self._remove(place)
        return ended

    def _remove(self, place: int) -> None:
        last = self._rows.pop()
        if place < len(self._rows):
            self._cache.copy(self._cache, len(self._rows), slice(place, place + 1), cells=last.length)
            self._columns[:, place] = self._columns[:, len(self._rows)]
            self._rows[place] = last
        self._next_token.remove(place)
