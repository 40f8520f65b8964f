"""Generation in static batches that lose their finished rows on the way.

`generate` carries every row to the end of the longest answer. Here it is interrupted once enough rows
have ended, and continued with the open rows alone, on the same cache: transformers supports a second
`generate` on a filled cache, and rows do not see each other, so the tokens stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_WORTH_A_RESTART: Final = 8
"""Rows that must have ended: a restart costs about as much as a few steps of as many rows."""


def generate_shrinking(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
    arguments: Mapping[str, Any],
) -> list[list[int]]:
    """The generated tokens of each row of `inputs`, in order, a stop token last where there is one.

    `inputs` is what the processor returned, padded on the left; `arguments` go to every `generate`.
    """
    import torch

    prompt_length = inputs["input_ids"].shape[1]
    rows = list(range(inputs["input_ids"].shape[0]))
    answers: list[list[int]] = [[] for _ in rows]
    stops = torch.tensor(stop_ids, device=inputs["input_ids"].device)
    step: dict[str, Any] = dict(inputs)
    while True:
        length = step["input_ids"].shape[1]
        output = model.generate(
            **step,
            **arguments,
            max_new_tokens=max_new_tokens - (length - prompt_length),
            return_dict_in_generate=True,
            stopping_criteria=_criteria(len(rows), length, stops),
        )
        generated = output.sequences[:, prompt_length:]
        open_rows = (~torch.isin(generated, stops).any(dim=1)).nonzero().flatten().tolist()
        for place, row in enumerate(rows):
            answers[row] = generated[place].tolist()
        if not open_rows or generated.shape[1] >= max_new_tokens:
            return [_until_stop(answer, stop_ids) for answer in answers]
        rows = [rows[place] for place in open_rows]
        step = _continued(model, output, step["attention_mask"], open_rows)


def _criteria(rows: int, length: int, stops: torch.Tensor) -> Any:
    """Interrupts once a quarter of the rows, and enough of them to be worth it, have ended."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    most_open = rows - max(_WORTH_A_RESTART, rows // 4)

    class EnoughHaveEnded(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, *_scores: Any, **_kwargs: Any) -> torch.Tensor:
            ended = torch.isin(input_ids[:, length:], stops).any(dim=1)
            interrupt = rows - int(ended.sum()) <= most_open
            return torch.full((rows,), interrupt, dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([EnoughHaveEnded()] if most_open > 0 else [])


def _continued(
    model: Any, output: Any, attention_mask: torch.Tensor, open_rows: Sequence[int]
) -> dict[str, Any]:
    """Inputs of the next `generate`: the open rows' tokens, their mask, and their part of the cache."""
    import torch

    chosen = torch.tensor(open_rows, device=attention_mask.device)
    cache = output.past_key_values
    cache.batch_select_indices(chosen)
    # The offset between text and 3-D positions is kept on the module, one row per row of the batch.
    model.model.rope_deltas = model.model.rope_deltas[chosen]
    tokens = output.sequences[chosen]
    mask = attention_mask[chosen]
    new = mask.new_ones((len(open_rows), tokens.shape[1] - mask.shape[1]))
    return {"input_ids": tokens, "attention_mask": torch.cat([mask, new], dim=1), "past_key_values": cache}


def _until_stop(answer: list[int], stop_ids: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(answer) if token in stop_ids), None)
    return answer if end is None else answer[: end + 1]
