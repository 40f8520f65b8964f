"""HTTP servers that do the same work: the least busy living one is asked, and another where it fails."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from stage_a_pipeline.engines.server_exchange import BusyError, Exchange, PassingError, ServerOptions
from stage_a_pipeline.errors import EngineError, ServerError

_BETWEEN_TRIES: Final = wait_random_exponential(multiplier=0.5, max=30)
"""Five tries of one request take four seconds of pauses, more or less; servers that answer nobody are waited
for by `patience_seconds` instead."""

_PROBE_SECONDS: Final = (1.0, 30.0)
"""A dead server is looked at again after the first, and after twice as long every time, up to the second."""

_FAILURES_OF_THE_DEAD: Final = 3
"""So many in a row, with no answer between them. One that takes no connections is dead at once."""

_REST_SECONDS: Final = (0.2, 30.0)
"""A busy server that does not say for how long rests for the first, then for twice as long every time, up to
the second, until it answers."""

_MOST_BYTES: Final = 1 << 20

T = TypeVar("T")


class OddAnswerError(EngineError):
    """An answer that is none: another try would get the same."""


@dataclass(slots=True, eq=False)
class _Server:
    """A server, and for how many requests at once it has shown to have room."""

    url: str
    room: float
    outstanding: int = 0
    asked: int = 0
    failures: int = 0
    alive: bool = True
    rests_until: float = 0.0
    rest: float = _REST_SECONDS[0]
    pause: float = _PROBE_SECONDS[0]
    last_failure: str = ""


@dataclass(slots=True)
class _Question:
    """A request on its way: which servers have failed it, and since when it waits."""

    path: str
    content: bytes
    most_bytes: int
    since: float
    failed_by: set[str] = field(default_factory=set)


class Servers:
    """Asks JSON questions; all of one event loop.

    A request goes to the living server with the fewest requests under way, to one that has not failed it
    before where there is one. A server that is too busy gets fewer at once, and more again with every answer;
    that is nobody's failure. `tell` hears of servers that are left out, and that are back. Raises
    ConfigurationError as Exchange does.
    """

    def __init__(
        self,
        options: ServerOptions,
        *,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._tell = tell
        self._clock = clock
        self._exchange = Exchange(options)
        self._servers = [_Server(url, options.at_once) for url in options.urls]
        self._probes: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._confirming = asyncio.Lock()
        self._answered_at = self._outage_ended_at = -1.0

    async def ask(
        self, path: str, question: object, parse: Callable[[Any], T], *, most_bytes: int = _MOST_BYTES
    ) -> T:
        """What `parse` makes of the JSON that a server answers to a POST.

        Raises PassingError when every try has failed, EngineError for a request, or an answer, that another
        try would not mend, and ServerError where all would be refused or nobody answers.
        """
        asked = self._question(path, question, most_bytes)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PassingError),
            stop=stop_after_attempt(self._options.attempts),
            wait=_BETWEEN_TRIES,
            reraise=True,
        )
        return await retrying(self._ask_once, asked, parse)

    async def confirm(self, path: str, question: object, parse: Callable[[Any], object]) -> bool:
        """Make sure that the servers answer at all; whether they had to be waited for.

        Nothing is asked where anybody was answered since this was called. Raises ServerError when they answer
        nothing until patience ends.
        """
        since = self._clock()
        async with self._confirming:
            while self._answered_at <= since:
                try:
                    await self._ask_once(self._question(path, question, _MOST_BYTES), parse)
                except PassingError as error:
                    if self._clock() - since >= self._options.patience_seconds:
                        raise ServerError(self._told_of_silence(str(error))) from None
                    self._outage_ended_at = self._clock()
                    await asyncio.sleep(random.uniform(0.5, 1.0))
                except OddAnswerError as error:
                    raise ServerError(f"{error}; correct engine.server_urls") from None
                except EngineError:
                    # Whoever refuses a question lives.
                    break
                else:
                    break
        return self._outage_ended_at >= since

    def told(self, text: str) -> str:
        """See Exchange."""
        return self._exchange.told(text)

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        for probe in self._probes:
            probe.cancel()
        await self._exchange.close()

    def _question(self, path: str, question: object, most_bytes: int) -> _Question:
        content = json.dumps(question, ensure_ascii=False).encode()
        return _Question(path, content, most_bytes, self._clock())

    async def _ask_once(self, question: _Question, parse: Callable[[Any], T]) -> T:
        while True:
            server = await self._free_server(question)
            try:
                return await self._ask_server(server, question, parse)
            except BusyError as error:
                self._let_rest(server, error)

    async def _ask_server(self, server: _Server, question: _Question, parse: Callable[[Any], T]) -> T:
        server.outstanding += 1
        server.asked += 1
        url = f"{server.url}/{question.path}"
        try:
            document = await self._exchange.post(url, question.content, most_bytes=question.most_bytes)
            parsed = self._parsed(document, url, parse)
        except PassingError as error:
            question.failed_by.add(server.url)
            self._count_failure(server, error)
            raise
        finally:
            server.outstanding -= 1
            self._changed.set()
        self._answered_at = self._clock()
        server.failures = 0
        server.pause, server.rest = _PROBE_SECONDS[0], _REST_SECONDS[0]
        server.room = min(self._options.at_once, server.room + 1 / server.room)
        return parsed

    def _parsed(self, document: Any, url: str, parse: Callable[[Any], T]) -> T:
        try:
            return parse(document)
        except EngineError as error:
            raise OddAnswerError(self.told(f"{url}: {error}")) from None

    async def _free_server(self, question: _Question) -> _Server:
        """The server to ask next, as soon as one has room. Raises ServerError."""
        while True:
            now = self._clock()
            living = [server for server in self._servers if server.alive]
            ready = [
                server for server in living if server.rests_until <= now and server.outstanding < server.room
            ]
            if ready:
                return min(
                    ready,
                    key=lambda each: (each.url in question.failed_by, each.outstanding, each.asked),
                )
            waited = now - max(question.since, self._answered_at)
            if waited >= self._options.patience_seconds and not any(each.outstanding for each in living):
                raise ServerError(self._told_of_silence(None))
            self._changed.clear()
            rests = [server.rests_until - now for server in living if server.rests_until > now]
            try:
                async with asyncio.timeout(min([*rests, 1.0])):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _let_rest(self, server: _Server, error: BusyError) -> None:
        server.last_failure = str(error)
        # Half of what it had, besides the one that was sent away.
        server.room = max(1.0, min(server.room, server.outstanding + 1) / 2)
        now = self._clock()
        if server.rests_until <= now:
            server.rests_until = now + max(error.seconds, server.rest * random.uniform(0.5, 1.0))
            server.rest = min(_REST_SECONDS[1], 2 * server.rest)
        else:
            # One of many that were sent away together.
            server.rests_until = max(server.rests_until, now + error.seconds)

    def _count_failure(self, server: _Server, error: PassingError) -> None:
        server.failures += 1
        server.last_failure = str(error)
        if server.alive and (error.unreachable or server.failures >= _FAILURES_OF_THE_DEAD):
            server.alive = False
            self._tell(f"server left out until it answers again: {error}")
            probe = asyncio.create_task(self._probe(server))
            self._probes.add(probe)
            probe.add_done_callback(self._probes.discard)

    async def _probe(self, server: _Server) -> None:
        """Look at a dead server until it answers; then it gets one request, and more with every answer."""
        root = server.url.removesuffix("/v1")
        while not server.alive:
            await asyncio.sleep(server.pause)
            # Back to the first only with an answer to a question: pages may live where nothing else does.
            server.pause = min(_PROBE_SECONDS[1], 2 * server.pause)
            server.alive = await self._exchange.is_healthy(f"{root}/health")
        server.room = 1.0
        self._tell(f"server is asked again: {server.url}")
        self._changed.set()

    def _told_of_silence(self, last: str | None) -> str:
        causes = [server.last_failure for server in self._servers if server.last_failure]
        return (
            f"no server has answered for {self._options.patience_seconds:g} s ({'; '.join(causes) or last}); "
            "start them again or correct engine.server_urls, then run again: finished photos are kept"
        )
