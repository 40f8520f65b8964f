"""What the device holds of a batch's rows, and the step that gives each of them one more token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.captured_steps import CapturedSteps, CudaGraphs
from stage_a_pipeline.engines.next_token import NextToken
from stage_a_pipeline.engines.refill_policy import RefillPolicy, StepShape
from stage_a_pipeline.engines.slot_forward import SlotForward

if TYPE_CHECKING:
    from stage_a_pipeline.engines.grammar import GrammarState


class HostTokens:
    """Tokens [rows] on their way to the host, without a wait before they are read."""

    def __init__(self, tokens: torch.Tensor) -> None:
        on_cuda = tokens.device.type == "cuda"
        self._tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=on_cuda)
        self._tokens.copy_(tokens, non_blocking=on_cuda)
        self._arrived = torch.cuda.Event() if on_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> list[int]:
        """The tokens, once they have arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        tokens: list[int] = self._tokens.tolist()
        return tokens


class DeviceRows:
    """Slot, newest token, what was said: in the same place in all buffers.

    A row's newest token stands at cell `lengths` of its slot, once it is decoded, and at the rotary position
    `positions`; all are [places]. Places without a row take part in a step where its shape says so:
    they stand still, and write into the first cell of their own slot, which a newcomer clears.
    """

    def __init__(self, forward: SlotForward, places: int, policy: RefillPolicy) -> None:
        self.places = places
        self.cache = forward.empty_cache(places, growth=policy.growth)
        self.next_token = NextToken(rows=places, vocabulary=forward.vocabulary, device=forward.device)
        self._forward = forward
        self._policy = policy
        self._tokens, self._lengths, self._positions, self._active = torch.zeros(
            (4, places), dtype=torch.long, device=forward.device
        )
        self._captured = CapturedSteps(CudaGraphs()) if policy.capture else None
        self._moves = self.cache.moves

    def enter(self, place: int, prompt: torch.Tensor, position: int, options: GenerationOptions) -> None:
        """Begin a row whose prompt [tokens] is in its slot; its first token will stand at `position`."""
        self.next_token.enter(place, options, prompt)
        self._lengths[place] = len(prompt)
        self._positions[place] = position
        self._active[place] = 1

    def move(self, source: int, target: int, *, length: int) -> None:
        """Put a row of that length in another place, and nobody in its own."""
        self.cache.copy(self.cache, source, slice(target, target + 1), cells=length)
        self.next_token.move(source, target)
        for column in (self._tokens, self._lengths, self._positions, self._active):
            column[target] = column[source]
        self.leave(source)

    def leave(self, place: int) -> None:
        """Nobody is in that place any more."""
        for column in (self._lengths, self._positions, self._active):
            column[place] = 0

    def set_points(self, points: Sequence[float], rows: slice) -> None:
        """Where in their nucleus those rows draw next: see NextToken."""
        self.next_token.points[rows, 0] = torch.tensor(points).to(self._forward.device, non_blocking=True)

    def allow(self, grammars: Sequence[GrammarState | None], rows: slice) -> None:
        """What those rows may choose next where the choice is `constrained`; None: everything."""
        from stage_a_pipeline.engines.grammar import allowed_tokens

        vocabulary, device = self._forward.vocabulary, self._forward.device
        self.next_token.allow(allowed_tokens(grammars, vocabulary, device), rows)

    def choose(self, logits: torch.Tensor, rows: slice, *, draw: bool, constrained: bool) -> HostTokens:
        """The first tokens of rows that have just entered, of `logits` [rows, vocabulary]."""
        self._tokens[rows] = self.next_token.choose(logits, rows, draw=draw, constrained=constrained)
        return HostTokens(self._tokens[rows])

    def decode(self, rows: int, longest: int, *, draw: bool, constrained: bool) -> tuple[HostTokens, int]:
        """One more token for the first rows, of which the longest has filled that many cells; and how many
        rows were computed for it."""
        shape = self._policy.shape(rows, longest + 1, places=self.places, draw=draw, constrained=constrained)
        self.cache.reserve(shape.window)
        if self._captured is None:
            self._step(shape)
        else:
            if self._moves != self.cache.moves:
                self._moves = self.cache.moves
                self._captured.forget()
            self._captured(self._step, shape)
        return HostTokens(self._tokens[:rows]), shape.rows

    def _step(self, shape: StepShape) -> None:
        """A function of the buffers alone, so that it can be recorded."""
        rows = slice(0, shape.rows)
        logits = self._forward.decode(
            self.cache, self._tokens[rows], self._positions[rows], self._lengths[rows], window=shape.window
        )
        self._tokens[rows] = self.next_token.choose(
            logits, rows, draw=shape.draw, constrained=shape.constrained
        )
        self._lengths[rows] += self._active[rows]
        self._positions[rows] += self._active[rows]
