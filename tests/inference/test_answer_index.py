"""The index finds what was put in, the last of several, without keeping more than a few bytes of each."""

from random import Random

import pytest

from stage_a_pipeline.inference.answer_index import AnswerIndex, Place, answer_key

KEYS = [answer_key(f"photo {number}", "f") for number in range(500)]


def test_every_answer_is_found_and_nothing_else():
    index = AnswerIndex((key, Place(number % 7, number)) for number, key in enumerate(KEYS[:400]))
    for number, key in enumerate(KEYS[400:], start=400):
        index.add(key, Place(8, number))
    assert len(index) == 500
    for number, key in enumerate(KEYS):
        assert index.find(key) == Place(number % 7 if number < 400 else 8, number)
    assert index.find(answer_key("photo 1", "g")) is None
    assert answer_key("photo 500", "f") not in index


def test_an_empty_index_finds_nothing():
    index = AnswerIndex()
    assert len(index) == 0
    assert index.find(KEYS[0]) is None
    assert list(index.places()) == []


def test_the_last_of_several_answers_is_found():
    rng, last = Random(3), {}
    given = [(rng.choice(KEYS[:50]), Place(rng.randrange(5), number)) for number in range(2_000)]
    last.update(given)
    index = AnswerIndex(given)
    assert {key: index.find(key) for key in last} == last
    assert len(index) == len(last)
    for file in range(6):
        assert index.count_in(file) == sum(place.file == file for place in last.values())
    assert set(index.places()) == set(last.values())
    index.add(KEYS[0], Place(6, 9))
    index.add(KEYS[0], Place(6, 10))
    index.add(KEYS[99], Place(6, 11))
    assert index.find(KEYS[0]) == Place(6, 10)
    assert len(index) == len(last) + 1


@pytest.mark.parametrize("place", [Place(0, 0), Place(65_535, (1 << 47) - 1)])
def test_places_keep_their_numbers(place):
    assert AnswerIndex([(KEYS[0], place)]).find(KEYS[0]) == place


def test_keys_that_agree_in_their_first_half_are_told_apart():
    keys = [b"same half"[:8] + bytes([number]) * 8 for number in range(256)]
    index = AnswerIndex((key, Place(0, number)) for number, key in enumerate(reversed(keys)))
    assert [index.find(key) for key in keys] == [Place(0, 255 - number) for number in range(256)]
    assert index.find(b"same half"[:8] + b"12345678") is None
