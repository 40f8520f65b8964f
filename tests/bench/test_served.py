"""The benchmark of the served engine, against a real server."""

import json

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from tests.engines.chat_server import photo_of, serving


def bench(folder, url, *options, **engine):
    values = {"engine": "openai", "server_urls": [url], "server_model": "qwen", "batch_size": 4, **engine}
    settings = folder / "settings.toml"
    settings.write_text(
        "[engine]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
    )
    return CliRunner().invoke(main, ["bench", "served", "--settings", str(settings), *options])


def test_both_ask_for_the_same_photos_and_get_the_same_texts(tmp_path):
    figures = tmp_path / "figures.json"
    with serving(slowness=0.02) as server:
        options = (
            "--photos",
            "9",
            "--rounds",
            "2",
            "--width",
            "96",
            "--height",
            "64",
            "--json",
            str(figures),
        )
        done = bench(tmp_path, server.url, *options)
    assert done.exit_code == 0, done.output
    measured = json.loads(figures.read_text("utf-8"))
    assert (measured["photos"], measured["at_once"], len(measured["rounds"])) == (9, 4, 2)
    assert measured["same_text"] == 1.0
    assert measured["share"] == pytest.approx(
        sum(each["bare_seconds"] for each in measured["rounds"])
        / sum(each["shard_seconds"] for each in measured["rounds"])
    )
    asked = [photo_of(body) for body in server.asked]
    assert {asked.count(photo) for photo in asked} == {5}, "once to warm up, and twice in each round"
    assert len(set(asked)) == 9
    assert server.most_at_once == 4


def test_a_server_that_fails_is_told_in_one_sentence(tmp_path):
    with serving(lambda _number, _body: 500) as server:
        done = bench(tmp_path, server.url, "--photos", "2", "--rounds", "1")
    assert done.exit_code == 1
    assert "the bare client got no answer (HTTPStatusError" in done.output


def test_another_engine_is_refused(tmp_path):
    done = bench(tmp_path, "http://127.0.0.1:9", engine="fake")
    assert done.exit_code == 1
    assert "engine.engine must be 'openai'" in done.output
