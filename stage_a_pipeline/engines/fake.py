"""An engine without a model: answers from the pixels, deterministic, with faults on demand.

For tests and dry runs. Faults come from a TOML file (setting `engine.fake_faults`):

    seconds_per_batch = 0.01      # what a call costs, on top of seconds_per_photo each
    max_batch = 8                 # more photos at once are "out of memory"
    refill = true                 # short answers end first, and others take their places
    asked_file = "asked.txt"      # gets the id of every photo that is asked, before it is answered

    [[fault]]
    match = "*/IMG_3.jpg"         # glob on the request id, "<group id>/<image name>#<place>"
    kind = "error"                # one of FAULT_KINDS
    times = 1                     # how often it strikes; 0 is always
"""

from __future__ import annotations

import fnmatch
import json
import os
import random
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast, get_args

from stage_a_pipeline.engines.base import (
    BatchUsage,
    Completion,
    GenerationOptions,
    InputTrace,
    Request,
    RunningBatch,
)
from stage_a_pipeline.engines.static_batch import Generate, StaticBatch
from stage_a_pipeline.errors import ConfigurationError, EngineError, EngineOutOfMemoryError
from stage_a_pipeline.images import Pixels, rgb_sha256
from stage_a_pipeline.photo_sizes import fit_pixels
from stage_a_pipeline.toml_file import read_toml
from stage_a_pipeline.vocabulary import CATEGORY, IRRELEVANT, STATISTICS, VOCABULARY, Category

if TYPE_CHECKING:
    from PIL.Image import Image

    from stage_a_pipeline.prompts import Prompt

FaultKind = Literal[
    "error",
    "out_of_memory",
    "kill",
    "hang",
    "empty",
    "truncated",
    "repetition",
    "invalid",
    "too_few",
    "too_many",
    "reordered",
]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
_FACTOR = 32
_MIN_PIXELS = 4096
_NUMBERS = ("seconds_per_batch", "seconds_per_photo", "max_batch")
_FLAGS = ("refill",)
_FILES = ("asked_file",)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong for requests whose id matches the glob; `times` 0 is every time."""

    match: str
    kind: FaultKind
    times: int = 0


@dataclass(frozen=True, slots=True)
class FakeBehaviour:
    """How the fake engine behaves: its cost per call and photo, its memory, its batches, its faults.

    `asked_file` shows what work was done, and done twice, by engines in several processes.
    """

    seconds_per_batch: float = 0.0
    seconds_per_photo: float = 0.0
    max_batch: int | None = None
    refill: bool = False
    asked_file: Path | None = None
    faults: tuple[Fault, ...] = ()


class FakeEngine:
    """Answers each photo with a canonical summary drawn from its pixels alone."""

    name = "fake"

    def __init__(self, behaviour: FakeBehaviour | None = None) -> None:
        self._behaviour = behaviour or FakeBehaviour()
        self._strikes = [0] * len(self._behaviour.faults)
        self.batch_sizes: list[int] = []

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine."""
        largest = max(_MIN_PIXELS, max_pixels)
        return fit_pixels(width, height, factor=_FACTOR, min_pixels=_MIN_PIXELS, max_pixels=largest)

    def prepare(self, image: Image) -> Pixels:
        """See Engine."""
        return image

    def prompt_tokens(self, request: Request) -> int:
        """See Engine."""
        pixels = prod(request.image.size)
        return len(request.prompt.system) + len(request.prompt.user) + pixels // _FACTOR**2

    def fitting_rows(
        self,
        prompts: Collection[Prompt],  # noqa: ARG002
        *,
        max_pixels: int,  # noqa: ARG002
        max_new_tokens: int,  # noqa: ARG002
    ) -> int:
        """See Engine."""
        return self._behaviour.max_batch or 32

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        behaviour = self._behaviour
        self.batch_sizes.append(len(requests))
        if behaviour.asked_file is not None:
            with behaviour.asked_file.open("a", encoding="utf-8") as file:
                file.write("".join(f"{request.id}\n" for request in requests))
        time.sleep(behaviour.seconds_per_batch + behaviour.seconds_per_photo * len(requests))
        if behaviour.max_batch is not None and len(requests) > behaviour.max_batch:
            raise EngineOutOfMemoryError(f"{len(requests)} photos at once; {behaviour.max_batch} have room")
        struck = {request.id: kind for request in requests if (kind := self._strike(request.id))}
        for request_id, kind in struck.items():
            if kind in _BATCH_FAULTS:
                _BATCH_FAULTS[kind](request_id)
        completions = [self._complete(request, options, struck.get(request.id)) for request in requests]
        if "too_few" in struck.values():
            return completions[:-1]
        if "too_many" in struck.values():
            return [*completions, completions[0]]
        return completions[::-1] if "reordered" in struck.values() else completions

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return (
            _RefillBatch(self.generate, rows) if self._behaviour.refill else StaticBatch(self.generate, rows)
        )

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        return [_trace(request) for request in requests]

    def close(self) -> None:
        """See Engine."""

    def _strike(self, request_id: str) -> FaultKind | None:
        for index, fault in enumerate(self._behaviour.faults):
            if fnmatch.fnmatchcase(request_id, fault.match):
                self._strikes[index] += 1
                if fault.times == 0 or self._strikes[index] <= fault.times:
                    return fault.kind
        return None

    def _complete(self, request: Request, options: GenerationOptions, kind: FaultKind | None) -> Completion:
        seed = rgb_sha256(request.image)
        if not options.greedy:
            seed += f"/{options.seed}"
        text = _spoiled(_summary(seed), kind)
        return Completion(
            id=request.id,
            text=text,
            finish_reason="length" if kind == "truncated" else "stop",
            prompt_tokens=len(request.prompt.system) + len(request.prompt.user),
            generated_tokens=options.max_new_tokens if kind == "truncated" else len(text),
        )


