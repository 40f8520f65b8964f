"""Stage-B's verdicts on groups, from true summaries and from the checkpoint's own answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_model, load_processor, usable_device
from stage_a_pipeline.engines.qwen3vl import STOP_TOKENS
from stage_a_pipeline.errors import ConfigurationError, EngineOutOfMemoryError, RecordError
from stage_a_pipeline.evaluation.scores import Reading
from stage_a_pipeline.evaluation.truth import MissionTruth, Truth
from stage_a_pipeline.inference.metrics import Progress, ProgressListener, ShardMetrics
from stage_a_pipeline.places import Place
from stage_a_pipeline.prompts import Prompt, verdict_prompt
from stage_a_pipeline.records import Label
from stage_a_pipeline.settings import EngineSettings
from stage_a_pipeline.stage_b.answer import read_verdict

MAX_NEW_TOKENS: Final = 128
_ROWS: Final = 32
"""Chats together where the settings leave that to the engine: texts of equal size, without photos."""


TextAnswers = Callable[[Sequence[Prompt]], list[str]]
"""One answer per prompt of text alone."""


@dataclass(frozen=True, slots=True)
class TicketTruth:
    """A group whose photos all have a truth: its verdict, and its prompts.

    `from_answers` is None where a photo was rejected: such a group never reaches Stage-B.
    """

    mission: str
    verdict: Label
    from_truth: Prompt
    from_answers: Prompt | None


@dataclass(frozen=True, slots=True)
class VerdictScores:
    """Shares over groups. `format` is over all answers, from the truth and from answers alike."""

    groups: int
    format: float | None
    accuracy_from_truth: float | None
    accuracy_from_answers: float | None


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The scores over all groups, and those of each mission that has any."""

    total: VerdictScores
    per_mission: Mapping[str, VerdictScores]

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON data."""
        missions = {name: asdict(scores) for name, scores in self.per_mission.items()}
        return {**asdict(self.total), "per_mission": missions}


def list_tickets(truth: MissionTruth, readings: Sequence[Reading], *, source: Place) -> list[TicketTruth]:
    """The mission's groups whose photos all have a truth.

    RecordError when lines of one group, of the sidecar `source`, disagree about its verdict.
    """
    by_path = {reading.path: reading for reading in readings}
    tickets = []
    for index, group in enumerate(truth.groups):
        places = [(index, image) for image in range(1, len(group.images) + 1)]
        truths = [truth.truths[place] for place in places if place in truth.truths]
        if len(truths) < len(places):
            continue
        photos = [by_path[known.path] for known in truths]
        complete = all(photo.rejected is None for photo in photos)
        tickets.append(
            TicketTruth(
                mission=truth.mission.name,
                verdict=_agreed_verdict(truths, source) or group.label,
                from_truth=verdict_prompt(truth.mission, [photo.truth for photo in photos]),
                from_answers=verdict_prompt(truth.mission, [photo.answer for photo in photos])
                if complete
                else None,
            )
        )
    return tickets


def score_verdicts(tickets: Sequence[TicketTruth], answer: TextAnswers) -> Verdicts:
    """The verdicts' scores, in total and per mission. `answer` is called once, with each prompt once."""
    prompts = [prompt for one in tickets for prompt in (one.from_truth, one.from_answers) if prompt]
    asked = list(dict.fromkeys(prompts))
    verdicts = {
        prompt: read_verdict(text) for prompt, text in zip(asked, answer(asked) if asked else [], strict=True)
    }
    missions = sorted({ticket.mission for ticket in tickets})
    per_mission = {
        name: _score([ticket for ticket in tickets if ticket.mission == name], verdicts) for name in missions
    }
    return Verdicts(_score(tickets, verdicts), per_mission)


def require_model(settings: EngineSettings) -> None:
    """ConfigurationError for an engine that has no model to write verdicts."""
    if settings.engine == "fake":
        raise ConfigurationError(
            "verdicts need a checkpoint, and engine 'fake' has none; leave out --verdicts, or set "
            "engine.engine to refill"
        )


