import threading
import time

import pytest

from stage_a_pipeline.inference.lookahead import map_ahead


def test_results_come_in_order_whatever_finishes_first():
    def slow_first(item):
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item

    assert list(map_ahead(slow_first, range(30), workers=4, window=8)) == list(range(30))


def test_never_more_than_a_window_is_computed_ahead():
    started, lock, taken, ahead = 0, threading.Lock(), 0, 0

    def count(item):
        nonlocal started, ahead
        with lock:
            started += 1
            ahead = max(ahead, started - taken)
        return item

    for _ in map_ahead(count, range(50), workers=4, window=5):
        with lock:
            taken += 1
        time.sleep(0.001)
    assert ahead <= 6


def test_an_exception_is_raised_in_its_place():
    def fail_at_three(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = map_ahead(fail_at_three, range(9), workers=2, window=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_nothing_to_do_gives_nothing():
    assert list(map_ahead(str, [], workers=1, window=3)) == []
