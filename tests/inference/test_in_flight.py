"""Requests under way with the shipped fake engine, and with engines that break the contract."""

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import BatchUsage, Completion, EngineFailure, GenerationOptions, Request
from stage_a_pipeline.engines.fake import FakeBehaviour, FakeEngine, Fault
from stage_a_pipeline.errors import (
    EngineContractError,
    EngineError,
    EngineOutOfMemoryError,
    OutputError,
)
from stage_a_pipeline.inference.asking import Listeners
from stage_a_pipeline.inference.batching import Budget
from stage_a_pipeline.inference.in_flight import InFlight
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.prompts import Prompt

GREEDY = GenerationOptions(max_new_tokens=64)
LONG_ENOUGH = '{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}]}'


def request(name):
    return Request(str(name), Pillow.new("RGB", (64, 64)), Prompt("s", "u"))


def run(engine, names, *, rows=4, **listeners):
    """Results by request, metrics, and the most that was under way after any step."""
    metrics = ShardMetrics()
    in_flight = InFlight(engine, Budget(rows), GREEDY, metrics, listeners=Listeners(**listeners))
    results = {}
    waiting = [request(name) for name in names]
    while waiting or in_flight:
        while waiting and in_flight.room:
            in_flight.add(waiting.pop(0))
        for result in in_flight.step():
            assert result.request_id not in results
            results[result.request_id] = result
    in_flight.close()
    return results, metrics


@pytest.fixture(params=[False, True], ids=["static", "refill"])
def refill(request):
    return request.param


def test_every_request_has_one_result_and_is_counted(refill):
    results, metrics = run(FakeEngine(FakeBehaviour(refill=refill)), range(11))
    assert set(results) == {str(name) for name in range(11)}
    assert {result.attempts for result in results.values()} == {1}
    assert metrics.prompt_tokens == 22
    assert metrics.generated_tokens == sum(result.answer.generated_tokens for result in results.values())
    assert 0 < metrics.filled_places <= metrics.places
    assert metrics.places == 4 * metrics.steps


def test_an_unusable_answer_is_asked_for_again_beside_the_others(refill):
    engine = FakeEngine(FakeBehaviour(refill=refill, faults=(Fault("3", "empty", times=1),)))
    results, metrics = run(engine, range(9))
    assert {name for name, result in results.items() if result.attempts == 2} == {"3"}
    assert metrics.retried == 1


def test_a_second_try_that_fails_keeps_the_first_answer(refill):
    faults = (Fault("3", "repetition", times=1), Fault("3", "error"))
    results, _ = run(FakeEngine(FakeBehaviour(refill=refill, faults=faults)), range(6))
    assert results["3"].attempts == 2
    assert isinstance(results["3"].answer, Completion)


class Slots(FakeEngine):
    """Has room for so many places of a batch in all, whoever stands in them; a long answer takes two."""

    def __init__(self, room, **behaviour):
        super().__init__(FakeBehaviour(refill=True, **behaviour))
        self.room = room
        self.ran_out = []

    def start_batch(self, rows):
        batch = super().start_batch(rows)
        step = batch.step

        def limited():
            self.check(rows, [options for _, options in batch.open])
            return step()

        batch.step = limited
        return batch

    def generate(self, requests, options):
        self.check(len(requests), [options] * len(requests))
        return super().generate(requests, options)

    def check(self, places, options):
        longest = max(each.max_new_tokens for each in options)
        if places * (2 if longest > GREEDY.max_new_tokens else 1) > self.room:
            self.ran_out.append((places, longest))
            raise EngineOutOfMemoryError(f"no room for {places} places of {longest} tokens")


def test_one_request_in_a_batch_of_many_places_is_asked_alone_before_it_is_given_up():
    engine = Slots(4)
    warnings = []
    results, _ = run(engine, ["only"], rows=8, warning=warnings.append)
    assert isinstance(results["only"].answer, Completion)
    assert len(warnings) == 1
    assert "out of memory with 1 of 8 places taken; the batch size is 4 from here on" in warnings[0]


