"""Engines behind one protocol, and the loader that turns settings into one."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from importlib.util import find_spec

from stage_a_pipeline.engines.base import Completion, Engine, GenerationOptions, InputTrace, Request
from stage_a_pipeline.engines.summary_grammar import grammar_version
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
    _require_llguidance(settings)
    from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
    from stage_a_pipeline.engines.refill import RefillEngine
    from stage_a_pipeline.engines.transformers import TransformersEngine

    checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
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


def _require_llguidance(settings: EngineSettings) -> None:
    if settings.structured_output and find_spec("llguidance") is None:
        raise ConfigurationError(
            "engine.structured_output needs llguidance, which is not installed: "
            "pip install stage-a-pipeline[grammar], or set it to false"
        )


def _release(package: str) -> str:
    """Major and minor version: what may change a model's arithmetic, and its tokenizer's pieces."""
    return ".".join(version(package).split(".")[:2])


def engine_hash(settings: EngineSettings) -> str:
    """SHA-256 over what shapes answers apart from prompt and photo: model content and generation.

    Raises CheckpointError for a checkpoint that cannot be used, and ConfigurationError where structured
    output lacks its library, before any model is loaded.
    """
    shaping: dict[str, object] = {"engine": settings.engine}
    if settings.engine != "fake":
        from stage_a_pipeline.engines.checkpoint import resolve_checkpoint

        _require_llguidance(settings)
        if settings.structured_output:
            shaping["structured_output"] = grammar_version()
        checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
        shaping["checkpoint"] = checkpoint.content_hash()
        shaping["versions"] = {name: _release(name) for name in ("torch", "transformers")}
        shaping["attn_implementation"] = settings.attn_implementation
        shaping["packed_weights"] = settings.packed_weights
        shaping["dtype"] = sorted({settings.dtype_on(device) for device in settings.devices})
    shaping["max_new_tokens"] = settings.max_new_tokens
    shaping["repetition_penalty"] = settings.repetition_penalty
    if settings.temperature > 0:
        shaping.update(temperature=settings.temperature, top_p=settings.top_p, seed=settings.seed)
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()
