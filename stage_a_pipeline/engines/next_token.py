"""The next token of every row, each by its own options, as `generate` would choose it."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from stage_a_pipeline.engines.base import GenerationOptions, Request

if TYPE_CHECKING:
    import torch


class NextToken:
    """Repetition penalty, then the best token, or one drawn by temperature and nucleus.

    Draws of a row depend on the seed and the request's id alone, not on the rows beside it.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device) -> None:
        import torch

        self._torch = torch
        self._options: list[GenerationOptions] = []
        self._random: list[Random] = []
        self._seen = torch.zeros((rows, vocabulary), dtype=torch.bool, device=device)
        self._penalties = torch.ones((rows, 1), device=device)

    def append(self, request: Request, options: GenerationOptions, prompt: torch.Tensor) -> None:
        """A row behind the last one. `prompt` [tokens] counts as said already."""
        row = len(self._options)
        self._options.append(options)
        self._random.append(Random(f"{options.seed}/{request.id}"))
        self._seen[row] = False
        self._seen[row, prompt] = True
        self._penalties[row] = options.repetition_penalty

    def remove(self, row: int) -> None:
        """Put the last row in the place of this one."""
        last = len(self._options) - 1
        self._seen[row] = self._seen[last]
        self._penalties[row] = self._penalties[last]
        self._options[row], self._random[row] = self._options[last], self._random[last]
        self._options.pop()
        self._random.pop()

    def choose(self, logits: torch.Tensor, rows: range) -> torch.Tensor:
        """The next tokens [rows] for `logits` [rows, vocabulary], and remember that they were said."""
        # generate decides in float32 as well, whatever the weights are in.
        scores = logits.float()
        options = [self._options[row] for row in rows]
        seen = self._seen[rows.start : rows.stop]
        if any(each.repetition_penalty != 1.0 for each in options):
            penalties = self._penalties[rows.start : rows.stop]
            penalised = self._torch.where(scores < 0, scores * penalties, scores / penalties)
            scores = self._torch.where(seen, penalised, scores)
        tokens = scores.argmax(dim=-1)
        drawn = [place for place, each in enumerate(options) if not each.greedy]
        if drawn:
            points = [self._random[rows[place]].random() for place in drawn]
            tokens[drawn] = self._draw(scores[drawn], [options[place] for place in drawn], points)
        seen.scatter_(1, tokens[:, None], True)
        return tokens

    def _draw(
        self, scores: torch.Tensor, options: Sequence[GenerationOptions], points: Sequence[float]
    ) -> torch.Tensor:
        """One token per row: the point in [0, 1) of the row's nucleus, likeliest tokens first."""
        temperature = scores.new_tensor([each.temperature for each in options])[:, None]
        top_p = scores.new_tensor([each.top_p for each in options])[:, None]
        likely, tokens = (scores / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        before = likely.cumsum(dim=-1) - likely
        nucleus = likely.where(before < top_p, 0.0).cumsum(dim=-1)
        target = scores.new_tensor(points)[:, None] * nucleus[:, -1:]
        place = self._torch.searchsorted(nucleus, target, right=True).clamp_(max=scores.shape[1] - 1)
        return tokens.gather(1, place)[:, 0]
