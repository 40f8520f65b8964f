"""Whole missions by servers: over real connections, with faults, and with the real thing."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner

import stage_a_pipeline
from stage_a_pipeline.cli import main
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.errors import ServerError, StageAError
from stage_a_pipeline.jsonl import output_paths, read_records
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.defs.conftest import materialiser
from tests.engines.chat_server import answer_to, completion, photo_of, serving
from tests.engines.transformers_server import transformers_serving

CHECKPOINT = f"{next(iter(stage_a_pipeline.__path__))}/demo/checkpoint"


def by(server, **engine):
    """Settings of the engine for that server."""
    return {
        "engine": "openai",
        "server_urls": [server.url],
        "server_model": "qwen",
        "server_attempts": 2,
        "server_patience_seconds": 1.0,
        **engine,
    }


@pytest.fixture
def root(tmp_path):
    return write_groups(tmp_path / "in", MISSION, {"fail": [3, 1], "pass": [2]})


def records(folder):
    return list(read_records(output_paths(folder / "out", MISSION).jsonl))


def test_every_photo_gets_the_server_s_answer_to_it(tmp_path, root):
    with serving() as server:
        materialiser(tmp_path)(root, engine=by(server))
    said = sorted(answer_to(body) for body in server.asked)
    assert sorted(text for record in records(tmp_path) for text in record.summaries) == said
    assert len(set(said)) == 6


def test_a_photo_that_no_server_can_answer_costs_its_group_alone(tmp_path, root):
    with serving() as server:
        bad = []

        def behave(number, body):
            if number == 0:
                bad.append(photo_of(body))
            return 500 if photo_of(body) in bad else "ok"

        server.behave = behave
        result = materialiser(tmp_path)(root, engine=by(server), inference={"max_failed_fraction": 0.5})
    assert result.success
    assert len(records(tmp_path)) == 2
    (line,) = output_paths(tmp_path / "out", MISSION).rejected.read_text("utf-8").splitlines()
    rejected = json.loads(line)
    assert rejected["reason"] == "engine_error"
    assert "status 500" in rejected["detail"]


def test_an_answer_that_is_cut_is_asked_for_once_more_with_twice_the_tokens(tmp_path, root):
    def behave(_number, body):
        cut = body["max_tokens"] == 64
        return completion(answer_to(body), finish_reason="length" if cut else "stop")

    with serving(behave) as server:
        materialiser(tmp_path)(root, engine=by(server, max_new_tokens=64))
    assert sorted(body["max_tokens"] for body in server.asked) == [64] * 6 + [128] * 6
    assert len(records(tmp_path)) == 3


def test_servers_that_die_stop_the_run_and_the_next_asks_for_the_rest_only(tmp_path, root):
    with serving() as server:
        server.behave = lambda number, _body: "ok" if number < 4 else 503
        with pytest.raises(StageAError, match="run again: finished photos are kept") as error:
            materialiser(tmp_path)(root, engine=by(server, batch_size=4))
        assert isinstance(error.value, ServerError)
        assert not output_paths(tmp_path / "out", MISSION).jsonl.exists()
        answered = [photo_of(body) for body in server.asked[:4]]
        server.behave = lambda _number, _body: "ok"
        del server.asked[:]
        materialiser(tmp_path)(root, engine=by(server))
        assert len(server.asked) == 2, "besides, no photo was given up when the servers died"
        assert not set(map(photo_of, server.asked)) & set(answered)
    assert len(records(tmp_path)) == 3


@pytest.mark.parametrize("status", [401, 500])
def test_the_key_is_sent_and_written_nowhere(tmp_path, root, monkeypatch, status):
    key = "sk-never-to-be-seen"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    settings = tmp_path / "settings.toml"
    with serving() as server:
        server.behave = lambda number, _body: "ok" if number < 2 else status
        settings.write_text(
            '[discovery]\ninput_root = "in"\n[output]\noutput_dir = "out"\n'
            f'[engine]\nengine = "openai"\nserver_urls = ["{server.url}"]\nserver_model = "qwen"\n'
            "batch_size = 1\nserver_attempts = 1\nserver_patience_seconds = 0.2\n"
        )
        command = ["materialize", "--mission", MISSION, "--settings", str(settings), "--verbose"]
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        assert server.headers[0]["Authorization"] == f"Bearer {key}"
    assert key not in done.output
    assert f"status {status}" in done.output
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in written if key.encode() in path.read_bytes()] == []


def test_no_device_is_leased_so_that_runs_by_servers_never_wait_for_each_other(tmp_path):
    roots = [write_groups(tmp_path / mission, mission, {"pass": [2]}) for mission in (MISSION, BRACKETS)]
    with serving(slowness=0.3) as server, ThreadPoolExecutor(2) as pool:
        for mission, root in zip((MISSION, BRACKETS), roots, strict=True):
            pool.submit(materialiser(tmp_path), root, mission, engine=by(server))
    assert server.most_at_once > 2
    assert not (tmp_path / "leases").exists()


def test_what_goes_out_is_recorded_where_inputs_are_verified(tmp_path, root):
    with serving() as server:
        materialiser(tmp_path)(root, engine=by(server, verify_inputs=True))
    (recorded,) = (tmp_path / "out" / "work" / "inputs" / MISSION).glob("*.jsonl")
    assert len(re.findall('"rgb_sha256": "[0-9a-f]{64}"', recorded.read_text("utf-8"))) >= 4


def test_transformers_serve_gives_the_bytes_of_our_own_engine(tmp_path):
    root = tmp_path / "rendered"
    write_demo_tree(root, missions=[BRACKETS], groups=3, seed=78)
    ours, served = tmp_path / "ours", tmp_path / "served"
    materialiser(ours)(root, BRACKETS, engine={"engine": "refill", "max_new_tokens": 256})
    with transformers_serving(CHECKPOINT, tmp_path / "server.log") as url:
        engine = {
            "engine": "openai",
            "server_urls": [url],
            "server_model": CHECKPOINT,
            "server_dialect": "transformers",
            # Those of the checkpoint, so that the server need not resize.
            "server_min_pixels": 40_000,
            "max_pixels": 53_248,
            "max_new_tokens": 256,
        }
        materialiser(served)(root, BRACKETS, engine=engine)
    files = [
        [path.read_bytes() for path in (paths.jsonl, paths.rejected)]
        for paths in (output_paths(folder / "out", BRACKETS) for folder in (ours, served))
    ]
    assert files[0] == files[1]
    assert files[0][0].count(b"\n") == 3
