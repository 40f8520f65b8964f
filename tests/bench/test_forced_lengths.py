"""Around a real engine: every request gets its own length, and counts as answered in full."""

from random import Random

import pytest

from stage_a_pipeline.bench.forced_lengths import RecordedEngine
from stage_a_pipeline.bench.photo_files import MISSION
from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import build_prompt
from stage_a_pipeline.settings import EngineSettings

OPTIONS = GenerationOptions(max_new_tokens=40)
PROMPT = build_prompt(load_missions()[MISSION])
LIMITS = {"a": 3, "b": 7, "c": 5}


@pytest.fixture(scope="module")
def engine():
    engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests():
    mission = load_missions()[MISSION]
    return [
        Request(name, draw_scene(compose_scene(Random(place), mission), (256, 192)), PROMPT)
        for place, name in enumerate("abc")
    ]


def test_every_request_has_its_own_length_and_counts_as_ended(engine, requests):
    recorded = RecordedEngine(engine, LIMITS)
    completions = recorded.generate(requests, OPTIONS)
    assert [completion.generated_tokens for completion in completions] == [3, 7, 5]
    assert {completion.finish_reason for completion in completions} == {"stop"}
    assert {name: answer.tokens for name, answer in recorded.answers.items()} == LIMITS
    assert recorded.useful_row_steps == 2 + 6 + 4


def test_the_text_is_that_of_the_engine_alone(engine, requests):
    forced = RecordedEngine(engine, LIMITS).generate(requests, OPTIONS)
    for request, completion in zip(requests, forced, strict=True):
        alone = engine.generate([request], GenerationOptions(max_new_tokens=LIMITS[request.id]))
        assert completion.text == alone[0].text


def test_rows_that_the_refill_engine_computes_are_all_useful(engine, requests):
    recorded = RecordedEngine(engine, LIMITS)
    batch = recorded.start_batch(3)
    for request in requests:
        batch.add(request, OPTIONS)
    while batch.open:
        batch.step()
    assert batch.usage.filled == recorded.useful_row_steps


def test_without_limits_answers_end_as_they_do_and_the_stop_token_is_a_step(engine, requests):
    recorded = RecordedEngine(engine, {})
    completions = recorded.generate(requests, OPTIONS)
    assert completions == engine.generate(requests, OPTIONS)
    for completion in completions:
        stop = completion.finish_reason == "stop"
        assert recorded.answers[completion.id].tokens == completion.generated_tokens + stop
