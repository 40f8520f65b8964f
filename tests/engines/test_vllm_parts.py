"""What vLLM is told, and what becomes of what it tells: without vLLM, over one that plays from a script."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace

import pytest
from PIL import Image as Pillow
from transformers import AutoConfig

from stage_a_pipeline.engines import engine_hash, load_engine, vllm_arguments
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.vllm import VllmEngine
from stage_a_pipeline.engines.vllm_arguments import (
    cpu_cache_bytes,
    engine_arguments,
    environment,
    model_length,
    sampling_arguments,
    set_for_a_while,
)
from stage_a_pipeline.engines.vllm_library import News
from stage_a_pipeline.errors import ConfigurationError, EngineDiedError, EngineError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings

OPTIONS = GenerationOptions(max_new_tokens=64)
GIB = 1 << 30


def settings(**changes):
    return EngineSettings(engine="vllm", **changes)


@pytest.fixture(scope="module")
def checkpoint():
    return resolve_checkpoint("builtin")


@pytest.fixture(scope="module")
def config(checkpoint):
    return AutoConfig.from_pretrained(str(checkpoint.folder))


# What it is told


def arguments(given, config, device="cpu", *, free=64 * GIB):
    return engine_arguments(
        given, device, folder="/models/qwen", config=config, length=4096, pixels=1 << 20, free=free
    )


def test_settings_become_arguments_of_vllms_own_names(config):
    told = arguments(settings(batch_size=7, seed=3), config)
    assert {
        "model": "/models/qwen",
        "dtype": "float32",
        "seed": 3,
        "max_num_seqs": 7,
        "max_model_len": 4096,
        "enable_prefix_caching": True,
        "enforce_eager": True,
        "tensor_parallel_size": 1,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "generation_config": "vllm",
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_cache_gb": 0.0,
        "mm_processor_kwargs": {"size": {"shortest_edge": 1, "longest_edge": 1 << 20}},
    }.items() <= told.items()
    assert "max_num_batched_tokens" not in told
    assert "structured_outputs_config" not in told


@pytest.mark.parametrize(
    ("changes", "device", "expected"),
    [
        ({"prefix_reuse": False}, "cpu", {"enable_prefix_caching": False}),
        ({"structured_output": True}, "cpu", {"structured_outputs_config": {"backend": "guidance"}}),
        ({"vllm_max_batched_tokens": 512}, "cpu", {"max_num_batched_tokens": 512}),
        ({"vllm_photo_cache_gib": 2.5}, "cpu", {"mm_processor_cache_gb": 2.5}),
        ({"batch_size": "auto"}, "cpu", {"max_num_seqs": 32}),
        ({"batch_size": "auto"}, "cuda:0", {"max_num_seqs": 128}),
        ({}, "cuda:0", {"dtype": "bfloat16", "enforce_eager": False}),
        ({"cuda_graphs": False}, "cuda:0", {"enforce_eager": True}),
        ({"vllm_memory_share": 0.5}, "cuda:0", {"gpu_memory_utilization": 0.5}),
        ({}, "cuda:2+0+1", {"tensor_parallel_size": 3}),
    ],
)
def test_a_setting_changes_its_argument(config, changes, device, expected):
    told = arguments(settings(devices=(device,), **changes), config, device)
    assert {name: told[name] for name in expected} == expected


def test_memory_for_keys_and_values_is_named_on_a_cpu_alone(config):
    assert "kv_cache_memory_bytes" in arguments(settings(), config)
    assert "kv_cache_memory_bytes" not in arguments(settings(devices=("cuda:0",)), config, "cuda:0")


def test_workers_on_one_host_share_its_free_memory(config):
    room = [
        arguments(settings(devices=devices, batch_size=64), config, free=GIB)["kv_cache_memory_bytes"]
        for devices in (("cpu",), ("cpu",) * 2, ("cpu",) * 4)
    ]
    assert room == [GIB // 2, GIB // 4, GIB // 8]


@pytest.mark.parametrize(
    ("free", "given"),
    [(100_000, 8 * 1000 + 1024), (10_000, 5000), (18_048, 8 * 1000 + 1024), (0, 1000 + 1024)],
)
def test_a_cpu_gives_half_its_free_memory_at_most_and_a_row_with_some_blocks_at_least(config, free, given):
    # 4 layers, 5 key heads of 32 numbers, keys and values, 4 bytes each.
    token = 4 * 5 * 32 * 2 * 4
    room = cpu_cache_bytes(config, rows=8, length=1000, item_bytes=4, free=free * token)
    assert room == given * token


def test_a_sequence_has_room_for_the_largest_photo_and_a_second_try():
    room = model_length(settings(max_new_tokens=1024), image_tokens=2048, longest=262_144)
    assert room == 2048 + 2 * 1024 + 4096
    assert model_length(settings(), image_tokens=2048, longest=4096) == 4096
    assert model_length(settings(vllm_max_model_len=900), image_tokens=2048, longest=4096) == 900


def test_greedy_answers_need_no_dice_and_sampled_ones_have_their_own():
    greedy = sampling_arguments(replace(OPTIONS, repetition_penalty=1.2), "a", [5, 7])
    assert greedy == {
        "max_tokens": 64,
        "temperature": 0.0,
        "repetition_penalty": 1.2,
        "stop_token_ids": [5, 7],
        "ignore_eos": True,
        "detokenize": False,
    }
    sampling = replace(OPTIONS, temperature=0.7, top_p=0.9)
    seeds = {
        sampling_arguments(replace(sampling, seed=seed), name, [5])["seed"]
        for seed in (1, 2)
        for name in ("a", "b")
    }
    assert len(seeds) == 4
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert sampling_arguments(sampling, "a", [5])["top_p"] == 0.9


# Where it starts


def test_nothing_is_told_to_anybody_and_nothing_fetched():
    told = environment("cpu", {})
    assert told["VLLM_NO_USAGE_STATS"] == told["DO_NOT_TRACK"] == told["HF_HUB_OFFLINE"] == "1"
    assert told["VLLM_HOST_IP"] == "127.0.0.1"
    assert told["VLLM_LOGGING_LEVEL"] == "ERROR"
    # Others in the process must not lead vLLM to compute there.
    inside = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    assert environment("cpu", inside)["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"
    assert environment("cpu", {"VLLM_LOGGING_LEVEL": "INFO"})["VLLM_LOGGING_LEVEL"] == "INFO"


@pytest.mark.parametrize(
    ("device", "seen", "given"),
    [
        ("cuda:0", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda:1", "4,6", "6"),
        ("cuda:0+1", "4,6", "4,6"),
        ("cuda:1+0", "GPU-a,GPU-b", "GPU-b,GPU-a"),
    ],
)
def test_a_worker_sees_its_own_devices_alone(device, seen, given):
    environ = {} if seen is None else {"CUDA_VISIBLE_DEVICES": seen}
    assert environment(device, environ)["CUDA_VISIBLE_DEVICES"] == given


def test_a_device_beyond_those_that_are_visible_is_an_error():
    with pytest.raises(ConfigurationError, match="device cuda:2 is not there: CUDA_VISIBLE_DEVICES is '4,6'"):
        environment("cuda:2", {"CUDA_VISIBLE_DEVICES": "4,6"})


def test_threads_are_pinned_only_where_nobody_has_said_how_many_there_are():
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment("cpu", {})
    one = {"OMP_NUM_THREADS": "1"}
    assert environment("cpu", one)["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    pinned = one | {"VLLM_CPU_OMP_THREADS_BIND": "0-3"}
    assert environment("cpu", pinned)["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment("cuda:0", one)


def test_the_environment_is_as_it_was_afterwards(monkeypatch):
    monkeypatch.setenv("ONE_OF_OURS", "before")
    monkeypatch.delenv("ANOTHER", raising=False)
    with set_for_a_while({"ONE_OF_OURS": "now", "ANOTHER": "new"}):
        assert (os.environ["ONE_OF_OURS"], os.environ["ANOTHER"]) == ("now", "new")
    assert os.environ["ONE_OF_OURS"] == "before"
    assert "ANOTHER" not in os.environ


def test_without_vllm_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(vllm_arguments, "DISTRIBUTIONS", ("no-such-distribution",))
    for use in (engine_hash, lambda given: load_engine(given, "cpu")):
        with pytest.raises(ConfigurationError, match=r"environment of its own: pip install .*\[vllm\]"):
            use(settings())


def test_answers_belong_to_the_release_of_vllm(monkeypatch):
    def hash_with(number, **changes):
        for module in ("stage_a_pipeline.engines", "stage_a_pipeline.engines.vllm_arguments"):
            monkeypatch.setattr(f"{module}.installed_version", lambda: number)
        return engine_hash(settings(**changes))

    assert hash_with("0.32.0") == hash_with("0.32.1")
    assert hash_with("0.32.0") != hash_with("0.33.0")
    assert hash_with("0.32.0") != hash_with("0.32.0", dtype="bfloat16")
    # What only says how it runs.
    changes = {"batch_size": 3, "vllm_memory_share": 0.5, "packed_weights": False, "prefix_reuse": False}
    assert hash_with("0.32.0") == hash_with("0.32.0", **changes)


# What it tells


@dataclass
class ScriptedVllm:
    """Answers each request with the tokens of its script, one a step, and ends it where vLLM would."""

    scripts: list[list[int]]
    stop_ids: list[int]
    capacity: int = 1000
    steps_until_death: int | None = None
    closed: int = 0
    submitted: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    _rows: dict[str, tuple[list[int], int, int]] = field(default_factory=dict)

    def submit(self, name, question, sampling, grammar):
        self.submitted.append(name)
        script = self.scripts[len(self.submitted) - 1]
        self._rows[name] = (list(script), sampling["max_tokens"], len(question.tokens))

    def step(self):
        if self.steps_until_death is not None:
            self.steps_until_death -= 1
            if self.steps_until_death < 0:
                raise EngineDiedError("vLLM's engine process ended")
        news = []
        for name, (script, left, prompt) in list(self._rows.items()):
            token = script.pop(0)
            ended = "stop" if token in self.stop_ids else "length" if left == 1 else None
            self._rows[name] = (script, left - 1, prompt)
            if ended is not None:
                del self._rows[name]
            news.append(News(name, [token], ended, prompt, cached=2))
        return news

    def abort(self, names):
        self.aborted += names
        for name in names:
            self._rows.pop(name, None)

    def close(self):
        self.closed += 1


@pytest.fixture
def scripted(checkpoint):
    """A function that makes an engine over scripts of texts, and its script."""

    def make(*texts, end="<|im_end|>", **changes):
        started = []

        def start(told, device):
            started.append(ScriptedVllm([], []))
            return started[0]

        engine = VllmEngine(checkpoint, settings(**changes), "cpu", start=start)
        tokenizer = engine._processor.tokenizer
        started[0].scripts = [tokenizer(text + end)["input_ids"] for text in texts]
        started[0].stop_ids = engine.stop_ids
        return engine, started[0]

    return make


def request(name, size=(224, 192)):
    return Request(name, Pillow.new("RGB", size), Prompt("系统", "请看"))


def test_answers_come_one_by_one_while_others_join(scripted):
    engine, _ = scripted("螺丝合格整齐", "有", "无标签")
    batch = engine.start_batch(2)
    assert batch.room == 2
    for name in ("a", "b"):
        batch.add(request(name), OPTIONS)
    (first,) = batch.step()
    assert (first.id, first.text, first.finish_reason) == ("b", "有", "stop")
    assert [asked.id for asked, _ in batch.open] == ["a"]
    assert batch.room == 1
    batch.add(request("c"), OPTIONS)
    texts = {}
    while batch.open:
        texts |= {completion.id: completion.text for completion in batch.step()}
    assert texts == {"a": "螺丝合格整齐", "c": "无标签"}


def test_a_completion_counts_its_prompt_and_its_answer_without_the_stop_token(scripted):
    engine, script = scripted("无关图片")
    (completion,) = engine.generate([request("a")], OPTIONS)
    assert completion.text == "无关图片"
    assert completion.generated_tokens == len(script.scripts[0]) - 1
    assert completion.prompt_tokens == len(engine._question(request("a")).tokens)


def test_a_cut_answer_is_said_to_be_cut(scripted):
    engine, _ = scripted("螺丝合格整齐螺丝合格整齐")
    (completion,) = engine.generate([request("a")], replace(OPTIONS, max_new_tokens=2))
    assert (completion.finish_reason, completion.generated_tokens) == ("length", 2)


def test_an_answer_that_goes_in_circles_is_aborted_and_the_rest_of_it_ignored(scripted):
    engine, script = scripted("整齐" * 300, "有")
    circling, short = engine.generate([request("a"), request("b")], replace(OPTIONS, max_new_tokens=500))
    assert (circling.finish_reason, circling.generated_tokens) == ("repetition", 256)
    assert script.aborted == [script.submitted[0]]
    assert short.text == "有"
    patient = replace(OPTIONS, max_new_tokens=300, repetition_stop=False)
    engine, script = scripted("整齐" * 300)
    assert engine.generate([request("a")], patient)[0].finish_reason == "length"
    assert script.aborted == []


def test_places_and_tokens_are_counted_as_the_steps_used_them(scripted):
    engine, script = scripted("有", "无标签")
    batch = engine.start_batch(4)
    for name in ("a", "b"):
        batch.add(request(name), OPTIONS)
    while batch.open:
        batch.step()
    short, long = (len(script.scripts[place]) for place in range(2))
    prompt = len(engine._question(request("a")).tokens)
    assert (batch.usage.places, batch.usage.steps) == (4 * (long - 1), long - 1)
    assert batch.usage.filled == (short - 1) + (long - 1)
    assert (batch.usage.tokens, batch.usage.padding) == (2 * (prompt - 2) + batch.usage.filled, 0)


def test_a_request_that_is_too_long_is_refused_and_its_neighbours_go_on(scripted):
    engine, script = scripted("螺丝合格整齐", "有", vllm_max_model_len=200)
    batch = engine.start_batch(4)
    for name in ("long", "short"):
        batch.add(request(name), OPTIONS)
    assert [completion.text for completion in batch.step()] == ["有"]
    batch.add(request("large", (1024, 1024)), OPTIONS)
    (refused,) = batch.step()
    assert (refused.id, refused.failure.reason) == ("large", "engine_error")
    assert re.match(r"large needs \d+ tokens.*started for 200.*vllm_max_model_len", refused.failure.detail)
    assert [asked.id for asked, _ in batch.open] == ["long"]
    assert [completion.text for completion in batch.step()] == ["螺丝合格整齐"]
    assert (script.submitted, script.aborted) == (["0", "1"], [])


def test_a_request_that_cannot_be_asked_leaves_nobody_behind(scripted):
    engine, script = scripted("螺丝合格整齐", "有", "无标签")
    batch = engine.start_batch(4)
    for name in ("long", "short"):
        batch.add(request(name), OPTIONS)
    batch.step()
    batch.add(replace(request("strange"), prompt=Prompt("系统", "请看<|image_pad|>")), OPTIONS)
    with pytest.raises(EngineError, match="the prompt has 2 places for a photo"):
        batch.step()
    assert [asked.id for asked, _ in batch.open] == ["long", "strange"]
    assert script.aborted == ["0"], "vLLM works for nobody any more"
    assert engine.generate([request("long")], OPTIONS)[0].text == "无标签"


def test_an_answer_that_vllm_ends_for_another_reason_is_an_error(scripted):
    engine, script = scripted("螺丝合格整齐")
    script.stop_ids = [script.scripts[0][2]]
    with pytest.raises(EngineError, match=r"ended the answer to a after 3 of 64 tokens \(stop\)"):
        engine.generate([request("a")], OPTIONS)


def test_a_dead_vllm_is_no_fault_of_the_photos(scripted):
    engine, script = scripted("螺丝合格整齐")
    script.steps_until_death = 2
    with pytest.raises(EngineDiedError):
        engine.generate([request("a")], OPTIONS)


@pytest.mark.parametrize(("capacity", "rows"), [(100_000, 5), (1000, 3), (1, 1)])
def test_as_many_rows_fit_as_vllm_has_memory_for(scripted, capacity, rows):
    engine, script = scripted(batch_size=5)
    script.capacity = capacity
    prompt = Prompt("系统", "请看")
    tokens = engine.text_tokens(prompt) + engine.most_image_tokens(1 << 20) + 200
    assert 250 <= tokens <= 333, "or the figures above show nothing"
    assert engine.fitting_rows([prompt], max_pixels=1 << 20, max_new_tokens=200) == rows


def test_closing_ends_vllm(scripted):
    engine, script = scripted()
    engine.close()
    assert script.closed == 1
