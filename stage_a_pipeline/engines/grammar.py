"""Answers that can only be summaries: at every step, which tokens may come next in each row.

See `summary_grammar` for the form. llguidance walks it by bytes, so that any split into tokens will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from llguidance import LLExecutor, LLMatcher
from llguidance.hf import from_tokenizer

# llguidance.torch has the same, but compiles a kernel as it is imported.
from llguidance.numpy import fill_next_token_bitmask_par
from transformers import LogitsProcessor

from stage_a_pipeline.engines.summary_grammar import TEXT_SLICES, summary_grammar
from stage_a_pipeline.errors import EngineError
from stage_a_pipeline.vocabulary import DATASETS, Dataset


class SummaryGrammars:
    """The grammars of all datasets over a tokenizer.

    `tokenizer` is the fast one of transformers; `vocabulary` counts the model's logits, of which those
    beyond the tokenizer are never allowed; `stop_ids` are all allowed behind a complete summary, and
    nothing else is. Takes 1.5 s for 150,000 tokens.
    """

    def __init__(self, tokenizer: Any, *, vocabulary: int, stop_ids: Sequence[int]) -> None:
        assert stop_ids, "an answer must have an end"
        tokens = from_tokenizer(
            tokenizer, n_vocab=vocabulary, eos_token=list(stop_ids), slices=list(TEXT_SLICES)
        )
        self._stop_ids = frozenset(stop_ids)
        self._compiled: dict[Dataset, LLMatcher] = {}
        for dataset in DATASETS:
            grammar = LLMatcher.grammar_from_lark(summary_grammar(dataset))
            # What it would log is raised by `accept`.
            self._compiled[dataset] = LLMatcher(tokens, grammar, log_level=0)
            assert not self._compiled[dataset].is_error(), self._compiled[dataset].get_error()

    def start(self, dataset: Dataset) -> GrammarState:
        """An answer about a photo of that dataset, before its first token. Takes microseconds."""
        return GrammarState(self._compiled[dataset].deep_copy(), self._stop_ids)


class GrammarState:
    """How far one answer has come."""

    __slots__ = ("_ended", "_stop_ids", "matcher")

    def __init__(self, matcher: LLMatcher, stop_ids: frozenset[int]) -> None:
        self.matcher = matcher
        self._stop_ids = stop_ids
        self._ended = False

    def accept(self, token: int) -> None:
        """Go on by a token. What follows a stop token is no part of the answer, and changes nothing.

        Raises EngineError for a token that was not allowed.
        """
        if self._ended:
            return
        if not self.matcher.consume_token(token):
            reason = self.matcher.get_error().partition("\n")[0]
            raise EngineError(
                f"token {token} was chosen where the summary grammar does not allow it ({reason}); "
                "scores that are not finite do this: try dtype 'float32', or structured_output = false"
            )
        self._ended = token in self._stop_ids


def allowed_tokens(
    states: Sequence[GrammarState | None], vocabulary: int, device: torch.device
) -> torch.Tensor:
    """Which tokens may come next: bool [rows, vocabulary] on `device`; rows of None allow everything.

    Every row allows at least one token; one that has ended, its stop tokens.
    """
    words = -(-vocabulary // 32)
    on_cuda = device.type == "cuda"
    bits = torch.full((len(states), words), -1, dtype=torch.int32, pin_memory=on_cuda)
    matchers = [(state.matcher, row) for row, state in enumerate(states) if state is not None]
    if matchers:
        fill_next_token_bitmask_par(_executor(), matchers, bits.numpy())
    flags = bits.view(torch.uint8).to(device, non_blocking=on_cuda)
    return (unpack_on_cpu(flags) if flags.is_cpu else unpack(flags))[:, :vocabulary]


def unpack(flags: torch.Tensor) -> torch.Tensor:
    """Bits as bool [rows, 8 * bytes], the lowest of each byte of `flags` [rows, bytes] first."""
    shifts = torch.arange(8, dtype=torch.uint8, device=flags.device)
    return (flags[:, :, None] >> shifts).bitwise_and_(1).view(torch.bool).flatten(1)


def unpack_on_cpu(flags: torch.Tensor) -> torch.Tensor:
    """The same on a CPU, where numpy takes a tenth of the time."""
    return torch.from_numpy(np.unpackbits(flags.numpy(), axis=1, bitorder="little")).view(torch.bool)


@cache
def _executor() -> LLExecutor:
    """Threads that fill the rows of a batch, one per processor at most."""
    return LLExecutor()


class SummariesOnly(LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Holds the rows of one call of `generate` to their grammars.

    It must come behind the repetition penalty, as processors that are handed to `generate` do: the penalty
    may then lower what is allowed, but not push a row to what is not. Rows that were ended for another reason
    than their own stop token are `is_over`: what follows there is padding.
    """

    def __init__(
        self, states: Sequence[GrammarState | None], is_over: Callable[[int], bool] = lambda _row: False
    ) -> None:
        self._states = states
        self._is_over = is_over
        self._length: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` [rows, vocabulary] behind `input_ids` [rows, tokens], prompts included."""
        if self._length is not None:
            assert input_ids.shape[1] == self._length + 1, "one token a step"
            for row, token in enumerate(input_ids[:, -1].tolist()):
                state = self._states[row]
                if state is not None and not self._is_over(row):
                    state.accept(token)
        self._length = input_ids.shape[1]
        allowed = allowed_tokens(self._states, scores.shape[1], scores.device)
        return scores.masked_fill(~allowed, -torch.inf)
