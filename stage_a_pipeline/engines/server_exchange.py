"""One question to one server: its answer, or what kind of failure it was. No failure repeats the key."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import httpx

from stage_a_pipeline.errors import ConfigurationError, EngineError, ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

API_KEY_VARIABLE: Final = "OPENAI_API_KEY"
"""The environment variable with the servers' key; nothing else says it, and nothing repeats it."""

CONNECT_SECONDS: Final = 10.0
_LONGEST_REST: Final = 120.0
"""Servers may ask for a pause (Retry-After), not for a run that never ends."""

_QUOTED: Final = 300
_PASSING: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY)
_MISCONFIGURED: Final = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.PAYMENT_REQUIRED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where the servers are, and how long they are asked.

    `urls` end before `/chat/completions`. At most `at_once` requests are under way. One that fails for
    reasons that may pass is sent `attempts` times, each for `timeout_seconds` from its first byte to its
    answer's last. `patience_seconds` is how long servers that answer nobody are waited for.
    """

    urls: Sequence[str]
    at_once: int
    timeout_seconds: float
    attempts: int
    patience_seconds: float
    api_key: str | None = field(default=None, repr=False)


class PassingError(EngineError):
    """The request may succeed elsewhere or later. `unreachable`: nobody took the connection."""

    def __init__(self, sentence: str, *, unreachable: bool = False) -> None:
        super().__init__(sentence)
        self.unreachable = unreachable


class BusyError(EngineError):
    """The server has no room, and asks to be left alone for so many seconds: no fault of the request's."""

    def __init__(self, sentence: str, seconds: float) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class Exchange:
    """Posts JSON over connections that are used again; certificates are verified, redirects not followed.

    Raises ConfigurationError for an environment with which no connection can be made.
    """

    def __init__(self, options: ServerOptions) -> None:
        self._key = options.api_key
        self._timeout = options.timeout_seconds
        # Answers are short, and one that is compressed may be of any length.
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=options.at_once)
        try:
            self._client = httpx.AsyncClient(
                headers=headers, limits=limits, timeout=httpx.Timeout(None, connect=CONNECT_SECONDS)
            )
        except (OSError, ImportError, ValueError) as error:
            raise ConfigurationError(
                f"no connection can be made with this environment: {self.told(str(error))}; correct "
                "SSL_CERT_FILE, SSL_CERT_DIR, HTTP_PROXY, HTTPS_PROXY or ALL_PROXY"
            ) from error

    async def post(self, url: str, content: bytes, *, most_bytes: int) -> Any:
        """The JSON of the answer. Raises PassingError, BusyError, EngineError for a request that will never
        succeed, and ServerError for a server that would refuse every one."""
        try:
            async with asyncio.timeout(self._timeout), self._opened("POST", url, content) as response:
                body = await self._read(response, most_bytes)
        except TimeoutError:
            raise PassingError(f"{url} has not answered within {self._timeout:g} s") from None
        if response.status_code != HTTPStatus.OK:
            raise self._refusal(url, response, body)
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise PassingError(self.told(f"{url} answered with something that is no JSON: {error}")) from None

    async def is_healthy(self, url: str) -> bool:
        """Whether a server answers at all, be it that it has no such page."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS), self._opened("GET", url, None) as response:
                return response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
        except (TimeoutError, PassingError):
            return False

    async def close(self) -> None:
        """Close all connections; what is under way fails."""
        await self._client.aclose()

    def told(self, text: str) -> str:
        """The beginning of a text on one line, without the key that it may repeat."""
        if self._key:
            for form in (self._key, json.dumps(self._key)[1:-1], self._key.replace("/", "\\/")):
                text = text.replace(form, "***")
        return re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text)[:_QUOTED].strip() or "nothing"

    @asynccontextmanager
    async def _opened(self, method: str, url: str, content: bytes | None) -> AsyncIterator[httpx.Response]:
        try:
            async with self._client.stream(method, url, content=content) as response:
                yield response
        except (httpx.TransportError, httpx.StreamError, httpx.InvalidURL) as error:
            unreachable = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            cause = self.told(str(error) or type(error).__name__)
            # Its cause is left out: its words may hold the headers that were sent.
            raise PassingError(f"{url} does not answer: {cause}", unreachable=unreachable) from None

    async def _read(self, response: httpx.Response, most_bytes: int) -> bytes:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PassingError(f"{response.url} compresses its answers though it was asked not to")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > most_bytes:
                raise EngineError(f"{response.url} answered with more than {most_bytes} bytes")
        return bytes(body)

    def _refusal(self, url: str, response: httpx.Response, body: bytes) -> EngineError | ServerError:
        status = response.status_code
        said = f"{url} answered with status {status}: {self.told(body.decode('utf-8', 'replace'))}"
        rest = seconds_to_rest(response.headers.get("Retry-After"))
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status == HTTPStatus.SERVICE_UNAVAILABLE and rest is not None
        ):
            return BusyError(said, rest or 0.0)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            return PassingError(said)
        if status in _MISCONFIGURED or status < HTTPStatus.BAD_REQUEST:
            return ServerError(
                f"{said}; correct engine.server_urls, engine.server_model or {API_KEY_VARIABLE}"
            )
        return EngineError(said)


def seconds_to_rest(retry_after: str | None) -> float | None:
    """For how long a server asks not to be asked again, 120 s at most; None where it does not say."""
    if retry_after is None:
        return None
    said = retry_after.strip()
    if re.fullmatch(r"\d+(\.\d+)?", said):
        return min(_LONGEST_REST, float(said))
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(_LONGEST_REST, max(0.0, (until - datetime.now(UTC)).total_seconds()))


def read_api_key() -> str | None:
    """The key in the environment. ConfigurationError, without the key, for one that no header can hold."""
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise ConfigurationError(
            f"environment variable {API_KEY_VARIABLE} holds spaces or characters outside of ASCII; "
            "no server's key does: set it again"
        )
    return key or None


def api_root(url: str) -> str:
    """Where the paths of the API begin: the URL, and `/v1` where it names no path."""
    root = url.rstrip("/")
    return root if "/" in root.partition("://")[2] else f"{root}/v1"
