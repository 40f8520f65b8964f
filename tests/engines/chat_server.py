"""A real HTTP server of chat completions on loopback that misbehaves as it is told."""

import hashlib
import json
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def well_behaved(_number, _body):
    return "ok"


class ChatServer(ThreadingHTTPServer):
    """`behave(number, body)` says what becomes of a request: "ok", a status, or the name of a fault."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, behave=well_behaved, *, port=0, slowness=0.0, tls=None):
        super().__init__(("127.0.0.1", port), Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.behave = behave
        self.slowness = slowness
        self.asked, self.headers, self.connections, self.at_once, self.most_at_once = [], [], 0, 0, 0
        self.healthy = True
        self.lock = threading.Lock()
        self.sockets = set()

    def die(self):
        """Stop as a killed process does: open connections end, too."""
        self.shutdown()
        self.server_close()
        for connection in list(self.sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        """Clients hang up on purpose here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        with self.server.lock:
            self.server.connections += 1
            self.server.sockets.add(self.connection)

    def finish(self):
        with self.server.lock:
            self.server.sockets.discard(self.connection)
        super().finish()

    def do_GET(self):
        self.reply(200 if self.server.healthy else 503, b"{}")

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.asked)
            server.asked.append(body)
            server.headers.append(dict(self.headers))
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            time.sleep(server.slowness)
            self.answer(server.behave(number, body), body)
        finally:
            with server.lock:
                server.at_once -= 1

    def answer(self, behaviour, body):
        good = json.dumps(completion(answer_to(body))).encode()
        match behaviour:
            case "ok":
                self.reply(200, good)
            case int() as status:
                self.reply(status, b'{"error": "told to fail"}', {"Retry-After": "0"})
            case "drop":
                self.hang_up()
            case "cut":
                self.send_response(200)
                self.send_header("Content-Length", str(len(good)))
                self.end_headers()
                self.wfile.write(good[: len(good) // 2])
                self.wfile.flush()
                self.hang_up()
            case "no json":
                self.reply(200, b"<html>a proxy's page</html>")
            case "two":
                self.reply(200, json.dumps(completion(answer_to(body), choices=2)).encode())
            case "none":
                self.reply(200, json.dumps(completion(answer_to(body), choices=0)).encode())
            case "huge":
                self.reply(200, json.dumps(completion("长" * 40_000_000)).encode())
            case "hang":
                time.sleep(30)
            case "trickle":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.1)
            case "redirect":
                self.reply(307, b"", {"Location": "http://127.0.0.1:9/elsewhere"})
            case "echo":
                self.reply(403, json.dumps(dict(self.headers)).encode())
            case "echo late":
                self.reply(400, b"x" * 1195 + self.headers.get("Authorization", "").encode())
            case "broken header":
                self.wfile.write(
                    b"HTTP/1.1 200 OK\r\n" + self.headers["Authorization"].encode() + b"\r\n\r\n"
                )
                self.hang_up()
            case "busy":
                self.reply(429, b"too many", {"Retry-After": "0"})
            case dict() as document:
                self.reply(200, json.dumps(document).encode())
            case bytes() as raw:
                self.reply(200, raw)

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reply(self, status, content, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def photo_of(body):
    """The data URL of the photo that is asked about; None without one."""
    content = body["messages"][-1]["content"]
    parts = content if isinstance(content, list) else []
    return next((part["image_url"]["url"] for part in parts if part["type"] == "image_url"), None)


def answer_to(body):
    """A summary in plain words that belongs to the photo and to nothing else."""
    return f"照片{hashlib.sha256((photo_of(body) or '').encode()).hexdigest()[:12]}"


def completion(text, *, choices=1, finish_reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 7, "completion_tokens": len(text or "")}
    return {"object": "chat.completion", "choices": [choice] * choices, "usage": usage}


@contextmanager
def serving(*arguments, **options):
    server = ChatServer(*arguments, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        thread.join()