class _RefillBatch:
    """Answers newcomers together, and keeps each answer back for as many steps as it has tokens."""

    def __init__(self, generate: Generate, rows: int) -> None:
        self.usage = BatchUsage()
        self._rows = rows
        self._newcomers = StaticBatch(generate, rows)
        self._steps = 0
        self._answered: list[_Answered] = []

    @property
    def room(self) -> int:
        """See RunningBatch."""
        return self._rows - len(self.open)

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return [*(answered.asked for answered in self._answered), *self._newcomers.open]

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        assert self.room > 0
        self._newcomers.add(request, options)

    def step(self) -> list[Completion]:
        """See RunningBatch."""
        while asked := {request.id: (request, options) for request, options in self._newcomers.open}:
            self._answered += (
                _Answered(asked[completion.id], completion, self._steps + completion.generated_tokens)
                for completion in self._newcomers.step()
            )
        steps = min(answered.leaves_at for answered in self._answered)
        for _ in range(steps - self._steps):
            self.usage.add(places=self._rows, filled=len(self._answered))
            self.usage.compute([1] * len(self._answered))
        self._steps = steps
        ended = [answered.completion for answered in self._answered if answered.leaves_at <= steps]
        self._answered = [answered for answered in self._answered if answered.leaves_at > steps]
        return ended


@dataclass(frozen=True, slots=True)
class _Answered:
    asked: tuple[Request, GenerationOptions]
    completion: Completion
    leaves_at: int


def load_behaviour(path: Path | None) -> FakeBehaviour:
    """The behaviour of a TOML file; ConfigurationError names the file, the key and what is known."""
    if path is None:
        return FakeBehaviour()
    document = read_toml(path, what="fake_faults file", remedy="correct engine.fake_faults or unset it")
    rows = document.pop("fault", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigurationError(f"{path}: 'fault' must be a list of tables, written [[fault]]")
    _refuse_unknown(document, (*_NUMBERS, *_FLAGS, *_FILES), path)
    for key, value in document.items():
        if key in _FILES:
            if not isinstance(value, str):
                raise ConfigurationError(f"{path}: {key} must be a path, not {value!r}")
            document[key] = path.parent / value
            continue
        if key in _FLAGS:
            if not isinstance(value, bool):
                raise ConfigurationError(f"{path}: {key} must be true or false, not {value!r}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigurationError(f"{path}: {key} must be a number from 0, not {value!r}")
    return FakeBehaviour(**document, faults=tuple(_fault(row, path) for row in rows))


def _fault(row: Mapping[str, object], path: Path) -> Fault:
    _refuse_unknown(row, ("match", "kind", "times"), path)
    if row.get("kind") not in FAULT_KINDS:
        raise ConfigurationError(
            f"{path}: fault kind must be one of {', '.join(FAULT_KINDS)}, not {row.get('kind')!r}"
        )
    times = row.get("times", 0)
    if not isinstance(times, int) or times < 0:
        raise ConfigurationError(f"{path}: fault times must be a number from 0, not {times!r}")
    return Fault(match=str(row.get("match", "*")), kind=cast("FaultKind", row["kind"]), times=times)


def _refuse_unknown(row: Mapping[str, object], known: Sequence[str], path: Path) -> None:
    for key in row:
        if key not in known:
            raise ConfigurationError(f"{path}: unknown key {key!r}; known: {', '.join(known)}")


def _fail(request_id: str) -> None:
    raise EngineError(f"the fake engine fails on {request_id}, as told")


def _run_out_of_memory(request_id: str) -> None:
    raise EngineOutOfMemoryError(f"the fake engine has no room for {request_id}, as told")


def _kill(_request_id: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(_request_id: str) -> None:
    time.sleep(3600)


_BATCH_FAULTS: Final[Mapping[str, Callable[[str], None]]] = {
    "error": _fail,
    "out_of_memory": _run_out_of_memory,
    "kill": _kill,
    "hang": _hang,
}


def _spoiled(text: str, kind: FaultKind | None) -> str:
    match kind:
        case "empty":
            return " "
        case "truncated":
            return text[: len(text) // 2]
        case "repetition":
            return '{"统计": [' + '{"类别": "电线"}, ' * 200
        case "invalid":
            return '{"统计": [{"类别": "电线", "捆扎": {"整齐": NaN}}]}'
        case _:
            return text


def _summary(seed: str) -> str:
    rng = random.Random(seed)
    if rng.random() < 0.05:
        return IRRELEVANT
    categories = VOCABULARY[rng.choice(("bbu", "rru"))]
    chosen = sorted(rng.sample(range(len(categories)), rng.randint(1, 3)))
    entries = [_entry(categories[index], rng) for index in chosen]
    return json.dumps({STATISTICS: entries}, ensure_ascii=False)


def _entry(category: Category, rng: random.Random) -> dict[str, object]:
    counts = {
        attribute.name: {rng.choice(attribute.values): rng.randint(1, 3)}
        for attribute in category.attributes
        if attribute.values
    }
    return {CATEGORY: category.name, **counts}


def _trace(request: Request) -> InputTrace:
    width, height = request.image.size
    grid = (1, height // 16, width // 16)
    tokens = width * height // (_FACTOR * _FACTOR)
    return InputTrace(request.id, rgb_sha256(request.image), width, height, grid, tokens, tokens)
