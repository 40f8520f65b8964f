"""Work that is done ahead of its use: in order, on threads, never more than a window of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_ahead(function: Callable[[T], R], items: Iterable[T], *, workers: int, window: int) -> Iterator[R]:
    """`map` on `workers` threads, results in order, at most `window` of them computed but not taken.

    An exception of `function` is raised in its place; closing the iterator drops what is waiting.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="ahead") as pool:
        pending: deque[Future[R]] = deque(pool.submit(function, item) for item in islice(source, window))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
                # Without this, the frame would hold the last result until the next is asked for.
                del result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
