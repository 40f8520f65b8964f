"""The tokenizer says every text back, and keeps the project's prompts short."""

from random import Random

import pytest

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.tokenizer import (
    SPECIAL_TOKENS,
    VOCABULARY_SIZE,
    chat_after_image,
    chat_before_image,
    chat_without_image,
    train_tokenizer,
)
from stage_a_pipeline.prompts import Prompt, build_prompt
from tests.demo.conftest import MISSIONS


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(tokenizer_corpus(MISSIONS))


@pytest.mark.parametrize(
    "text", ["无关图片", '{"统计": [{"类别": "标签"}]}', "任意 text, 123 \n龘😀", " 空 格  ", ""]
)
def test_any_text_survives_the_round_trip(tokenizer, text):
    tokens = tokenizer(text).input_ids
    assert tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == text


def test_every_special_token_is_one_token(tokenizer):
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token).input_ids) == 1


def test_the_vocabulary_is_no_larger_than_asked_for(tokenizer):
    assert len(tokenizer) <= VOCABULARY_SIZE


@pytest.mark.parametrize("mission", MISSIONS, ids=lambda mission: mission.name)
def test_prompts_and_summaries_are_few_tokens(tokenizer, mission):
    prompt = build_prompt(mission)
    assert len(tokenizer(chat_before_image(prompt) + chat_after_image(prompt)).input_ids) <= 80
    summary = compose_scene(Random(0), mission).summary
    assert len(tokenizer(summary).input_ids) < len(summary)


def test_the_same_corpus_gives_the_same_tokenizer(tokenizer):
    again = train_tokenizer(tokenizer_corpus(MISSIONS))
    assert again.get_vocab() == tokenizer.get_vocab()


def test_the_chat_template_writes_the_chat_that_training_uses(tokenizer):
    prompt = Prompt(system="系统", user="问题")
    system = {"role": "system", "content": [{"type": "text", "text": "系统"}]}
    with_image = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "问题"}]}
    without = {"role": "user", "content": "问题"}

    def rendered(user):
        return tokenizer.apply_chat_template([system, user], add_generation_prompt=True, tokenize=False)

    assert rendered(with_image) == f"{chat_before_image(prompt)}<|image_pad|>{chat_after_image(prompt)}"
    assert rendered(without) == chat_without_image(prompt)
