"""Both engines that run the checkpoint in this process, on a CPU."""

import weakref

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.errors import EngineError, EngineOutOfMemoryError
from stage_a_pipeline.images import rgb_sha256
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS

ENGINES = {"refill": RefillEngine, "transformers": TransformersEngine}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    engine = ENGINES[request.param](resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    yield engine
    engine.close()


@pytest.mark.parametrize("rows", [3, 16])
def test_batched_equals_single_on_mixed_sizes(engine, requests, singles, rows):
    batched = []
    for start in range(0, len(requests), rows):
        batched += engine.generate(requests[start : start + rows], OPTIONS)
    assert batched == singles


def test_prompts_and_answers_of_the_batch_really_differ(singles):
    assert len({completion.prompt_tokens for completion in singles}) > 3
    assert len({completion.text for completion in singles}) > 8
    assert len({completion.generated_tokens for completion in singles}) > 4


def test_a_cut_answer_says_so(engine, requests):
    completion = engine.generate(requests[:1], GenerationOptions(max_new_tokens=2))[0]
    assert completion.finish_reason == "length"
    assert completion.generated_tokens == 2


def test_no_requests_need_no_model(engine):
    assert engine.generate([], OPTIONS) == []


def test_traces_show_what_reached_the_model(engine, requests):
    traces = engine.trace_inputs(requests[:4])
    for request, trace in zip(requests, traces, strict=False):
        grid = trace.image_grid_thw
        assert trace.id == request.id
        assert trace.rgb_sha256 == rgb_sha256(request.image)
        assert (trace.width, trace.height) == request.image.size == (grid[2] * 16, grid[1] * 16)
        assert trace.expected_image_tokens == trace.actual_image_tokens == grid[1] * grid[2] // 4


def test_a_photo_at_another_size_than_the_model_sees_is_a_mismatch(engine):
    odd = Request("odd", Pillow.new("RGB", (200, 150)), Prompt("s", "u"))
    with pytest.raises(EngineError, match=r"200x150 pixels cannot be cut|cannot reshape array of size 90000"):
        engine.trace_inputs([odd])


def test_target_size_stays_within_both_limits(engine):
    for size in [(4000, 3000), (3000, 4000), (640, 480), (64, 64), (1, 150)]:
        width, height = engine.target_size(*size, max_pixels=2_097_152)
        assert width % 32 == height % 32 == 0
        assert width * height <= 53_248 or min(width, height) == 32
    width, height = engine.target_size(4000, 3000, max_pixels=20_000)
    assert width * height <= 20_000


def test_sampling_repeats_with_its_seed(engine, requests):
    options = GenerationOptions(max_new_tokens=24, temperature=2.0, seed=1)
    first = engine.generate(requests[:3], options)
    assert engine.generate(requests[:3], options) == first
    other = GenerationOptions(max_new_tokens=24, temperature=2.0, seed=2)
    assert [c.text for c in engine.generate(requests[:3], other)] != [c.text for c in first]


@pytest.mark.gpu
@pytest.mark.parametrize("engine_class", ENGINES.values(), ids=ENGINES)
def test_cuda_answers_like_the_cpu_in_float32(requests, singles, engine_class):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    engine = engine_class(resolve_checkpoint("builtin"), EngineSettings(dtype="float32"), "cuda:0")
    assert [c.text for c in engine.generate(requests, OPTIONS)] == [c.text for c in singles]


@pytest.mark.parametrize("engine_class", ENGINES.values(), ids=ENGINES)
def test_closing_frees_the_weights(requests, engine_class):
    engine = engine_class(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    engine.generate(requests[:2], OPTIONS)
    weights = weakref.ref(engine._model.lm_head.weight)
    engine.close()
    assert weights() is None
    engine.close()


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_a_lack_of_memory_is_known_by_torch_s_words(engine, message):
    with pytest.raises(EngineOutOfMemoryError), engine.translated_errors():
        raise RuntimeError(message)
    with pytest.raises(EngineError) as caught, engine.translated_errors():
        raise RuntimeError("device-side assert triggered")
    assert not isinstance(caught.value, EngineOutOfMemoryError)
