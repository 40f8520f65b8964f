"""Answers to prompts of text alone: batches that have room, and who can answer at all."""

import pytest

from stage_a_pipeline.errors import ConfigurationError, EngineOutOfMemoryError
from stage_a_pipeline.settings import EngineSettings
from stage_a_pipeline.stage_b.answers import answer_in_batches, require_model


def answers_with_room_for(rows, count=7, batch_size=4):
    sizes, told = [], []

    def generate(chats):
        sizes.append(len(chats))
        if len(chats) > rows:
            raise EngineOutOfMemoryError("full")
        return [f"{len(chat)} tokens" for chat in chats]

    chats = [[0] * length for length in range(1, count + 1)]
    answers = answer_in_batches(
        chats, generate, batch_size=batch_size, progress=lambda *counts: told.append(counts)
    )
    assert answers == [f"{length} tokens" for length in range(1, count + 1)]
    assert (told[0], told[-1]) == ((0, count), (count, count))
    return sizes


@pytest.mark.parametrize(("rows", "sizes"), [(4, [4, 3]), (2, [4, 2, 2, 2, 1]), (1, [4, 2, *[1] * 7])])
def test_a_batch_without_room_is_halved_for_good_and_answers_keep_their_order(rows, sizes):
    assert answers_with_room_for(rows) == sizes


def test_a_single_chat_without_room_is_an_error():
    with pytest.raises(EngineOutOfMemoryError):
        answers_with_room_for(0)


def test_the_fake_engine_writes_no_verdicts():
    with pytest.raises(ConfigurationError, match="engine 'fake' has none; leave out --verdicts"):
        require_model(EngineSettings(engine="fake"), remedy="leave out --verdicts, or ")
