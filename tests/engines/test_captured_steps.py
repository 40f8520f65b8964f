"""Steps of the shapes that a CUDA device gets, recorded and replayed, with a CPU's arithmetic.

torch's own tracer stands in for CUDA graphs: what it records is, like them, a list of operations on buffers
where they were at the time of recording. Whatever else a step reads or leaves behind is not repeated.
"""

import gc
import weakref
from dataclasses import replace
from random import Random

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from stage_a_pipeline.engines import device_rows
from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.captured_steps import CapturedSteps
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.refill_policy import CUDA, StepShape
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS
from tests.engines.running import decoded_tokens, run

SMALL = replace(CUDA, row_step=4, window_step=32, growth=64, answer=16)
"""As on CUDA, in steps that fit the built-in checkpoint's short prompts: shapes change, and slots grow."""


class TracedOperations:
    """Records operations on the buffers of a batch's rows; recording itself changes nothing there."""

    rows = None
    recorded = 0
    replayed = 0

    def record(self, work):
        buffers = _buffers(TracedOperations.rows)
        before = [buffer.clone() for buffer in buffers]
        operations = make_fx(work)()
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
        TracedOperations.recorded += 1

        def replay():
            TracedOperations.replayed += 1
            operations()

        return replay

    def forget(self):
        pass


def _buffers(rows):
    columns = [value for value in vars(rows).values() if isinstance(value, torch.Tensor)]
    said = [value for value in vars(rows.next_token).values() if isinstance(value, torch.Tensor)]
    return [*columns, *said, *(layer.states for layer in rows.cache.layers)]


@pytest.fixture(scope="module")
def engine():
    # Weights as a CUDA device has them.
    settings = EngineSettings(packed_weights=False)
    engine = RefillEngine(resolve_checkpoint("builtin"), settings, "cpu", policy=SMALL)
    yield engine
    engine.close()


@pytest.fixture
def traced(engine, monkeypatch):
    take_rows = engine.take_rows

    def taken(places):
        TracedOperations.rows = take_rows(places)
        return TracedOperations.rows

    monkeypatch.setattr(engine, "take_rows", taken)
    monkeypatch.setattr(device_rows, "CudaGraphs", TracedOperations)
    monkeypatch.setattr(engine, "_kept_rows", None)
    TracedOperations.recorded = TracedOperations.replayed = 0
    return TracedOperations


@pytest.mark.parametrize(("rows", "behind"), [(1, 1), (3, 0), (6, 1), (6, 3), (16, 1)])
def test_shapes_of_a_cuda_device_and_late_looks_change_no_answer(
    engine, requests, singles, monkeypatch, rows, behind
):
    monkeypatch.setattr(engine, "policy", replace(SMALL, capture=False, behind=behind))
    order = Random(rows).sample(range(len(requests)), len(requests))
    done, batch = run(engine, [requests[place] for place in order], rows=rows)
    assert [done[request.id] for request in requests] == singles
    late = batch.usage.filled - sum(decoded_tokens(singles))
    assert 0 <= late <= behind * len(requests)
    assert batch.usage.padding >= late, "what is computed late belongs to nobody"


def test_a_step_that_nobody_waits_for_any_more_is_counted_as_waste(engine, requests, monkeypatch):
    monkeypatch.setattr(engine, "policy", replace(SMALL, capture=False, behind=1))
    favourite = engine._processor.tokenizer("<|im_end|>")["input_ids"][0]
    choose = engine.forward.decode

    def ending(*args, **kwargs):
        logits = choose(*args, **kwargs)
        logits[:, favourite] += 1000.0
        return logits

    monkeypatch.setattr(engine.forward, "decode", ending)
    _, batch = run(engine, requests[:3], rows=3)
    assert (batch.usage.steps, batch.usage.filled) == (2, 6), "the step that ends all, and the one behind it"


def test_work_is_done_on_the_engine_s_own_device(engine, monkeypatch):
    current = []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            current.append(self.device)

        def __exit__(self, *_error):
            current.pop()

    second = torch.device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device", Device)
    monkeypatch.setattr(engine, "_device", second)
    with engine.inference_mode():
        assert current == [second]
        assert torch.is_inference_mode_enabled()
    assert current == []


def test_recorded_steps_give_the_same_answers(engine, requests, singles, traced):
    for repeat in range(2):
        done, batch = run(engine, requests, rows=6)
        assert [done[request.id] for request in requests] == singles, repeat
    assert traced.recorded > 3, "several shapes occur"
    assert traced.replayed > batch.usage.steps, "most steps of two runs were replayed"
    assert engine._kept_rows is traced.rows, "the recordings of the first run serve the second"


def test_recorded_steps_sample_as_others_do(engine, requests, traced, monkeypatch):
    requests = requests[:9]
    mixed = [
        replace(OPTIONS, temperature=2.0, top_p=0.9) if place % 2 else OPTIONS
        for place in range(len(requests))
    ]
    recorded, _ = run(engine, requests, rows=5, options=mixed)
    assert traced.replayed > 10
    monkeypatch.setattr(engine, "policy", replace(SMALL, capture=False, behind=0, row_step=1, window_step=1))
    plain, _ = run(engine, requests, rows=5, options=mixed)
    assert recorded == plain


