"""The next token of every row, each by its own options, as `generate` would choose it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch

from stage_a_pipeline.engines.base import GenerationOptions


class NextToken:
    """Repetition penalty, then the best token, or one drawn by temperature and nucleus.

    What a row has said, its prompt included, is kept here; its options and the random numbers that it
    draws by are given with every call, so that no row depends on those beside it.
    """

    def __init__(self, *, rows: int, vocabulary: int, device: torch.device) -> None:
        self._said = torch.zeros((rows, vocabulary), dtype=torch.bool, device=device)
        self._penalties = torch.ones((rows, 1), device=device)

    def enter(self, row: int, options: GenerationOptions, prompt: torch.Tensor) -> None:
        """Begin a row. `prompt` [tokens] counts as said already."""
        self._said[row] = False
        self._said[row, prompt.to(self._said.device)] = True
        self._penalties[row] = options.repetition_penalty

    def move(self, source: int, target: int) -> None:
        """Put a row in another place."""
        self._said[target] = self._said[source]
        self._penalties[target] = self._penalties[source]

    def choose(
        self,
        logits: torch.Tensor,
        rows: slice,
        options: Sequence[GenerationOptions],
        randoms: Sequence[Random],
    ) -> torch.Tensor:
        """The next tokens [rows] for `logits` [rows, vocabulary], and remember that they were said."""
        # generate decides in float32 as well, whatever the weights are in.
        scores = logits.float()
        said = self._said[rows]
        if any(each.repetition_penalty != 1.0 for each in options):
            penalties = self._penalties[rows]
            penalised = torch.where(scores < 0, scores * penalties, scores / penalties)
            scores = torch.where(said, penalised, scores)
        tokens = scores.argmax(dim=-1)
        drawn = [place for place, each in enumerate(options) if not each.greedy]
        if drawn:
            points = [randoms[place].random() for place in drawn]
            tokens[drawn] = draw_tokens(scores[drawn], [options[place] for place in drawn], points)
        said.scatter_(1, tokens[:, None], True)
        return tokens


def draw_tokens(
    scores: torch.Tensor, options: Sequence[GenerationOptions], points: Sequence[float]
) -> torch.Tensor:
    """One token per row of `scores` [rows, vocabulary]: the one at the row's point, from 0 to 1, of its
    nucleus, likeliest tokens first."""
    temperature = scores.new_tensor([each.temperature for each in options])[:, None]
    top_p = scores.new_tensor([each.top_p for each in options])[:, None]
    likely, tokens = (scores / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    in_nucleus = likely.cumsum(dim=-1) - likely < top_p
    nucleus = likely.where(in_nucleus, 0.0).cumsum(dim=-1)
    target = scores.new_tensor(points)[:, None] * nucleus[:, -1:]
    place = torch.searchsorted(nucleus, target, right=True)
    # A point just below 1 is 1 in float32, and would fall off the nucleus.
    last = in_nucleus.sum(dim=-1, keepdim=True) - 1
    return tokens.gather(1, place.minimum(last))[:, 0]
