"""The choice of a token, against transformers' own processors."""

import pytest
import torch
from PIL import Image as Pillow
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.next_token import NextToken
from stage_a_pipeline.prompts import Prompt

VOCABULARY = 50


def request(name):
    return Request(name, Pillow.new("RGB", (1, 1)), Prompt("s", "u"))


def chooser(options, prompts):
    chosen = NextToken(len(options), VOCABULARY, torch.device("cpu"))
    for place, (its, prompt) in enumerate(zip(options, prompts, strict=True)):
        chosen.append(request(f"r{place}"), its, torch.tensor(prompt))
    return chosen


def test_greedy_choice_is_that_of_transformers_penalty_included():
    generator = torch.Generator().manual_seed(0)
    penalties = [1.0, 1.05, 1.5, 3.0]
    prompts = [[1, 2, 3], [4, 4, 5], list(range(40)), [49]]
    options = [GenerationOptions(9, repetition_penalty=penalty) for penalty in penalties]
    choose = chooser(options, prompts)
    said = [list(prompt) for prompt in prompts]
    for _ in range(30):
        logits = torch.randn(4, VOCABULARY, generator=generator)
        tokens = choose.choose(logits, range(4)).tolist()
        for row, penalty in enumerate(penalties):
            scores = logits[row : row + 1].clone()
            if penalty != 1.0:
                processor = RepetitionPenaltyLogitsProcessor(penalty)
                scores = processor(torch.tensor([said[row]]), scores)
            assert tokens[row] == int(scores.argmax())
            said[row].append(tokens[row])


def test_what_another_row_said_does_not_count_after_it_moved():
    options = [GenerationOptions(9, repetition_penalty=2.0)] * 3
    choose = chooser(options, [[1], [2], [3]])
    choose.remove(0)
    logits = torch.ones(2, VOCABULARY)
    logits[:, [1, 2, 3]] = 1.5
    first, second = choose.choose(logits, range(2)).tolist()
    assert first == 1, "the row that said 3 stands in slot 0 now"
    assert second == 1, "the row that said 2 has not moved"
    assert choose.choose(logits, range(2)).tolist() == [2, 3]


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.0, 0.8), (2.0, 0.5), (0.3, 0.05)])
def test_draws_follow_the_distribution_that_transformers_would_sample(temperature, top_p):
    logits = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(3)) * 3
    scores = TemperatureLogitsWarper(temperature)(None, logits)
    expected = TopPLogitsWarper(top_p)(None, scores).softmax(dim=-1)[0]
    options = GenerationOptions(9, temperature=temperature, top_p=top_p)
    count = 20_000
    points = [(place + 0.5) / count for place in range(count)]
    drawn = chooser([options], [[0]])._draw(logits.expand(count, -1), [options] * count, points)
    shares = torch.bincount(drawn, minlength=VOCABULARY) / count
    assert (shares - expected).abs().max() < 2 / count + 1e-4
    assert set(drawn.tolist()) == set(expected.nonzero().flatten().tolist()) or top_p == 1.0


def test_rows_of_one_batch_may_sample_or_not():
    options = [GenerationOptions(9), GenerationOptions(9, temperature=5.0)]
    choose = chooser(options, [[0], [0]])
    logits = torch.zeros(2, VOCABULARY)
    logits[0, 7] = 1.0
    drawn = [choose.choose(logits, range(2)).tolist() for _ in range(40)]
    assert {greedy for greedy, _ in drawn} == {7}
    assert len({sampled for _, sampled in drawn}) > 10
