"""Engine over HTTP: any servers of OpenAI-compatible chat completions, many photos under way at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.engines.base import (
    ENGINE_ERROR,
    BatchUsage,
    Completion,
    EngineFailure,
    GenerationOptions,
    InputTrace,
    Notice,
    Request,
    RunningBatch,
    Unanswered,
    answer_all,
)
from stage_a_pipeline.engines.chat_messages import chat_body, completion_of, encode_photo, tokens_limit
from stage_a_pipeline.engines.server_exchange import PassingError, ServerOptions, api_root, read_api_key
from stage_a_pipeline.engines.servers import Servers
from stage_a_pipeline.errors import EngineError, StageAError
from stage_a_pipeline.images import Pixels
from stage_a_pipeline.photo_sizes import fit_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

    from stage_a_pipeline.prompts import Prompt
    from stage_a_pipeline.settings import EngineSettings

_FACTOR: Final = 32
"""Qwen3-VL's patches of 16 pixels, merged two by two."""

_AT_ONCE: Final = 32
_STEP_SECONDS: Final = 1.0
_CHAT: Final = "chat/completions"

_FRAME_BYTES: Final = 64 * 1024
_BYTES_PER_TOKEN: Final = 64
"""A token is a few characters, each six bytes at most as JSON may write it."""

_Told = Completion | Unanswered | StageAError


