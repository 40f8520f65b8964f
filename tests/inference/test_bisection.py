import gc
import weakref

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import Completion, EngineFailure, Request
from stage_a_pipeline.errors import EngineContractError, EngineError, EngineOutOfMemoryError, StoppedError
from stage_a_pipeline.inference.bisection import generate_after_failure, generate_bisecting
from stage_a_pipeline.prompts import Prompt

PIXEL = Pillow.new("RGB", (1, 1))


def requests(count):
    return [Request(str(i), PIXEL, Prompt("s", "u")) for i in range(count)]


def complete(batch):
    return [Completion(request.id, f"text {request.id}", "stop", 1, 1) for request in batch]


def run(batch, generate):
    return generate_bisecting(batch, generate)


def test_a_batch_that_works_is_asked_once():
    calls = []

    def generate(batch):
        calls.append(len(batch))
        return complete(batch)

    assert run(requests(5), generate) == complete(requests(5))
    assert calls == [5]


def test_what_failed_together_is_not_asked_together_again():
    calls = []

    def generate(batch):
        calls.append(len(batch))
        return complete(batch)

    assert generate_after_failure(EngineError("broken"), requests(5), generate) == complete(requests(5))
    assert calls == [2, 3]


def test_one_request_that_failed_is_its_own_failure():
    results = generate_after_failure(EngineError("broken"), requests(1), lambda batch: pytest.fail("asked"))
    assert results == [EngineFailure("engine_error", "EngineError: broken")]


@pytest.mark.parametrize("guilty", [0, 3, 7, 15])
def test_only_the_guilty_photo_fails(guilty):
    calls = []

    def generate(batch):
        calls.append(len(batch))
        if any(request.id == str(guilty) for request in batch):
            raise EngineError("corrupt")
        return complete(batch)

    results = run(requests(16), generate)
    assert [i for i, result in enumerate(results) if isinstance(result, EngineFailure)] == [guilty]
    assert results[guilty] == EngineFailure("engine_error", "EngineError: corrupt")
    assert len(calls) == 9, "halving 16 down to one asks 1 + 2 * 4 times"


def test_any_exception_of_an_engine_is_contained():
    def generate(batch):
        raise ZeroDivisionError("inside the model")

    assert run(requests(1), generate) == [
        EngineFailure("engine_error", "ZeroDivisionError: inside the model")
    ]


def test_out_of_memory_is_halved_until_it_fits():
    def generate(batch):
        if len(batch) > 3:
            raise EngineOutOfMemoryError("full")
        return complete(batch)

    assert run(requests(10), generate) == complete(requests(10))


def test_a_photo_that_alone_runs_out_of_memory_is_its_own_failure():
    def generate(batch):
        raise EngineOutOfMemoryError("full")

    assert [result.reason for result in run(requests(2), generate)] == ["out_of_memory", "out_of_memory"]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda batch: complete(batch)[:-1], "2 answers to 3 requests"),
        (lambda batch: complete(batch)[::-1], "an answer to '2' where '0' was asked"),
        (lambda batch: [*complete(batch), *complete(batch)], "6 answers to 3 requests"),
        (lambda batch: [], "0 answers to 3 requests"),
    ],
)
def test_answers_that_do_not_match_are_never_zipped(answers, message):
    with pytest.raises(EngineContractError, match=message):
        run(requests(3), answers)


def test_an_interrupt_is_not_swallowed():
    def generate(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(requests(2), generate)


def test_a_failed_call_is_let_go_before_its_requests_are_asked_again():
    class Tensors:
        pass

    held = []

    def generate(batch):
        assert all(tensors() is None for tensors in held)
        activations = Tensors()
        held.append(weakref.ref(activations))
        if len(batch) > 1:
            try:
                raise RuntimeError("CUDA out of memory")
            except RuntimeError as error:
                raise EngineOutOfMemoryError("full") from error
        return complete(batch)

    gc.disable()
    try:
        assert run(requests(8), generate) == complete(requests(8))
    finally:
        gc.enable()
    assert len(held) == 15


def test_a_run_that_is_stopped_blames_no_photo():
    def generate(batch):
        raise StoppedError

    with pytest.raises(StoppedError):
        run(requests(4), generate)
