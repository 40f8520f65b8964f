"""The next token of every row, each by its own options, as `generate` would choose it."""

from __future__ import annotations

import torch

from stage_a_pipeline.engines.base import GenerationOptions


class NextToken:
    """Repetition penalty, then the best token, or one drawn by temperature and nucleus.

    What a row has said, its prompt included, and its options are kept here, on the device: no row depends
    on those beside it, and a step that chooses is a function of these buffers alone.
    """

    def __init__(self, *, rows: int, vocabulary: int, device: torch.device) -> None:
        self._said = torch.zeros((rows, vocabulary), dtype=torch.bool, device=device)
        self._penalties, self._temperatures, self._top_p, self.points = torch.ones(
            (4, rows, 1), device=device
        )
        self._greedy = torch.ones((rows, 1), dtype=torch.bool, device=device)
        self._allowed: torch.Tensor | None = None

    def enter(self, row: int, options: GenerationOptions, prompt: torch.Tensor) -> None:
        """Begin a row. `prompt` [tokens] counts as said already."""
        self._said[row] = False
        self._said[row, prompt.to(self._said.device)] = True
        self._penalties[row] = options.repetition_penalty
        self._greedy[row] = options.greedy
        self._temperatures[row] = 1.0 if options.greedy else options.temperature
        self._top_p[row] = options.top_p

    def move(self, source: int, target: int) -> None:
        """Put a row in another place."""
        for column in (self._said, self._penalties, self._greedy, self._temperatures, self._top_p):
            column[target] = column[source]

    def allow(self, allowed: torch.Tensor, rows: slice) -> None:
        """Only these tokens [rows, vocabulary] may be chosen where a choice is `constrained`."""
        if self._allowed is None:
            self._allowed = torch.ones_like(self._said)
        self._allowed[rows] = allowed

    def choose(
        self, logits: torch.Tensor, rows: slice, *, draw: bool = False, constrained: bool = False
    ) -> torch.Tensor:
        """The next tokens [rows] for `logits` [rows, vocabulary], and remember that they were said.

        With `draw`, rows that sample take the token at their `points` [all rows, 1], from 0 to 1, which
        the caller has set; without, all are greedy. Nothing is read back to the host.
        """
        # generate decides in float32 as well, whatever the weights are in.
        scores = logits.float()
        said = self._said[rows]
        penalties = self._penalties[rows]
        penalised = torch.where(scores < 0, scores * penalties, scores / penalties)
        scores = torch.where(said, penalised, scores)
        if constrained:
            assert self._allowed is not None
            scores = scores.where(self._allowed[rows], -torch.inf)
        tokens = scores.argmax(dim=-1)
        if draw:
            drawn = draw_tokens(scores, self._temperatures[rows], self._top_p[rows], self.points[rows])
            tokens = torch.where(self._greedy[rows, 0], tokens, drawn)
        said.scatter_(1, tokens[:, None], True)
        return tokens


def draw_tokens(
    scores: torch.Tensor, temperatures: torch.Tensor, top_p: torch.Tensor, points: torch.Tensor
) -> torch.Tensor:
    """One token per row of `scores` [rows, vocabulary]: the one at the row's point, from 0 to 1, of its
    nucleus, likeliest tokens first. The others are [rows, 1]."""
    likely, tokens = (scores / temperatures).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    in_nucleus = likely.cumsum(dim=-1) - likely < top_p
    nucleus = likely.where(in_nucleus, 0.0).cumsum(dim=-1)
    place = torch.searchsorted(nucleus, points * nucleus[:, -1:], right=True)
    # A point just below 1 is 1 in float32, and would fall off the nucleus; where scores are not numbers,
    # nothing is in it, and an index below 0 would end all work on a CUDA device.
    last = (in_nucleus.sum(dim=-1, keepdim=True) - 1).clamp_min(0)
    return tokens.gather(1, place.minimum(last))[:, 0]
