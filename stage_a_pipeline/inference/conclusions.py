"""What is said of a photo in the end: a summary, or a rejection with its reason."""

from __future__ import annotations

from dataclasses import replace

from stage_a_pipeline.engines.base import EngineFailure
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.inference.asking import answer_defect, request_id
from stage_a_pipeline.inference.in_flight import Result
from stage_a_pipeline.inference.journal import Answer
from stage_a_pipeline.records import ImageRef, Outcome, Rejection, Summary


def summary(ref: ImageRef, content_sha256: str, answer: Answer, *, reused: bool) -> Summary:
    """The outcome of a photo that has a usable answer."""
    return Summary(
        ref=ref,
        content_sha256=content_sha256,
        raw_text=answer.raw_text,
        finish_reason=answer.finish_reason,
        prompt_tokens=answer.prompt_tokens,
        generated_tokens=answer.generated_tokens,
        attempts=answer.attempts,
        reused=reused,
    )


def unreadable(ref: ImageRef, error: PhotoError, sha256: str | None) -> Rejection:
    """The outcome of a photo that cannot be read or decoded."""
    return Rejection(ref, "read", error.reason, str(error), content_sha256=sha256, attempts=0)


def crashed(ref: ImageRef, sha256: str, crashes: int) -> Rejection:
    """The outcome of a photo over which so many processes died."""
    detail = (
        f"{request_id(ref)}: a worker process died {crashes} times over this photo; it is left out until "
        "the settings, the checkpoint or the photo change"
    )
    return Rejection(ref, "summarise", "crashed", detail, content_sha256=sha256, attempts=crashes)


def unusable(ref: ImageRef, content_sha256: str, result: Result) -> Rejection | None:
    """Why the result cannot stand as a summary; None when it can."""
    name, answer, raw_text = request_id(ref), result.answer, None
    if isinstance(answer, EngineFailure):
        reason, detail = answer.reason, f"{name}: {answer.detail}"
    else:
        defect = answer_defect(answer)
        if defect is None:
            return None
        reason, raw_text = defect, answer.text
        detail = (
            f"{name}: the answer is {reason} after {result.attempts} attempts "
            f"({answer.generated_tokens} tokens); its raw text stands in the rejected lines"
        )
    return Rejection(
        ref,
        "summarise",
        reason,
        detail,
        raw_text=raw_text,
        content_sha256=content_sha256,
        attempts=result.attempts,
    )


def answer_of(result: Result) -> Answer:
    """What the journal keeps of a usable result."""
    assert not isinstance(result.answer, EngineFailure)
    return Answer(
        raw_text=result.answer.text,
        finish_reason=result.answer.finish_reason,
        prompt_tokens=result.answer.prompt_tokens,
        generated_tokens=result.answer.generated_tokens,
        attempts=result.attempts,
    )


def same_for(twin: ImageRef, outcome: Outcome) -> Outcome:
    """The outcome of a photo with the same bytes, asked once for both."""
    if isinstance(outcome, Summary):
        return replace(outcome, ref=twin, reused=True)
    return replace(outcome, ref=twin)
