"""`generate`'s rows ended one by one where they go in circles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria


class RepetitionStop(StoppingCriteria):
    """Ends a row as soon as `is_endless` says so of its generated tokens, and remembers where that was.

    Rows are looked at when that `is_due` after so many tokens. `prompt_tokens` is the width of the padded
    prompts, `stop_ids` are the tokens that end a row anyway.
    """

    def __init__(
        self,
        prompt_tokens: int,
        stop_ids: Sequence[int],
        *,
        is_due: Callable[[int], bool],
        is_endless: Callable[[Sequence[int]], bool],
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._stop_ids = stop_ids
        self._is_due = is_due
        self._is_endless = is_endless
        self._lengths: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, *_args: Any, **_kwargs: Any) -> torch.Tensor:
        """Which rows of `input_ids` [rows, tokens] are over, as [rows]."""
        over = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        # Nothing is read back at the other steps; who was over stays so.
        if not self._is_due(input_ids.shape[1] - self._prompt_tokens):
            return over
        for row, answer in enumerate(input_ids[:, self._prompt_tokens :].tolist()):
            if row not in self._lengths and answer == self.answer(row, answer) and self._is_endless(answer):
                self._lengths[row] = len(answer)
        over[list(self._lengths)] = True
        return over

    def is_over(self, row: int) -> bool:
        """Whether that row was ended here."""
        return row in self._lengths

    def answer(self, row: int, generated: Sequence[int]) -> Sequence[int]:
        """The row's own tokens among the `generated` ones, its stop token included: padding follows."""
        end = next((place for place, token in enumerate(generated) if token in self._stop_ids), None)
        return generated[: end + 1 if end is not None else self._lengths.get(row)]
