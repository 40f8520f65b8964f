"""What only the static engine does: padding, and everything the processor returns."""

import pytest

from stage_a_pipeline.engines.transformers import assert_left_padded
from stage_a_pipeline.errors import EngineError
from tests.engines.conftest import OPTIONS


def test_right_padding_trips_the_guard(static_engine, requests, monkeypatch):
    monkeypatch.setattr(static_engine._processor.tokenizer, "padding_side", "right")
    with pytest.raises(EngineError, match="must be padded on the left"):
        static_engine.generate(requests[:6], OPTIONS)


def test_the_guard_accepts_left_padding_and_refuses_right():
    import torch

    assert_left_padded(torch.tensor([[0, 1, 1], [1, 1, 1]]))
    with pytest.raises(EngineError):
        assert_left_padded(torch.tensor([[1, 1, 0], [1, 1, 1]]))


def test_everything_the_processor_returns_reaches_generate(static_engine, requests):
    assert {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids"} <= set(
        static_engine._inputs(requests[:2])
    )


def test_another_number_of_image_tokens_than_the_pixels_make_is_a_mismatch(
    static_engine, requests, monkeypatch
):
    whole = static_engine._inputs(requests[:1])
    photo = whole["input_ids"] == static_engine._processor.image_token_id
    first = photo.nonzero()[0]
    whole["input_ids"][tuple(first)] = static_engine.stop_ids[0]
    monkeypatch.setattr(static_engine, "_inputs", lambda _: whole)
    with pytest.raises(EngineError, match=r"r0: 47 image tokens reached the model .* 256x192 pixels make 48"):
        static_engine.trace_inputs(requests[:1])
