"""What the scheduler asks of an engine: photos in, one completion per photo out, in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from stage_a_pipeline.errors import EngineContractError, EngineError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.vocabulary import Dataset

if TYPE_CHECKING:
    from PIL.Image import Image

    from stage_a_pipeline.images import Pixels

FinishReason = Literal["stop", "length", "repetition"]
"""`stop`: the model ended its answer. `length`: the answer was cut at `max_new_tokens`. `repetition`: it was
cut since it said the same over and over."""


ENGINE_ERROR: Final = "engine_error"
"""Reason of a request that the engine could not answer, for whatever is told in the sentence."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """How one answer is generated. Temperature 0 decodes greedily; `seed` then has no effect.

    With `repetition_stop`, an answer that says the same over and over is cut long before its limit.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 42
    repetition_stop: bool = True

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """One photo to summarise, and the texts around it.

    With `grammar` the answer can only be a summary of that dataset.
    """

    id: str
    image: Pixels
    prompt: Prompt
    grammar: Dataset | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """The raw answer to the request of the same id. Token counts exclude padding."""

    id: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """Why there is no completion for a request: a short stable code for tables, and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What became of the request of the same id where others are not concerned."""

    id: str
    failure: EngineFailure


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence that people should see while a batch goes on."""

    sentence: str


@dataclass(frozen=True, slots=True)
class InputTrace:
    """What reached the model for one photo (`verify_inputs`): proof that no content was mixed up."""

    id: str
    rgb_sha256: str
    width: int
    height: int
    image_grid_thw: tuple[int, int, int]
    expected_image_tokens: int
    actual_image_tokens: int


@dataclass(slots=True)
class BatchUsage:
    """How well a batch was filled: places that its steps offered, and those that a request took.

    `tokens` went through the model, as prompts or one by one; `padding` of them belong to nobody.
    """

    steps: int = 0
    places: int = 0
    filled: int = 0
    tokens: int = 0
    padding: int = 0

    def add(self, *, places: int, filled: int) -> None:
        """Count one step."""
        self.steps += 1
        self.places += places
        self.filled += filled

    def compute(self, lengths: Sequence[int]) -> None:
        """Count rows of these lengths, in tokens, that were padded to the longest."""
        computed = len(lengths) * max(lengths)
        self.tokens += computed
        self.padding += computed - sum(lengths)


class RunningBatch(Protocol):
    """Requests under way together, each with its own options; ids are unique among the open ones.

    After an exception of `step` the batch is not to be used again: `open` tells what was under way.
    `usage` may be replaced at any time by one that counts from nothing.
    """

    usage: BatchUsage

    @property
    def room(self) -> int:
        """How many more requests should be added before the next step.

        An engine may report 0 although a place is free, to take several requests at once later; `add`
        still has room then.
        """

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """The requests that were added and not answered yet."""

    def add(self, request: Request, options: GenerationOptions) -> None:
        """Put a request under way, in a free place."""

    def step(self) -> Sequence[Completion | Unanswered | Notice]:
        """Work on the open requests until at least one has ended; the ended ones, in any order, and notices.

        An engine that waits for others may return nothing about every second. Raises as `Engine.generate`
        does, and EngineContractError.
        """


class Engine(Protocol):
    """A loaded model on one device.

    All is called from one thread, but `target_size` and `prepare`, which may be called from others.
    """

    @property
    def name(self) -> str:
        """The engine's setting, for logs."""

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """Width and height at which the model sees a photo of that size, so that it is resized once.

        Raises PhotoError for a shape that the model cannot take.
        """

    def prepare(self, image: Image) -> Pixels:
        """What can be computed of a photo ahead of asking, to take its place; on any thread.

        Raises EngineError.
        """

    def prompt_tokens(self, request: Request) -> int:
        """Tokens of the request's prompt, those of its photo included."""

    def fitting_rows(self, prompts: Collection[Prompt], *, max_pixels: int, max_new_tokens: int) -> int:
        """How many requests at once, each of these sizes at most, the device's free memory has room for.

        At least 1, and no more than speed anything up. Raises as `generate` does.
        """

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """One completion per request, same order, same ids.

        Raises EngineOutOfMemoryError when fewer requests at once may succeed, and EngineError when
        the batch failed for another reason; both leave the engine usable.
        """

    def start_batch(self, rows: int) -> RunningBatch:
        """An empty batch of at most `rows` requests at once; it holds nothing until it is stepped."""

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """What `generate` would hand to the model for these requests; EngineError on a mismatch."""

    def close(self) -> None:
        """Free the device. Safe to call twice."""


def answer_all(
    start_batch: Callable[[int], RunningBatch], requests: Sequence[Request], options: GenerationOptions
) -> list[Completion]:
    """The answers to all requests in one running batch, in their order.

    Raises as its `step` does, and EngineError for one that has none, once all have ended.
    """
    if not requests:
        return []
    batch = start_batch(len(requests))
    for request in requests:
        batch.add(request, options)
    done: dict[str, Completion] = {}
    failures: list[EngineFailure] = []
    while batch.open:
        for ended in batch.step():
            if isinstance(ended, Completion):
                done[ended.id] = ended
            elif isinstance(ended, Unanswered):
                failures.append(ended.failure)
    if failures:
        raise EngineError(failures[0].detail)
    return [done[request.id] for request in requests]


def check_answers(requests: Sequence[Request], completions: Sequence[Completion]) -> None:
    """Raise EngineContractError unless every request is answered, in order: none is paired by guessing."""
    asked = [request.id for request in requests]
    answered = [completion.id for completion in completions]
    if asked != answered:
        place = next((i for i, (a, b) in enumerate(zip(asked, answered, strict=False)) if a != b), None)
        what = (
            f"{len(answered)} answers to {len(asked)} requests"
            if place is None
            else f"an answer to {answered[place]!r} where {asked[place]!r} was asked"
        )
        raise EngineContractError(f"the engine broke its contract: {what}; nothing of this batch is kept")