def test_recorded_steps_are_held_to_grammars_as_others_are(engine, static_engine, requests, traced):
    pytest.importorskip("llguidance")
    options = replace(OPTIONS, max_new_tokens=256, repetition_penalty=3.0)
    held = [
        replace(request, grammar="bbu") if place % 2 else request
        for place, request in enumerate(requests[:9])
    ]
    short = [options if place % 2 else OPTIONS for place in range(len(held))]
    done, _ = run(engine, held, rows=6, options=short)
    assert traced.replayed > 10
    expected = [static_engine.generate([each], its)[0] for each, its in zip(held, short, strict=True)]
    assert [done[request.id] for request in held] == expected


def test_a_batch_of_another_size_gets_rows_of_its_own(engine, requests, singles, traced):
    run(engine, requests[:4], rows=4)
    first = engine._kept_rows
    done, _ = run(engine, requests[:6], rows=3)
    assert [done[request.id] for request in requests[:6]] == singles[:6]
    assert engine._kept_rows is not first
    assert engine._kept_rows.places == 3


def test_rows_of_a_batch_that_failed_are_not_kept(engine, requests, singles, traced, monkeypatch):
    decode = engine.forward.decode

    def failing(*_args, **_kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine.forward, "decode", failing)
    batch = engine.start_batch(3)
    batch.add(requests[0], OPTIONS)
    with pytest.raises(Exception, match="illegal memory access"):
        batch.step()
    assert engine._kept_rows is None
    monkeypatch.setattr(engine.forward, "decode", decode)
    done, _ = run(engine, requests[:3], rows=3)
    assert [done[request.id] for request in requests[:3]] == singles[:3]


def test_rows_that_are_not_kept_free_the_device_at_once(engine, monkeypatch):
    """A batch that ran out of memory is asked again in halves before any garbage is collected."""

    class Recorder:
        def record(self, work):
            work()
            return lambda: None

    monkeypatch.setattr(device_rows, "CudaGraphs", Recorder)
    rows = device_rows.DeviceRows(engine.forward, 4, SMALL)
    with torch.inference_mode():
        for _ in range(2):
            rows.decode(4, 8, draw=False, constrained=False)
    slots, said = weakref.ref(rows.cache), weakref.ref(rows.next_token)
    gc.disable()
    try:
        del rows
        assert slots() is None
        assert said() is None
    finally:
        gc.enable()


def test_answers_of_one_token_take_no_step(engine, requests, monkeypatch):
    monkeypatch.setattr(engine, "policy", replace(SMALL, capture=False, behind=1))
    short = GenerationOptions(max_new_tokens=1)
    done, batch = run(engine, requests[:5], rows=4, options=[short] * 5)
    assert {completion.generated_tokens for completion in done.values()} == {1}
    assert batch.usage.steps == 0


def test_a_shape_is_recorded_when_it_comes_again_and_once_more_when_buffers_moved():
    told = []

    class Recorder:
        def record(self, work):
            told.append("record")
            return lambda: told.append("replay")

        def forget(self):
            told.append("other memory")

    def step(shape):
        told.append(f"step {shape.rows}")

    steps = CapturedSteps(Recorder())
    small, large = StepShape(4, 64), StepShape(8, 64)
    for shape in (small, small, small, large):
        steps(step, shape)
    assert told == ["step 4", "record", "replay", "replay", "step 8"]
    told.clear()
    steps.forget()
    for shape in (small, large):
        steps(step, shape)
    assert told == ["other memory", "record", "replay", "record", "replay"]


def test_steps_go_on_where_recording_fails_and_the_log_says_so_once(caplog):
    carried_out = []

    class Broken:
        def record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing")

    steps = CapturedSteps(Broken())
    shapes = [StepShape(4, 64), StepShape(8, 64)] * 3
    for shape in shapes:
        steps(carried_out.append, shape)
    assert carried_out == shapes
    assert len(caplog.messages) == 1
    assert "operation not permitted" in caplog.text
    assert "engine.cuda_graphs = false" in caplog.text


def test_a_decoding_step_reads_nothing_back_to_the_host(engine, traced):
    """On the meta device there is nothing to read: a step that tried would raise."""
    from copy import deepcopy

    from stage_a_pipeline.engines.device_rows import DeviceRows
    from stage_a_pipeline.engines.slot_forward import SlotForward

    model = deepcopy(engine._model).to("meta")
    with torch.inference_mode():
        rows = DeviceRows(SlotForward(model, torch.device("meta")), 8, replace(SMALL, capture=False))
        rows.cache.reserve(64)
        for draw in (False, True):
            rows._step(StepShape(8, 64, draw=draw))
        with pytest.raises((RuntimeError, NotImplementedError)):
            rows._tokens.tolist()
