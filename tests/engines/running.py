"""Running batches, and what holds for those of every engine."""

from stage_a_pipeline.engines.base import GenerationOptions
from tests.engines.conftest import OPTIONS


def run(engine, requests, *, rows, options=None):
    """Completions by id, and the batch, each request joining as soon as there is room."""
    options = options or [OPTIONS] * len(requests)
    batch = engine.start_batch(rows)
    waiting = list(zip(requests, options, strict=True))
    done = {}
    while waiting or batch.open:
        while waiting and batch.room:
            batch.add(*waiting.pop(0))
        for completion in batch.step():
            assert completion.id not in done
            done[completion.id] = completion
        assert len(batch.open) <= rows
    return done, batch


def decoded_tokens(completions):
    """Steps that each answer needs: the first token comes from the prompt, the stop token counts."""
    return [c.generated_tokens + (c.finish_reason == "stop") - 1 for c in completions]


def check_own_options(engine, static_engine, requests):
    """Rows with other limits and penalties than their neighbours get what they would get alone."""
    options = [
        GenerationOptions(max_new_tokens=3 + 7 * (place % 5), repetition_penalty=1.0 + 0.1 * (place % 3))
        for place in range(len(requests))
    ]
    done, _ = run(engine, requests, rows=5, options=options)
    expected = [
        static_engine.generate([request], its)[0] for request, its in zip(requests, options, strict=True)
    ]
    assert [done[request.id] for request in requests] == expected