class OpenAIEngine:
    """Asks servers for one photo at a time, many at once: they gather the batches.

    A photo for which they fail, although they answer a plain question, is the only one that is lost.
    """

    name = "openai"

    def __init__(self, settings: EngineSettings) -> None:
        assert settings.server_model is not None
        self._model = settings.server_model
        self._dialect = settings.server_dialect
        self._min_pixels = settings.server_min_pixels
        rows = settings.batch_size
        options = ServerOptions(
            [api_root(url) for url in settings.server_urls],
            at_once=_AT_ONCE if rows == "auto" else rows,
            timeout_seconds=settings.server_timeout_seconds,
            attempts=settings.server_attempts,
            patience_seconds=settings.server_patience_seconds,
            api_key=read_api_key(),
        )
        self._notices: deque[str] = deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._thread.start()
        try:
            self._servers: Servers = self._wait(_made(options, self._notices.append))
        except BaseException:
            self._end_loop()
            raise

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine. The server takes photos of that size as they are."""
        largest = max(_FACTOR * _FACTOR, max_pixels)
        smallest = min(self._min_pixels, largest)
        return fit_pixels(width, height, factor=_FACTOR, min_pixels=smallest, max_pixels=largest)

    def prepare(self, image: Image) -> Pixels:
        """See Engine."""
        return encode_photo(image)

    def prompt_tokens(self, request: Request) -> int:
        """See Engine. A guess: the tokenizer is the server's; it hardly makes more than one a character."""
        text = len(request.prompt.system) + len(request.prompt.user)
        return text + prod(request.image.size) // _FACTOR**2

    def fitting_rows(
        self,
        prompts: Collection[Prompt],  # noqa: ARG002
        *,
        max_pixels: int,  # noqa: ARG002
        max_new_tokens: int,  # noqa: ARG002
    ) -> int:
        """See Engine. The server queues what it has no room for."""
        return _AT_ONCE

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        return answer_all(self.start_batch, requests, options)

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return _ServedBatch(self, rows)

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine. What is sent is known; what the server makes of it is not."""
        return [_trace(request) for request in requests]

    def close(self) -> None:
        """See Engine. What is under way at the servers is given up."""
        if self._loop.is_closed():
            return
        self._wait(self._end())
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def begin(
        self, request: Request, options: GenerationOptions, told: queue.SimpleQueue[_Told]
    ) -> concurrent.futures.Future[None]:
        """Ask for a photo; `told` gets what comes of it, unless the future is cancelled."""
        return asyncio.run_coroutine_threadsafe(self._answer(request, options, told), self._loop)

    def notices(self) -> list[Notice]:
        """What people should know of the servers since this was last asked."""
        return [Notice(self._notices.popleft()) for _ in range(len(self._notices))]

    async def _answer(
        self, request: Request, options: GenerationOptions, told: queue.SimpleQueue[_Told]
    ) -> None:
        try:
            told.put(await self._answered(request, options))
        except StageAError as error:
            told.put(error)
        # What a library raises over one answer must neither cost the others nor leave the batch waiting.
        except Exception as error:  # noqa: BLE001
            sentence = self._servers.told(f"{type(error).__name__}: {error}")
            told.put(Unanswered(request.id, EngineFailure(ENGINE_ERROR, sentence)))

    async def _answered(self, request: Request, options: GenerationOptions) -> Completion | Unanswered:
        """A photo is given up for what a server says of it, or once servers that answer others have failed it
        in every try; after an outage it gets all its tries again."""
        body = chat_body(request, options, model=self._model, dialect=self._dialect)
        most_bytes = _FRAME_BYTES + _BYTES_PER_TOKEN * options.max_new_tokens
        for after_outage in (False, True):
            try:
                parse = partial(completion_of, request.id)
                return await self._servers.ask(_CHAT, body, parse, most_bytes=most_bytes)
            except EngineError as error:
                failure = error
                outage = await self._confirm()
                if after_outage or not outage or not isinstance(error, PassingError):
                    break
        return Unanswered(request.id, EngineFailure(ENGINE_ERROR, str(failure)))

    async def _confirm(self) -> bool:
        """A question without a photo tells silent servers from a photo that they cannot answer."""
        limit = tokens_limit(1, self._dialect)
        question = {"model": self._model, "messages": [{"role": "user", "content": "1"}], **limit}
        return await self._servers.confirm(_CHAT, question, partial(completion_of, "plain"))

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._servers.close()

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _ServedBatch:
    """Requests that are under way at the servers from the moment they are added."""

    def __init__(self, engine: OpenAIEngine, rows: int) -> None:
        self.usage = BatchUsage()
        self._engine = engine
        self._rows = rows
        self._open: dict[str, tuple[Request, GenerationOptions]] = {}
        self._asked: dict[str, concurrent.futures.Future[None]] = {}
        self._told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        self._failure: StageAError | None = None

    @property
    def room(self) -> int:
        """See RunningBatch."""
        return self._rows - len(self._open)

    @property
    def open(self) -> Sequence[tuple[Request, GenerationOptions]]:
        """See RunningBatch."""
        return list(self._open.values())

    def add(self, request: Request, options: GenerationOptions) -> None:
        """See RunningBatch."""
        assert self.room > 0
        self._open[request.id] = request, options
        self._asked[request.id] = self._engine.begin(request, options, self._told)

    def step(self) -> list[Completion | Unanswered | Notice]:
        """See RunningBatch."""
        ended = self._ended(wait=self._failure is None)
        # What was answered before, or besides, is told first, and so kept.
        if self._failure is not None and not ended:
            raise self._failure
        if ended:
            self.usage.add(places=self._rows, filled=len(ended) + len(self._open))
        return [*self._engine.notices(), *ended]

    def _ended(self, *, wait: bool) -> list[Completion | Unanswered]:
        ended: list[Completion | Unanswered] = []
        while (item := self._next(wait=wait and not ended)) is not None:
            if isinstance(item, StageAError):
                self._fail(item)
                wait = False
            else:
                del self._open[item.id], self._asked[item.id]
                ended.append(item)
        return ended

    def _fail(self, failure: StageAError) -> None:
        if self._failure is None:
            self._failure = failure
            for asked in self._asked.values():
                asked.cancel()

    def _next(self, *, wait: bool) -> _Told | None:
        try:
            return self._told.get(timeout=_STEP_SECONDS) if wait else self._told.get_nowait()
        except queue.Empty:
            return None


async def _made(options: ServerOptions, tell: Callable[[str], None]) -> Servers:
    return Servers(options, tell=tell)


def _trace(request: Request) -> InputTrace:
    width, height = request.image.size
    digest = hashlib.sha256(request.image.tobytes()).hexdigest()
    tokens = width * height // _FACTOR**2
    return InputTrace(request.id, digest, width, height, (1, height // 16, width // 16), tokens, tokens)
