"""How many requests have room."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.memory import RequestMemory, free_bytes, request_memory, rows_in
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.refill_policy import CPU
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.settings import EngineSettings

GIB = 1 << 30


@pytest.fixture
def config():
    return AutoConfig.from_pretrained(resolve_checkpoint("builtin").folder)


def test_keys_and_values_of_the_4b_shape_take_147_kilobytes_a_token(config):
    text = config.text_config
    text.num_hidden_layers, text.num_key_value_heads, text.head_dim = 36, 8, 128
    one, two = (
        request_memory(config, prompt_tokens=1024, patches=4096, answer_tokens=tokens, item_bytes=2)
        for tokens in (100, 101)
    )
    assert two.under_way - one.under_way == 147_456
    assert two.prefill == one.prefill


def test_slots_that_grow_in_steps_take_whole_steps(config, requests, monkeypatch):
    from stage_a_pipeline.engines import qwen3vl_on_device

    def cells(tokens, growth):
        memory, none = (
            request_memory(config, prompt_tokens=0, patches=1, answer_tokens=n, item_bytes=4, growth=growth)
            for n in (tokens, 0)
        )
        return memory.under_way - none.under_way

    assert cells(1, 1024) == cells(1024, 1024) == cells(1024, 1)
    assert cells(1025, 1024) == cells(2048, 1)
    engine = RefillEngine(
        resolve_checkpoint("builtin"), EngineSettings(), "cpu", policy=replace(CPU, growth=8192)
    )
    monkeypatch.setattr(qwen3vl_on_device, "free_bytes", lambda _device: 256 * 1024**2)
    prompts = [requests[0].prompt]
    rows = [engine.fitting_rows(prompts, max_pixels=10**5, max_new_tokens=limit) for limit in (256, 4096)]
    assert rows[0] == rows[1] < 32
    engine.close()


@pytest.mark.parametrize(
    ("free", "together", "rows"),
    [
        (10 * GIB, 1, 7),  # 8 GiB usable, 1 for the prompt
        (10 * GIB, 4, 4),
        (10 * GIB, None, 2),  # each 2 for its cache and 1 for its prompt
        (1000 * GIB, 1, 32),
        (GIB // 2, 1, 1),
        (0, None, 1),
    ],
)
def test_rows_are_what_has_room_beside_the_prompts(free, together, rows):
    request = RequestMemory(under_way=GIB, prefill=GIB)
    assert rows_in(free, request, prefilled_together=together, most=32) == rows


def test_free_memory_is_that_of_the_machine_or_its_container(monkeypatch, tmp_path):
    from stage_a_pipeline.engines import memory

    device = torch.device("cpu")
    available = free_bytes(device)
    total = int(next(line for line in open("/proc/meminfo") if "MemTotal" in line).split()[1]) * 1024  # noqa: PTH123, SIM115
    assert 0 < available < total
    monkeypatch.setattr(memory, "_CGROUPS", [(str(tmp_path), *names) for _, *names in memory._CGROUPS])
    for limit, used, files in (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ("memory.max", "memory.current", "inactive_file"),
    ):
        (tmp_path / limit).write_text("3000000\n")
        (tmp_path / used).write_text("2500000\n")
        (tmp_path / "memory.stat").write_text(f"anon 900000\n{files} 1500000\nactive_file 100000\n")
        assert free_bytes(device) == 2_000_000, "files that were read can be forgotten"
        (tmp_path / limit).unlink()
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(device) > 2_000_000


def test_a_small_model_has_room_for_as_many_rows_as_a_cpu_can_use_and_for_fewer_long_answers(
    requests, monkeypatch
):
    from stage_a_pipeline.engines import qwen3vl_on_device

    prompts = [request.prompt for request in requests]
    free = 256 * 1024**2
    monkeypatch.setattr(qwen3vl_on_device, "free_bytes", lambda _device: free)
    for engine_class in (RefillEngine, TransformersEngine):
        engine = engine_class(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
        few = engine.fitting_rows(prompts, max_pixels=10**6, max_new_tokens=100_000)
        many = engine.fitting_rows(prompts, max_pixels=10**6, max_new_tokens=256)
        assert 1 <= few < many == 32
        engine.close()


def test_workers_on_one_cpu_share_its_memory(requests, monkeypatch):
    from stage_a_pipeline.engines import qwen3vl_on_device

    monkeypatch.setattr(qwen3vl_on_device, "free_bytes", lambda _device: 256 * 1024**2)
    rows = []
    for workers in (1, 2):
        engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(devices=["cpu"] * workers), "cpu")
        rows.append(engine.fitting_rows([requests[0].prompt], max_pixels=10**5, max_new_tokens=8192))
        engine.close()
    assert 1 < rows[1] <= rows[0] // 2 + 1 < rows[0]