def test_a_request_that_has_no_room_even_alone_is_out_of_memory(refill):
    engine = FakeEngine(FakeBehaviour(refill=refill, faults=(Fault("2", "out_of_memory"),)))
    results, _ = run(engine, range(7))
    failed = {
        name: result.answer for name, result in results.items() if isinstance(result.answer, EngineFailure)
    }
    assert {name: failure.reason for name, failure in failed.items()} == {"2": "out_of_memory"}


def test_memory_that_runs_out_beside_retries_lowers_the_batch_size_too():
    names = range(60)
    faults = tuple(Fault(str(name), "truncated", times=1) for name in names if name % 5 == 0)
    engine = Slots(9, faults=faults)
    warnings = []
    results, _ = run(engine, names, rows=8, warning=warnings.append)
    assert all(isinstance(result.answer, Completion) for result in results.values())
    assert len(engine.ran_out) <= 2, "once it is lowered there is room for retries as well"
    assert len(warnings) == 1


def test_a_record_of_inputs_that_cannot_be_written_is_no_fault_of_the_photos(refill):
    def full(_traces):
        raise OutputError("inputs cannot be written: No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        run(FakeEngine(FakeBehaviour(refill=refill)), range(6), inputs=full)


def test_inputs_are_told_once_even_when_the_first_batch_is_split(refill):
    calls = []

    class NothingToTrace(FakeEngine):
        def trace_inputs(self, requests):
            assert requests, "an engine cannot make a batch of nothing"
            return super().trace_inputs(requests)

    engine = NothingToTrace(FakeBehaviour(refill=refill, max_batch=2))
    results, _ = run(engine, range(8), rows=8, inputs=calls.append)
    assert [trace.id for call in calls for trace in call] == [str(name) for name in range(8)]
    assert all(isinstance(result.answer, Completion) for result in results.values())


def test_inputs_that_do_not_match_cost_their_photo_only():
    class Mismatch(FakeEngine):
        def trace_inputs(self, requests):
            if any(request.id == "2" for request in requests):
                raise EngineError("47 image tokens where its pixels make 48")
            return super().trace_inputs(requests)

    told = []
    results, _ = run(Mismatch(), range(4), inputs=told.extend)
    failed = [name for name, result in results.items() if isinstance(result.answer, EngineFailure)]
    assert failed == ["2"]
    assert sorted(trace.id for trace in told) == ["0", "1", "3"]


class Broken:
    """A batch that answers what it is told to."""

    room = 1

    def __init__(self, answers):
        self.usage = BatchUsage()
        self.open = []
        self.answers = answers

    def add(self, request, options):
        self.open.append((request, options))

    def step(self):
        self.open = self.open[1:]
        return [Completion(name, LONG_ENOUGH, "stop", 1, 1) for name in self.answers.pop(0)]


def step_to_the_end(in_flight):
    while in_flight:
        in_flight.step()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([["b"]], "an answer to 'b', which is not under way"),
        ([["a", "a"]], "an answer to 'a', which is not under way"),
        ([[]], "a step that answered nobody"),
        ([["c"], ["d"]], "'d', which is not under way"),
    ],
)
def test_a_batch_that_breaks_the_contract_stops_the_run(answers, message):
    class Engine(FakeEngine):
        def start_batch(self, rows):
            return Broken(answers)

    in_flight = InFlight(Engine(), Budget(4), GREEDY, ShardMetrics(), listeners=Listeners())
    in_flight.add(request("a"))
    in_flight.add(request("c"))
    with pytest.raises(EngineContractError, match=message):
        step_to_the_end(in_flight)


def test_a_request_that_is_forgotten_stops_the_run():
    class Engine(FakeEngine):
        def start_batch(self, rows):
            return Broken([["a"], ["c"]])

    in_flight = InFlight(Engine(), Budget(4), GREEDY, ShardMetrics(), listeners=Listeners())
    for name in ("a", "b", "c"):
        in_flight.add(request(name))
    in_flight._batch.open.pop()
    with pytest.raises(EngineContractError, match="'b' was never answered"):
        step_to_the_end(in_flight)
