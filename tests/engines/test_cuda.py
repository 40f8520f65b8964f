"""What only a CUDA device can show: graphs, pinned copies, memory. The rest is tested on a CPU."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS
from tests.engines.running import run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
FLOAT32 = EngineSettings(devices=("cuda:0",), dtype="float32")
EAGER = EngineSettings(devices=("cuda:0",), dtype="float32", cuda_graphs=False)


@pytest.fixture(scope="module")
def engine():
    engine = RefillEngine(resolve_checkpoint("builtin"), FLOAT32, "cuda:0")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def expected(requests):
    static = TransformersEngine(resolve_checkpoint("builtin"), FLOAT32, "cuda:0")
    yield [static.generate([request], OPTIONS)[0] for request in requests]
    static.close()


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_recorded_steps_answer_as_generate_does_photo_by_photo(engine, requests, expected, rows):
    for _ in range(3):
        done, _ = run(engine, requests, rows=rows)
        assert [done[request.id] for request in requests] == expected
    assert engine._kept_rows._captured._replays, "nothing was recorded"


def test_steps_without_graphs_give_the_same_answers(requests, expected):
    plain = RefillEngine(resolve_checkpoint("builtin"), EAGER, "cuda:0")
    done, _ = run(plain, requests, rows=5)
    assert [done[request.id] for request in requests] == expected
    plain.close()


def test_photos_are_prepared_in_pinned_memory_on_other_threads_while_steps_are_recorded(
    engine, requests, expected
):
    from concurrent.futures import ThreadPoolExecutor

    engine._kept_rows = None
    with ThreadPoolExecutor(4) as pool:
        prepared = pool.map(engine.prepare, [request.image for request in requests * 4])
        done, _ = run(engine, requests, rows=6)
        assert all(photo.pixels.is_pinned() for photo in prepared)
    assert [done[request.id] for request in requests] == expected


def test_sampled_answers_do_not_depend_on_graphs(engine, requests):
    sampling = replace(OPTIONS, temperature=2.0, top_p=0.9)
    recorded = [run(engine, requests, rows=6, options=[sampling] * len(requests))[0] for _ in range(2)]
    plain = RefillEngine(resolve_checkpoint("builtin"), EAGER, "cuda:0")
    assert recorded[0] == recorded[1] == run(plain, requests, rows=6, options=[sampling] * len(requests))[0]
    plain.close()


def test_memory_is_steady_from_batch_to_batch(engine, requests):
    options = [GenerationOptions(max_new_tokens=24)] * len(requests)
    taken = []
    for _ in range(12):
        run(engine, requests, rows=8, options=options)
        taken.append(torch.cuda.memory_reserved())
    assert taken[-1] == taken[3]


def test_free_memory_gives_a_batch_size(engine, requests):
    rows = engine.fitting_rows({request.prompt for request in requests}, max_pixels=10**6, max_new_tokens=256)
    assert rows == 128


@pytest.mark.slow
def test_the_engines_are_compared_on_cuda(tmp_path):
    file = tmp_path / "rows.json"
    command = [Path(sys.executable).with_name("stage-a"), "bench", "engines", "--shape", "tiny"]
    subprocess.run([*command, "--device", "cuda:0", "--rounds", "1", "--json", file], check=True)
    rows = {row["engine"]: row for row in json.loads(file.read_text("utf-8"))}
    assert rows["refill + prefix"]["photos_per_second"] > 0
    assert 0 < rows["refill + prefix"]["roofline_share"] < 1
