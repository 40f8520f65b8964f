import threading
import time

import pytest

from stage_a_pipeline.inference.lookahead import Lookahead


def test_results_come_in_order_whatever_finishes_first():
    def slow_first(item):
        time.sleep(0.02 if item % 3 == 0 else 0)
        return item

    assert list(Lookahead(slow_first, range(30), workers=4, window=8)) == list(range(30))


def test_never_more_than_a_window_is_computed_ahead():
    started, lock, taken, ahead = 0, threading.Lock(), 0, 0

    def count(item):
        nonlocal started, ahead
        with lock:
            started += 1
            ahead = max(ahead, started - taken)
        return item

    for _ in Lookahead(count, range(50), workers=4, window=5):
        with lock:
            taken += 1
        time.sleep(0.001)
    assert ahead <= 6


def test_an_exception_is_raised_in_its_place():
    def fail_at_three(item):
        if item == 3:
            raise ValueError("three")
        return item

    results = iter(Lookahead(fail_at_three, range(9), workers=2, window=4))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_nothing_to_do_gives_nothing():
    assert list(Lookahead(str, [], workers=1, window=3)) == []


def test_settling_waits_for_what_has_begun_and_nothing_new_begins():
    done = []

    def slowly(item):
        time.sleep(0.02)
        done.append(item)
        return item

    ahead = Lookahead(slowly, range(20), workers=2, window=5)
    results = iter(ahead)
    assert next(results) == 0
    ahead.settle()
    assert sorted(done) == list(range(6))
    time.sleep(0.05)
    assert len(done) == 6
    assert list(results) == list(range(1, 20))


@pytest.mark.parametrize("closed", [True, False])
def test_an_iterator_that_ends_early_waits_for_no_thread(closed):
    """It may be the garbage collector that ends it, on a thread that the others wait for."""
    begun, may_go_on, done = threading.Event(), threading.Event(), []

    def wait_for_the_end(item):
        if item:
            begun.set()
            assert may_go_on.wait(timeout=30)
        done.append(item)
        return item

    before = set(threading.enumerate())
    results = iter(Lookahead(wait_for_the_end, range(9), workers=1, window=3))
    assert next(results) == 0
    assert begun.wait(timeout=30)
    threads = set(threading.enumerate()) - before
    if closed:
        results.close()
    del results
    assert done == [0]
    may_go_on.set()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert done == [0, 1], "what waited is dropped"