def text_answers(settings: EngineSettings, *, progress: ProgressListener | None = None) -> TextAnswers:
    """Greedy answers of the settings' checkpoint on its first device; the model is loaded when asked.

    Raises CheckpointError for a checkpoint or device that cannot be used.
    """

    def answer(prompts: Sequence[Prompt]) -> list[str]:
        import torch

        checkpoint = resolve_checkpoint(settings.checkpoint, adapter=settings.adapter)
        device = usable_device(settings.devices[0].partition("+")[0])
        dtype = getattr(torch, settings.dtype_on(settings.devices[0]))
        tokenizer = load_processor(checkpoint).tokenizer
        model = load_model(checkpoint, settings, device, dtype)
        chats = [_chat(tokenizer, prompt) for prompt in prompts]
        generate = partial(_generate, model, tokenizer)
        rows = _ROWS if settings.batch_size == "auto" else settings.batch_size
        return answer_in_batches(chats, generate, batch_size=rows, progress=progress)

    return answer


def answer_in_batches(
    chats: Sequence[list[int]],
    generate: Callable[[Sequence[list[int]]], list[str]],
    *,
    batch_size: int,
    progress: ProgressListener | None = None,
) -> list[str]:
    """The answers to chats of tokens, in their order, whatever the batches.

    A batch that has no room is asked again in halves, and later ones are no larger. Raises
    EngineOutOfMemoryError when a single chat has none.
    """
    # The longest first: one that has no room shows at once, and rows of a batch are about as long.
    waiting = sorted(range(len(chats)), key=lambda place: -len(chats[place]))
    answers, started = [""] * len(chats), time.monotonic()
    while waiting:
        batch = waiting[:batch_size]
        try:
            texts = generate([chats[place] for place in batch])
        except EngineOutOfMemoryError:
            if len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            continue
        for place, text in zip(batch, texts, strict=True):
            answers[place] = text
        waiting = waiting[len(batch) :]
        if progress is not None:
            done, seconds = len(chats) - len(waiting), time.monotonic() - started
            progress(Progress(len(chats), ShardMetrics(photos=done, seconds=seconds)))
    return answers


def _score(tickets: Sequence[TicketTruth], verdicts: Mapping[Prompt, Label | None]) -> VerdictScores:
    from_truth = [verdicts[ticket.from_truth] for ticket in tickets]
    # A group that never reaches Stage-B has no verdict, and that is not the true one.
    asked = [ticket.from_answers for ticket in tickets]
    from_answers = [None if prompt is None else verdicts[prompt] for prompt in asked]
    written = from_truth + [verdicts[prompt] for prompt in asked if prompt is not None]
    true = [ticket.verdict for ticket in tickets]
    return VerdictScores(
        groups=len(tickets),
        format=_share([verdict is not None for verdict in written]),
        accuracy_from_truth=_share([a == b for a, b in zip(from_truth, true, strict=True)]),
        accuracy_from_answers=_share([a == b for a, b in zip(from_answers, true, strict=True)]),
    )


def _agreed_verdict(truths: Sequence[Truth], source: Place) -> Label | None:
    """What the sidecar says of the group: its verdict, else its label; None where it says neither."""
    for name in ("verdict", "label"):
        said = [(truth, getattr(truth, name)) for truth in truths if getattr(truth, name) is not None]
        for truth, value in said:
            if value != said[0][1]:
                raise RecordError(
                    name,
                    f"{value!r} of {truth.path} contradicts {said[0][1]!r} of the same group on line "
                    f"{said[0][0].line}; a group has one",
                    line=truth.line,
                    source=str(source),
                )
        if said:
            verdict: Label = said[0][1]
            return verdict
    return None


def _chat(tokenizer: Any, prompt: Prompt) -> list[int]:
    messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    tokens: list[int] = tokenizer(text)["input_ids"]
    return tokens


def _generate(model: Any, tokenizer: Any, chats: Sequence[list[int]]) -> list[str]:
    import torch

    inputs = tokenizer.pad({"input_ids": list(chats)}, padding_side="left", return_tensors="pt").to(
        model.device
    )
    try:
        with torch.inference_mode():
            rows = model.generate(**inputs, **_greedy(tokenizer))
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise EngineOutOfMemoryError(
            f"the device has no room for {len(chats)} verdicts at once: {error}; choose a larger device"
        ) from error
    new = rows[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def _greedy(tokenizer: Any) -> dict[str, Any]:
    known = tokenizer.get_vocab()
    return {
        "max_new_tokens": MAX_NEW_TOKENS,
        "do_sample": False,
        # A checkpoint's generation_config often samples; its values would only cause warnings.
        "temperature": None,
        "top_p": None,
        "top_k": None,
        "repetition_penalty": 1.0,
        "eos_token_id": [known[token] for token in STOP_TOKENS if token in known],
        "pad_token_id": tokenizer.pad_token_id,
    }


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None
