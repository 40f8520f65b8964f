"""Engines behind one protocol, and the loader that turns settings into one."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from importlib.util import find_spec

from stage_a_pipeline.engines.base import Completion, Engine, GenerationOptions, InputTrace, Request
from stage_a_pipeline.engines.summary_grammar import grammar_version
from stage_a_pipeline.engines.summary_schema import schema_version
from stage_a_pipeline.engines.vllm_arguments import installed_version
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings import EngineSettings

__all__ = [
    "Completion",
    "Engine",
    "GenerationOptions",
    "InputTrace",
    "Request",
    "engine_hash",
    "generation_options",
    "load_engine",
]


def load_engine(settings: EngineSettings, device: str) -> Engine:
    """The engine of the settings, its model loaded onto `device`. Raises ConfigurationError."""
    if settings.engine == "fake":
        from stage_a_pipeline.engines.fake import FakeEngine, load_behaviour

        return FakeEngine(load_behaviour(settings.fake_faults))
    if settings.engine == "openai":
        from stage_a_pipeline.engines.openai import OpenAIEngine

        return OpenAIEngine(settings)
    _require_libraries(settings)
    from stage_a_pipeline.engines.checkpoint import resolve_checkpoint

    checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
    if settings.engine == "vllm":
        from stage_a_pipeline.engines.vllm import VllmEngine

        return VllmEngine(checkpoint, settings, device)
    from stage_a_pipeline.engines.refill import RefillEngine
    from stage_a_pipeline.engines.transformers import TransformersEngine

    engine_class = RefillEngine if settings.engine == "refill" else TransformersEngine
    return engine_class(checkpoint, settings, device)


def generation_options(settings: EngineSettings) -> GenerationOptions:
    """How the settings say an answer is generated."""
    return GenerationOptions(
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        repetition_penalty=settings.repetition_penalty,
        seed=settings.seed,
    )


def _require_libraries(settings: EngineSettings) -> None:
    if settings.engine == "vllm":
        installed_version()
    if settings.structured_output and find_spec("llguidance") is None:
        raise ConfigurationError(
            "engine.structured_output needs llguidance, which is not installed: "
            "pip install '.[grammar]' in the project's folder, or set it to false"
        )


def _release(package_version: str) -> str:
    """Major and minor version: what may change a model's arithmetic, and its tokenizer's pieces."""
    return ".".join(package_version.split(".")[:2])


def engine_hash(settings: EngineSettings) -> str:
    """SHA-256 over what shapes answers apart from prompt and photo: model content and generation.

    Raises CheckpointError for a checkpoint that cannot be used, and ConfigurationError where structured
    output lacks its library, before any model is loaded.
    """
    shaping: dict[str, object] = {"engine": settings.engine}
    if settings.engine == "openai":
        shaping["model"] = [settings.server_model, settings.server_revision]
        shaping["dialect"] = settings.server_dialect
        shaping["min_pixels"] = settings.server_min_pixels
        if settings.structured_output:
            shaping["structured_output"] = schema_version()
    elif settings.engine != "fake":
        from stage_a_pipeline.engines.checkpoint import resolve_checkpoint

        _require_libraries(settings)
        if settings.structured_output:
            shaping["structured_output"] = grammar_version()
        checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
        shaping["checkpoint"] = checkpoint.content_hash()
        versions = {name: version(name) for name in ("torch", "transformers")}
        if settings.engine == "vllm":
            versions["vllm"] = installed_version()
        else:
            shaping["attn_implementation"] = settings.attn_implementation
            shaping["packed_weights"] = settings.packed_weights
        shaping["versions"] = {name: _release(number) for name, number in versions.items()}
        shaping["dtype"] = sorted({settings.dtype_on(device) for device in settings.devices})
    shaping["max_new_tokens"] = settings.max_new_tokens
    shaping["repetition_penalty"] = settings.repetition_penalty
    if settings.temperature > 0:
        shaping.update(temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed)
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
