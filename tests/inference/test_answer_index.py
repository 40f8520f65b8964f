"""The index finds what was put in, the last of several, without keeping more than a few bytes of each."""

import tracemalloc
from random import Random

import pytest

from stage_a_pipeline.inference import answer_index
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


def test_many_added_answers_move_to_the_arrays_and_are_found_as_before(monkeypatch):
    monkeypatch.setattr(answer_index, "_FEW", 10)
    rng, last, index = Random(4), {}, AnswerIndex()
    for number in range(3_000):
        key, place = rng.choice(KEYS), Place(number % 3, number)
        last[key] = place
        index.add(key, place)
        assert len(index) == len(last)
    assert {key: index.find(key) for key in last} == last
    assert set(index.places()) == set(last.values())
    assert index.count_in(2) == sum(place.file == 2 for place in last.values())


def test_a_million_answers_take_little_memory_however_they_came():
    digests = [number.to_bytes(16, "little") for number in range(200_000)]
    tracemalloc.start()
    try:
        index = AnswerIndex()
        for number, key in enumerate(digests):
            index.add(key, Place(0, number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == 200_000
    assert held < 100 * 200_000


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
