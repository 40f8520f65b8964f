"""A real S3 server on loopback, and a proxy in front of it that misbehaves as it is told."""

from __future__ import annotations

import http.client
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import pytest
from upath import UPath

from stage_a_pipeline.places import as_place
from stage_a_pipeline.storage import objects

Fault = Literal["busy", "too many", "denied", "cut", "down"]
"""503 SlowDown, 429 TooManyRequests, 403 AccessDenied, half a body and then the end, a closed connection."""

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{0}</Code><Message>{0}</Message></Error>'
_STATUS = {"busy": (503, "SlowDown"), "too many": (429, "TooManyRequests"), "denied": (403, "AccessDenied")}
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "content-length"}


class Asked(NamedTuple):
    """A request that reached the proxy; the path is unquoted, with its query."""

    method: str
    path: str


class Proxy(ThreadingHTTPServer):
    """Hands requests on to the server unless `fault` says otherwise, and remembers them all.

    Listings come in pages of `page` entries; without it, the server's thousand.
    """

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server
        self.asked: list[Asked] = []
        self.fault: Callable[[Asked], Fault | None] = lambda _: None
        self.page: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reset(self) -> None:
        """Forget what was asked, and behave."""
        self.asked, self.fault, self.page = [], lambda _: None, None

    def fail_first(self, times: int, fault: Fault, method: str, part: str) -> None:
        """The first so many requests of that method whose path holds the part."""
        left = iter(range(times))
        lock = threading.Lock()

        def decide(asked: Asked) -> Fault | None:
            if asked.method != method or part not in asked.path:
                return None
            with lock:
                return fault if next(left, None) is not None else None

        self.fault = decide

    def fail_always(self, fault: Fault, part: str, methods: str = "GET HEAD PUT DELETE POST") -> None:
        """Every request of these methods whose path holds the part."""
        self.fault = lambda asked: fault if part in asked.path and asked.method in methods.split() else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _handle(self) -> None:
        body = self._body()
        asked = Asked(self.command, unquote(self.path))
        self.server.asked.append(asked)
        fault = self.server.fault(asked)
        if fault == "down":
            self.close_connection = True
            return
        if fault in _STATUS:
            status, code = _STATUS[fault]
            self._answer(status, [("Content-Type", "application/xml")], _ERROR.format(code).encode())
            return
        connection = http.client.HTTPConnection(*self.server.server, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
            short = f"&max-keys={self.server.page}" if self.server.page and "list-type=" in self.path else ""
            connection.request(self.command, self.path + short, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            passed = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP]
            size = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, passed, content, size=size, cut=fault == "cut")
        finally:
            connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(
        self,
        status: int,
        headers: list[tuple[str, str]],
        content: bytes,
        *,
        size: str | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", size or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut

    def log_message(self, *arguments: Any) -> None:
        """Tests show nothing."""


class Store:
    """A bucket of its own for a test, seen through the proxy."""

    def __init__(self, proxy: Proxy, bucket: str) -> None:
        self.proxy = proxy
        self.url = f"s3://{bucket}"
        self._fs = self.place("").fs
        self._fs.mkdir(bucket)
        proxy.reset()

    def place(self, key: str) -> UPath:
        bucket = as_place(self.url)
        assert isinstance(bucket, UPath)
        return bucket / key if key else bucket

    def put(self, key: str, content: bytes) -> UPath:
        """Store an object past everything that the product does."""
        self._fs.call_s3("put_object", Bucket=self.url[5:], Key=key, Body=content)
        return self.place(key)

    def put_tree(self, folder: Path, key: str) -> None:
        """Store all files below a folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def replace_while_fetched(self, key: str, contents: Iterable[bytes]) -> None:
        """Store the next content at each request to fetch the object, before it is answered."""
        left = iter(contents)

        def replace(asked: Asked) -> None:
            if asked.method == "GET" and asked.path.split("?")[0].endswith(key):
                for content in islice(left, 1):
                    self.put(key, content)

        self.proxy.fault = replace

    def keys(self, key: str = "") -> list[str]:
        """All keys below a prefix, relative to it."""
        return sorted(found for found, _ in objects.everything_below(self.place(key)))


@contextmanager
def serve() -> Iterator[Proxy]:
    """The server and its proxy, to which this process and its children are directed meanwhile."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    proxy = Proxy(server.get_host_and_port())
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_ENDPOINT_URL", proxy.url)
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # What the library tries again by itself would only take time here.
        environment.setenv("AWS_MAX_ATTEMPTS", "1")
        yield proxy
    proxy.shutdown()
    proxy.server_close()
    server.stop()
