"""Work that is done ahead of its use: in order, on threads, never more than a window of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Final, Generic, TypeVar

_SECOND: Final = 1.0

T = TypeVar("T")
R = TypeVar("R")


class Lookahead(Generic[T, R]):
    """`map` on `workers` threads, results in order, at most `window` of them computed but not taken.

    To be iterated once. An exception of `function` is raised in its place; closing the iterator drops
    what is waiting, and does not wait for what is being computed. `while_waiting` is called every second
    in which a result is not there yet.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        *,
        workers: int,
        window: int,
        while_waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._function = function
        self._while_waiting = while_waiting
        self._source = iter(items)
        self._workers = workers
        self._window = window
        self._pending: deque[Future[R]] = deque()

    def __iter__(self) -> Generator[R, None, None]:
        pending = self._pending
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="ahead")

        def submit(count: int) -> None:
            pending.extend(pool.submit(self._function, item) for item in islice(self._source, count))

        try:
            submit(self._window)
            while pending:
                result = self._result(pending[0])
                pending.popleft()
                submit(1)
                yield result
                # Without this, the frame would hold the last result until the next is asked for.
                del result
        finally:
            # Waiting for the threads here can last for ever: an iterator that nobody closed ends in the
            # garbage collector, and that may run on a thread which just starts, with a lock that they need.
            pool.shutdown(wait=False, cancel_futures=True)

    def _result(self, future: Future[R]) -> R:
        while not wait([future], timeout=_SECOND).done:
            self._while_waiting()
        return future.result()

    @property
    def ready(self) -> int:
        """How many results are computed and not taken; to be asked by who takes them."""
        return sum(future.done() for future in self._pending)

    def settle(self) -> None:
        """Wait until nothing is being computed; nothing new begins before the next result is taken."""
        wait(self._pending)
