"""A peer is asked over a real connection, and its faults are told in one sentence."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner

from stage_a_pipeline.bench.endpoint import Endpoint, ask_endpoint
from stage_a_pipeline.bench.photo_files import photo_path, write_photos
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.cli import main
from stage_a_pipeline.errors import ConfigurationError, StageAError
from stage_a_pipeline.prompts import Prompt

PHOTOS = tuple(PlannedPhoto(group, 1, (96, 64), tokens) for group, tokens in ((1, 9), (2, 12), (3, None)))


class Server(ThreadingHTTPServer):
    """Answers every photo with the number of its bytes, as soon as `at_once` of them are asked."""

    def __init__(self, *, at_once: int = 1):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict, str | None]] = []
        self.gathered = threading.Barrier(at_once, timeout=20)
        self.reply: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers["Authorization"]))
        self.server.gathered.wait()
        url = body["messages"][1]["content"][0]["image_url"]["url"]
        size = len(base64.b64decode(url.removeprefix("data:image/jpeg;base64,")))
        answer = {
            "choices": [{"message": {"content": f"{size}"}}],
            "usage": {"completion_tokens": body["max_tokens"]},
        }
        status, text = self.server.reply or (200, json.dumps(answer))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass


@pytest.fixture
def start():
    servers = []

    def start(**options):
        server = Server(**options)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, PHOTOS, seed=1)
    return root


def ask(server, root, *, at_once=1, suffix=""):
    endpoint = Endpoint(server.url + suffix, "qwen")
    prompt = Prompt("规则", "请统计。")
    return ask_endpoint(endpoint, prompt, PHOTOS, root, at_once=at_once, max_new_tokens=40)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_every_photo_is_asked_with_its_bytes_prompt_and_length(start, root, monkeypatch, suffix):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = start()
    run = ask(server, root, suffix=suffix)
    sizes = [str(photo_path(root, photo).stat().st_size) for photo in PHOTOS]
    assert [answer.text for answer in run.answers] == sizes
    assert [answer.tokens for answer in run.answers] == [9, 12, 40]
    path, body, key = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("qwen", 0, 9)
    assert body["messages"][0] == {"role": "system", "content": "规则"}
    assert body["messages"][1]["content"][1] == {"type": "text", "text": "请统计。"}
    assert run.wall_seconds > 0
    assert (run.cpu_seconds, run.work, run.peak_memory_mb) == (None, None, None)


def test_so_many_photos_are_asked_at_once(start, root):
    # The server answers nobody before all three have asked.
    assert len(ask(start(at_once=3), root, at_once=3).answers) == 3


def test_without_a_key_none_is_sent(start, root, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = start()
    ask(server, root)
    assert {key for _, _, key in server.asked} == {None}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((404, "no such model"), "status 404: no such model"),
        ((200, "<html>"), "no JSON"),
        ((200, '{"error": 1}'), "no chat completion"),
        ((200, "[]"), "no chat completion"),
    ],
)
def test_a_bad_answer_is_one_sentence_without_the_key(start, root, monkeypatch, reply, words):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = start()
    server.reply = reply
    with pytest.raises(StageAError, match=words) as raised:
        ask(server, root)
    assert server.url in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_server_that_is_not_there_is_one_sentence(start, root):
    server = start()
    server.shutdown()
    server.server_close()
    with pytest.raises(StageAError, match="does not answer"):
        ask(server, root)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", ""])
def test_anything_but_http_is_refused(url):
    with pytest.raises(ConfigurationError, match="must begin with http"):
        Endpoint(url, "qwen")


def test_the_command_sets_a_peer_beside_our_engines(start, tmp_path):
    rows = tmp_path / "rows.json"
    arguments = ["--shape", "tiny", "--photos", "2", "--engines", "refill", "--json", str(rows)]
    peer = ["--endpoint", start(at_once=2).url, "--endpoint-model", "qwen"]
    done = CliRunner().invoke(main, ["bench", "engines", *arguments, *peer])
    assert done.exit_code == 0, done.output
    ours, theirs = json.loads(rows.read_text("utf-8"))
    assert (ours["engine"], theirs["engine"]) == ("refill", "endpoint")
    assert theirs["photos_per_second"] > 0
    assert theirs["tokens_per_second"] > theirs["photos_per_second"]
    unknown = ("photos_per_cpu_second", "batch_fill", "wasted_row_steps", "padding_share", "peak_memory_mb")
    assert {theirs[key] for key in (*unknown, "device_wait_share", "same_text_as_single")} == {None}
