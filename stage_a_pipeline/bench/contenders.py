"""The engines that are compared: plain `generate` loops, and ours with one thing changed at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, Literal

from stage_a_pipeline.bench.shapes import Shape
from stage_a_pipeline.engines.vllm_arguments import installed_version
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings_layers import suggestion

Batches = Literal["one by one", "per group", "static", "static, sorted"]
"""How a plain loop makes its batches."""

REFERENCE: Final = "one by one"
"""The engine whose answers those of all others are held against."""
ENDPOINT: Final = "endpoint"


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the comparison.

    Either a plain loop over `batches`, or the pipeline's own path with these `settings`, by section. Where
    `other_answers` gives a reason, answers may differ from those of the reference.
    """

    name: str
    batches: Batches | None = None
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    static_on_slots: bool = False
    other_answers: str | None = None


def _engine(**settings: object) -> Mapping[str, Mapping[str, object]]:
    return {"engine": settings}


_ALL: Final = (
    Contender("one by one", "one by one"),
    Contender("per group", "per group"),
    Contender("static", "static"),
    Contender("static, sorted", "static, sorted"),
    Contender("static on slots", settings=_engine(prefix_reuse=False), static_on_slots=True),
    Contender("static on slots + prefix", static_on_slots=True),
    Contender("refill", settings=_engine(prefix_reuse=False)),
    Contender("refill + prefix"),
    Contender(
        "refill + prefix, fast decode",
        settings={"inference": {"decode": "fast"}},
        other_answers="large photos get other pixels",
    ),
    Contender(
        "refill + prefix, grammar",
        settings=_engine(structured_output=True),
        other_answers="only valid summaries can be written",
    ),
    Contender("vllm", settings=_engine(engine="vllm"), other_answers="vLLM has kernels of its own"),
)
CONTENDERS: Final[Mapping[str, Contender]] = {contender.name: contender for contender in _ALL}


def choose(names: tuple[str, ...], shape: Shape) -> tuple[list[Contender], dict[str, str]]:
    """The engines of these names, all when there are none; and why others of them are left out.

    Raises ConfigurationError for a name that is none.
    """
    for name in names:
        if name not in CONTENDERS:
            raise ConfigurationError(
                f"there is no engine {name!r} to compare; {suggestion(name, list(CONTENDERS))}"
            )
    asked = [contender for contender in _ALL if not names or contender.name in names]
    left_out = {
        contender.name: reason for contender in asked if (reason := _hindrance(contender, shape)) is not None
    }
    return [contender for contender in asked if contender.name not in left_out], left_out


def _hindrance(contender: Contender, shape: Shape) -> str | None:
    engine = contender.settings.get("engine", {})
    if engine.get("engine") == "vllm":
        return _without_vllm()
    if engine.get("structured_output"):
        if shape.forced:
            return "answers of forced length fit no grammar; it is measured with --shape builtin"
        if find_spec("llguidance") is None:
            return "llguidance is not installed: pip install '.[grammar]' in the project's folder"
    return None


def _without_vllm() -> str | None:
    try:
        installed_version()
    except ConfigurationError as error:
        return str(error)
    return None
