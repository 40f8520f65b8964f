"""The file of a failed run, and the webhook that hears of it: a real HTTP server on loopback."""

import json
import logging
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from stage_a_pipeline import webhook
from stage_a_pipeline.incidents import FailedStep, Incident, to_json, write_incident
from stage_a_pipeline.webhook import ATTEMPTS, post

WHEN = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
OURS = FailedStep(
    "image_groups", "DiscoveryError: no folder 挡风板 in /photos; set discovery.input_root", (), True
)


def incident(**changed):
    told = {
        "run_id": "abc-123",
        "job": "stage_a_mission",
        "time": WHEN,
        "missions": ("挡风板安装检查",),
        "steps": (OURS,),
        "failed_checks": (),
        "message": "Steps failed: ['image_groups'].",
        "run_url": "http://127.0.0.1:3000/runs/abc-123",
    }
    return Incident(**{**told, **changed})


def written(tmp_path, **changed):
    return write_incident(tmp_path, incident(**changed)).read_text("utf-8")


def test_the_file_tells_what_failed_where_and_what_to_do(tmp_path):
    text = written(tmp_path, log=tmp_path / "logs")
    assert (tmp_path / "20261123T010203Z-abc-123.md").exists()
    for told in (
        "挡风板安装检查: run failed",
        "image_groups",
        "set discovery.input_root",
        "/runs/abc-123",
        "logs",
    ):
        assert told in text
    assert "Do what the message above says." in text


def test_a_run_is_written_down_once(tmp_path):
    assert write_incident(tmp_path, incident()) is not None
    assert write_incident(tmp_path, incident()) is None


def test_words_of_files_and_models_mean_nothing_to_markdown_or_a_terminal(tmp_path):
    step = FailedStep("summarise_shard", "bad\x1b[31m\n# Not a heading\n```", ("<script>",))
    text = written(tmp_path, steps=(step,))
    assert "\x1b" not in text
    assert "\n# Not" not in text
    assert "    <script>" in text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"steps": ()}, "look for a restart, a kill"),
        ({"failed_checks": ("counts_agree of stage_a_jsonl: do this",)}, "Do what the check above says."),
        ({"steps": (FailedStep("merge", "KeyError: 'x'", ("File a.py",)),)}, "no error that was foreseen"),
    ],
)
def test_what_to_do_follows_from_what_failed(tmp_path, changed, told):
    assert told in written(tmp_path, **changed)


class Hook:
    """A server that answers as it is told, and keeps what it was sent."""

    def __init__(self):
        self.answers, self.received = [], []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.received.append((self.path, json.loads(body)))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *told):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return SecretStr(f"http://127.0.0.1:{self.server.server_port}/hook/s3cret?token=s3cret")

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(webhook, "_FIRST_WAIT", 0)


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.close()


def send(url):
    return post(url, to_json(incident(), None))


def test_the_webhook_is_sent_the_incident_as_json(hook):
    assert send(hook.url) is None
    ((path, body),) = hook.received
    assert path == "/hook/s3cret?token=s3cret"
    assert body["missions"] == ["挡风板安装检查"]
    assert body["run_url"] == "http://127.0.0.1:3000/runs/abc-123"
    assert body["text"].startswith("挡风板安装检查 failed: DiscoveryError: no folder")


def test_a_webhook_that_is_busy_is_asked_again(hook):
    hook.answers = [503, 429]
    assert send(hook.url) is None
    assert len(hook.received) == ATTEMPTS == 3


@pytest.mark.parametrize(("answers", "asked"), [([404], 1), ([500, 500, 500], 3), ([302], 1)])
def test_a_webhook_that_refuses_is_told_without_its_secrets(hook, answers, asked):
    hook.answers = list(answers)
    refusal = send(hook.url)
    assert refusal == f"the webhook on 127.0.0.1 answered {answers[-1]}"
    assert len(hook.received) == asked


def test_a_webhook_that_is_down_is_told_without_its_secrets(hook, caplog):
    url = hook.url
    hook.close()
    with caplog.at_level(logging.DEBUG):
        assert send(url) == "the webhook on 127.0.0.1 cannot be reached (ConnectError)"
    assert "s3cret" not in caplog.text


def test_no_log_shows_the_url_that_was_asked(hook, caplog):
    with caplog.at_level(logging.DEBUG):
        assert send(hook.url) is None
    assert "s3cret" not in caplog.text
