"""Rendered photos, and the static engine's answer to each alone, over weights as transformers loads them:
what every other way must repeat."""

from random import Random

import pytest

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import build_prompt
from stage_a_pipeline.settings import EngineSettings

OPTIONS = GenerationOptions(max_new_tokens=48, repetition_penalty=1.05)
SIZES = [(256, 192), (192, 256), (224, 224), (224, 192), (320, 160), (160, 320), (96, 96), (512, 64)]


@pytest.fixture(scope="package")
def static_engine():
    settings = EngineSettings(packed_weights=False)
    engine = TransformersEngine(resolve_checkpoint("builtin"), settings, "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="package")
def requests(static_engine):
    """Rendered scenes: the checkpoint calls anything else irrelevant, which would be one answer for all."""
    missions = list(load_missions().values())
    requests = []
    for number, size in enumerate(SIZES * 2):
        mission = missions[number % len(missions)]
        image = draw_scene(
            compose_scene(Random(number), mission), static_engine.target_size(*size, max_pixels=10**6)
        )
        requests.append(Request(f"r{number}", image, build_prompt(mission)))
    return requests


@pytest.fixture(scope="package")
def singles(static_engine, requests):
    return [static_engine.generate([request], OPTIONS)[0] for request in requests]
