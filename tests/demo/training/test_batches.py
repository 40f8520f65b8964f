"""What each kind of step shows: with or without pictures, and how often several objects of a kind."""

import json
from collections import Counter

import pytest
import torch

from stage_a_pipeline.demo.training.batches import IGNORED, BatchMaker
from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.tokenizer import train_tokenizer
from stage_a_pipeline.prompts import BRIEF_PROFILE, verdict_prompt
from stage_a_pipeline.vocabulary import IRRELEVANT
from tests.demo.conftest import ALL_MISSIONS, MISSIONS

ROWS = 8


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(tokenizer_corpus(MISSIONS, scenes=50, groups=10))


@pytest.fixture(scope="module")
def maker(tokenizer):
    return BatchMaker(tokenizer, rows=ROWS, seed="batches")


def repeated_share(maker, tokenizer, kind, numbers):
    """Among the attributes of all rows, the share with a value that two objects or more bear."""
    seen = Counter()
    for number in numbers:
        for row in maker.make(kind, number).answers:
            text = tokenizer.decode(row[row != IGNORED], skip_special_tokens=True)
            if text.startswith("{"):
                for entry in json.loads(text)["统计"]:
                    counts = [max(value.values()) for value in entry.values() if isinstance(value, dict)]
                    seen.update(count > 1 for count in counts)
    return seen[True] / seen.total()


@pytest.mark.parametrize(
    ("kind", "pictured", "answered"),
    [
        ("V", True, False),
        ("T", True, False),
        ("L", False, True),
        ("C", False, True),
        ("J", True, True),
        ("K", True, True),
        ("B", False, True),
    ],
)
def test_a_kind_of_step_has_the_parts_that_it_teaches(maker, kind, pictured, answered):
    batch = maker.make(kind, 1)
    assert batch.kind == kind
    assert (batch.patches is not None) == pictured
    assert (batch.answers is not None) == answered
    assert (batch.truth is not None) == (kind != "B")


@pytest.mark.parametrize("kind", ["V", "T", "L", "J", "B", "C", "K"])
def test_a_batch_depends_on_seed_and_number_alone(maker, tokenizer, kind):
    again = BatchMaker(tokenizer, rows=ROWS, seed="batches").make(kind, 3)
    other = maker.make(kind, 4)
    batch = maker.make(kind, 3)
    name = "answers" if batch.answers is not None else "truth"
    assert torch.equal(getattr(batch, name), getattr(again, name))
    assert not torch.equal(getattr(batch, name), getattr(other, name))


@pytest.mark.parametrize("kind", ["L", "B"])
def test_training_draws_every_packaged_mission_and_no_unseen_one(maker, tokenizer, kind):
    texts = [tokenizer.decode(row) for number in range(30) for row in maker.make(kind, number).tokens]
    named = {mission.name for mission in ALL_MISSIONS if any(mission.name in text for text in texts)}
    assert named == {mission.name for mission in MISSIONS}


def test_practice_in_counting_shows_several_of_a_kind_far_more_often(maker, tokenizer):
    usual = repeated_share(maker, tokenizer, "L", range(30))
    counting = repeated_share(maker, tokenizer, "C", range(30))
    assert counting > 1.5 * usual


def test_practice_in_counting_still_shows_what_missions_show(maker, tokenizer):
    answers = [
        tokenizer.decode(row[row != IGNORED], skip_special_tokens=True)
        for number in range(20)
        for row in maker.make("C", number).answers
    ]
    assert IRRELEVANT in answers
    assert any("站点距离" in answer for answer in answers)


def test_verdicts_are_taught_with_the_brief_texts(maker, tokenizer):
    systems = {verdict_prompt(mission, [], profile=BRIEF_PROFILE).system for mission in MISSIONS}
    tasks = {verdict_prompt(mission, [], profile=BRIEF_PROFILE).user for mission in MISSIONS}
    for row in maker.make("B", 1).tokens:
        text = tokenizer.decode(row, skip_special_tokens=False)
        assert any(system in text for system in systems)
        assert any(f"{task}\nimage_1: " in text for task in tasks)
