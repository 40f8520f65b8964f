"""A running batch over an engine that only knows whole batches."""

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import Completion, GenerationOptions, Request
from stage_a_pipeline.engines.static_batch import StaticBatch
from stage_a_pipeline.errors import EngineContractError, EngineError
from stage_a_pipeline.prompts import Prompt

SHORT, LONG = GenerationOptions(8), GenerationOptions(16)


def request(name):
    return Request(name, Pillow.new("RGB", (1, 1)), Prompt("s", "u"))


def complete(requests, _options):
    return [Completion(each.id, each.id, "stop", 1, 1) for each in requests]


def ids(batch):
    return [each.id for each, _ in batch.open]


def test_a_step_answers_everybody_with_the_options_of_the_oldest():
    batch = StaticBatch(complete, 4)
    for name, options in [("a", SHORT), ("b", LONG), ("c", SHORT)]:
        batch.add(request(name), options)
    assert batch.room == 1
    assert [completion.id for completion in batch.step()] == ["a", "c"]
    assert (ids(batch), batch.room) == (["b"], 3)
    assert [completion.id for completion in batch.step()] == ["b"]
    assert (batch.usage.steps, batch.usage.places, batch.usage.filled) == (2, 8, 3)


def test_what_was_asked_stays_open_when_the_engine_fails():
    def fail(requests, options):
        raise EngineError("broken")

    batch = StaticBatch(fail, 2)
    batch.add(request("a"), SHORT)
    with pytest.raises(EngineError):
        batch.step()
    assert ids(batch) == ["a"]


def test_answers_that_do_not_match_are_refused():
    batch = StaticBatch(lambda requests, options: complete(requests, options)[::-1], 2)
    batch.add(request("a"), SHORT)
    batch.add(request("b"), SHORT)
    with pytest.raises(EngineContractError, match="an answer to 'b' where 'a' was asked"):
        batch.step()
