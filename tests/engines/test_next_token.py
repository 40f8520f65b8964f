"""The choice of a token, against transformers' own processors."""

from random import Random

import pytest
import torch
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.next_token import NextToken, draw_tokens

VOCABULARY = 50


class Rows:
    """Rows with their options, each with random numbers of its own."""

    def __init__(self, options, prompts):
        self.options = list(options)
        self.randoms = [Random(place) for place in range(len(options))]
        self.next_token = NextToken(rows=len(options), vocabulary=VOCABULARY, device=torch.device("cpu"))
        for place, (its, prompt) in enumerate(zip(options, prompts, strict=True)):
            self.next_token.enter(place, its, torch.tensor(prompt))

    def choose(self, logits):
        rows = slice(0, len(logits))
        self.next_token.points[rows, 0] = torch.tensor([each.random() for each in self.randoms[rows]])
        draw = not all(each.greedy for each in self.options[rows])
        return self.next_token.choose(logits, rows, draw=draw).tolist()


def test_greedy_choice_is_that_of_transformers_penalty_included():
    generator = torch.Generator().manual_seed(0)
    penalties = [1.0, 1.05, 1.5, 3.0]
    prompts = [[1, 2, 3], [4, 4, 5], list(range(40)), [49]]
    options = [GenerationOptions(9, repetition_penalty=penalty) for penalty in penalties]
    rows = Rows(options, prompts)
    said = [list(prompt) for prompt in prompts]
    for _ in range(30):
        logits = torch.randn(4, VOCABULARY, generator=generator)
        tokens = rows.choose(logits)
        for row, penalty in enumerate(penalties):
            scores = logits[row : row + 1].clone()
            if penalty != 1.0:
                processor = RepetitionPenaltyLogitsProcessor(penalty)
                scores = processor(torch.tensor([said[row]]), scores)
            assert tokens[row] == int(scores.argmax())
            said[row].append(tokens[row])


def test_what_another_row_said_does_not_count_after_it_moved():
    options = [GenerationOptions(9, repetition_penalty=2.0)] * 3
    rows = Rows(options, [[1], [2], [3]])
    rows.next_token.move(2, 0)
    logits = torch.ones(2, VOCABULARY)
    logits[:, [1, 2, 3]] = 1.5
    first, second = rows.choose(logits)
    assert first == 1, "the row that said 3 stands in place 0 now"
    assert second == 1, "the row that said 2 has not moved"
    assert rows.choose(logits) == [2, 3]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.0, 0.8), (2.0, 0.5), (0.3, 0.05)])
def test_draws_follow_the_distribution_that_transformers_would_sample(temperature, top_p):
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    expected = TopPLogitsWarper(top_p)(None, scores).softmax(dim=-1)[0]
    count = 20_000
    points = (torch.arange(count)[:, None] + 0.5) / count
    same = torch.ones(count, 1)
    drawn = draw_tokens(logits.expand(count, -1), same * temperature, same * top_p, points)
    shares = torch.bincount(drawn, minlength=VOCABULARY) / count
    assert (shares - expected).abs().max() < 2 / count + 1e-4
    assert set(drawn.tolist()) == set(expected.nonzero().flatten().tolist()) or top_p == 1.0


def test_rows_of_one_batch_may_sample_or_not():
    options = [GenerationOptions(9), GenerationOptions(9, temperature=5.0)]
    rows = Rows(options, [[0], [0]])
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 7] = 1.0
    drawn = [rows.choose(logits) for _ in range(40)]
    assert {greedy for greedy, _ in drawn} == {7}
    assert len({sampled for _, sampled in drawn}) > 10


def test_a_point_that_rounds_to_one_stays_in_the_nucleus():
    scores = torch.linspace(3.0, -3.0, VOCABULARY)[None]
    in_nucleus = TopPLogitsWarper(0.5)(None, scores).isfinite().sum()
    one = torch.ones(1, 1)
    drawn = draw_tokens(scores, one, one * 0.5, torch.tensor([[1 - 2**-30]]))
    assert drawn.tolist() == [int(in_nucleus) - 1]


def test_a_row_whose_scores_are_no_numbers_harms_nobody():
    scores = torch.linspace(3.0, -3.0, VOCABULARY).repeat(2, 1)
    one = torch.ones(2, 1)
    alone = draw_tokens(scores[:1], one[:1], one[:1] * 0.5, one[:1] * 0.3)
    scores[1] = torch.nan
    drawn = draw_tokens(scores, one, one * 0.5, one * 0.3)
    assert drawn[0] == alone[0]
    assert 0 <= drawn[1] < VOCABULARY
