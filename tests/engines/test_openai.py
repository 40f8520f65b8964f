"""The engine that asks servers: over real connections, with every fault a server can have."""

import socket
import ssl
import time
import traceback

import pytest
import trustme
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import (
    Completion,
    EngineFailure,
    GenerationOptions,
    Notice,
    Request,
    Unanswered,
)
from stage_a_pipeline.engines.openai import OpenAIEngine
from stage_a_pipeline.engines.server_exchange import api_root, seconds_to_rest
from stage_a_pipeline.errors import ConfigurationError, ServerError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings
from tests.engines.chat_server import answer_to, completion, photo_of, serving

GREEDY = GenerationOptions(max_new_tokens=64, repetition_penalty=1.05)
PROMPT = Prompt("规则", "请统计。")


@pytest.fixture
def connect():
    engines = []

    def connect(*servers, **settings):
        urls = tuple(server if isinstance(server, str) else server.url for server in servers)
        settings = {"server_attempts": 4, "server_patience_seconds": 5.0, "batch_size": 4, **settings}
        engine = OpenAIEngine(
            EngineSettings(engine="openai", server_model="qwen", server_urls=urls, **settings)
        )
        engines.append(engine)
        return engine

    yield connect
    for engine in engines:
        engine.close()


def request(engine, number, **options):
    image = Pillow.new("RGB", (64, 32), (number, 2 * number, 0))
    return Request(f"r{number}", engine.prepare(image), PROMPT, **options)


def requests(engine, count):
    return [request(engine, number) for number in range(count)]


def run(engine, requests, *, rows=4, options=GREEDY):
    """What becomes of each request when places are filled as soon as they are free."""
    batch, waiting, ended = engine.start_batch(rows), list(requests), {}
    while waiting or batch.open:
        while waiting and batch.room:
            batch.add(waiting.pop(0), options)
        ended.update((item.id, item) for item in batch.step() if not isinstance(item, Notice))
    return [ended[request.id] for request in requests]


def expected(request):
    return answer_to(
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": request.image.data_url}}]}]}
    )


def test_every_photo_gets_its_own_answer(connect):
    with serving(slowness=0.02) as server:
        engine = connect(server)
        asked = requests(engine, 12)
        answers = run(engine, asked)
    assert [answer.text for answer in answers] == [expected(request) for request in asked]
    assert (answers[0].prompt_tokens, answers[0].generated_tokens, answers[0].finish_reason) == (
        7,
        14,
        "stop",
    )
    assert server.most_at_once == 4
    assert server.connections <= 4, "connections are used again"


def test_the_photo_arrives_pixel_for_pixel(connect):
    import base64
    import io

    with serving() as server:
        engine = connect(server)
        image = Pillow.effect_noise((96, 64), 80).convert("RGB")
        run(engine, [Request("r", engine.prepare(image), PROMPT)])
    kind, _, data = photo_of(server.asked[0]).partition(",")
    assert kind == "data:image/png;base64"
    assert Pillow.open(io.BytesIO(base64.b64decode(data))).tobytes() == image.tobytes()


@pytest.mark.parametrize(
    ("dialect", "options", "expects"),
    [
        ("vllm", GREEDY, {"max_tokens": 64, "temperature": 0.0, "repetition_penalty": 1.05}),
        (
            "vllm",
            GenerationOptions(9, temperature=0.7, top_p=0.9, seed=5),
            {"max_tokens": 9, "temperature": 0.7, "top_p": 0.9, "seed": 5},
        ),
        (
            "transformers",
            GREEDY,
            {"max_tokens": 64, "temperature": 0.0, "generation_config": '{"repetition_penalty": 1.05}'},
        ),
        ("openai", GREEDY, {"max_completion_tokens": 64, "temperature": 0.0}),
    ],
)
def test_each_dialect_gets_what_it_understands(connect, dialect, options, expects):
    with serving() as server:
        engine = connect(server, server_dialect=dialect)
        run(engine, requests(engine, 1), options=options)
    body = dict(server.asked[0])
    messages = body.pop("messages")
    assert body == {"model": "qwen", **expects}
    assert messages[0] == {"role": "system", "content": "规则"}
    assert [part["type"] for part in messages[1]["content"]] == ["image_url", "text"]


def test_a_schema_is_sent_and_its_string_is_taken_off_the_quotes(connect):
    with serving(lambda _number, _body: completion('"无关图片"')) as server:
        engine = connect(server)
        (answer,) = run(engine, [request(engine, 1, grammar="bbu")])
    assert answer.text == "无关图片"
    schema = server.asked[0]["response_format"]["json_schema"]
    assert schema["name"] == "bbu_summary"
    assert "BBU设备" in str(schema)


@pytest.mark.parametrize("fault", ["drop", "cut", "no json", 429, 500, 502, 503, 408])
def test_what_may_pass_is_asked_again(connect, fault):
    with serving(lambda number, _body: fault if number in (1, 3) else "ok") as server:
        engine = connect(server)
        asked = requests(engine, 4)
        answers = run(engine, asked)
    assert [answer.text for answer in answers] == [expected(request) for request in asked]
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "fault",
    [
        "two", "none", "huge", 400, 413, 422, {"choices": "?"}, {}, {"error": "odd"}, b"[]", b"7",
        completion("", finish_reason="content_filter"),
        completion("", finish_reason=["stop"]),
        completion({"text": "x"}),
    ],
)  # fmt: skip
def test_a_photo_that_cannot_be_answered_costs_only_itself(connect, fault):
    with serving() as server:
        engine = connect(server)
        asked = requests(engine, 4)
        server.behave = lambda _number, body: fault if photo_of(body) == asked[2].image.data_url else "ok"
        answers = run(engine, asked)
    assert [type(answer) is Unanswered for answer in answers] == [False, False, True, False]
    assert answers[2].failure.reason == "engine_error"


def test_a_photo_over_which_a_server_always_fails_costs_only_itself_even_alone(connect):
    with serving() as server:
        engine = connect(server, server_attempts=2)
        bad = request(engine, 1)
        server.behave = lambda _number, body: 500 if photo_of(body) else "ok"
        (answer,) = run(engine, [bad])
    assert isinstance(answer, Unanswered)
    assert isinstance(answer.failure, EngineFailure)
    assert "told to fail" in answer.failure.detail


@pytest.mark.parametrize(
    "usage", [None, [1], {"prompt_tokens": "n/a"}, {"prompt_tokens": -5}, {"prompt_tokens": 3_000_000_000}]
)
def test_odd_counts_of_tokens_cost_no_answer(connect, usage):
    document = {**completion("照片"), "usage": usage}
    with serving(lambda _number, _body: document) as server:
        engine = connect(server)
        (answer,) = run(engine, requests(engine, 1))
    assert (answer.text, answer.prompt_tokens, answer.generated_tokens) == ("照片", 0, 0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "text", "text": "照"}, {"type": "text", "text": "片"}], "照片"),
        ("照\ud800片", "照?片"),
        ('"无关\\ud800"', "无关?"),
    ],
)
def test_odd_forms_of_a_text_are_read(connect, content, text):
    with serving(lambda _number, _body: completion(content)) as server:
        engine = connect(server)
        (answer,) = run(engine, requests(engine, 1))
    assert answer.text == text


@pytest.mark.parametrize("raw", [b'{"usage": Infinity}', b"[" * 100_000, b"\xff\xfe", b'{"choices": NaN}'])
def test_an_answer_that_is_no_document_costs_no_other(connect, raw):
    with serving() as server:
        engine = connect(server, server_attempts=2)
        asked = requests(engine, 4)
        server.behave = lambda _number, body: raw if photo_of(body) == asked[2].image.data_url else "ok"
        answers = run(engine, asked)
    assert [type(answer) is Unanswered for answer in answers] == [False, False, True, False]


def test_an_answer_that_trickles_is_given_up(connect):
    with serving(lambda number, _body: "trickle" if number == 0 else "ok") as server:
        engine = connect(server, server_timeout_seconds=0.5)
        started = time.monotonic()
        (answer,) = run(engine, asked := requests(engine, 1))
        assert time.monotonic() - started < 6
    assert answer.text == expected(asked[0])


def test_redirects_are_not_followed(connect):
    with serving(lambda _number, _body: "redirect") as server:
        engine = connect(server)
        with pytest.raises(ServerError, match="status 307"):
            run(engine, requests(engine, 1))


def test_a_server_that_has_room_for_few_loses_no_photo(connect):
    with serving(slowness=0.02) as server:
        server.behave = lambda _number, _body: "busy" if server.at_once > 2 else "ok"
        engine = connect(server, batch_size=16, server_attempts=1)
        asked = requests(engine, 32)
        answers = run(engine, asked, rows=16)
    assert [answer.text for answer in answers] == [expected(request) for request in asked]
    assert len(server.asked) < 100, "it is asked less at once, not again and again"


def test_a_server_that_never_has_room_stops_the_run(connect):
    with serving(lambda _number, _body: "busy") as server:
        engine = connect(server, server_patience_seconds=1.0)
        with pytest.raises(ServerError, match=r"no server has answered for 1 s .*status 429"):
            run(engine, requests(engine, 2))


def test_a_photo_that_one_server_fails_is_asked_of_another(connect):
    with serving(lambda _number, _body: 500) as bad, serving(slowness=0.05) as good:
        engine = connect(bad, good, server_attempts=2)
        asked = requests(engine, 12)
        answers = run(engine, asked)
    assert [answer.text for answer in answers] == [expected(request) for request in asked]


def test_servers_that_are_away_for_less_than_patience_cost_no_photo(connect):
    with serving() as server:
        gone = time.monotonic() + 2.5
        # The page of its health lives on, as that of a router does.
        server.behave = lambda number, _body: 503 if number > 1 and time.monotonic() < gone else "ok"
        engine = connect(server, server_attempts=1, server_patience_seconds=20.0)
        asked = requests(engine, 6)
        answers = run(engine, asked)
    assert [answer.text for answer in answers] == [expected(request) for request in asked]


def test_answers_beside_the_one_that_stops_the_run_are_kept(connect):
    with serving(slowness=0.1) as server:
        engine = connect(server)
        asked = requests(engine, 4)
        server.behave = lambda _number, body: 401 if photo_of(body) == asked[0].image.data_url else "ok"
        batch = engine.start_batch(4)
        for each in asked:
            batch.add(each, GREEDY)
        time.sleep(0.8)
        assert len([item for item in batch.step() if isinstance(item, Completion)]) == 3
        with pytest.raises(ServerError, match="status 401"):
            batch.step()


def test_people_hear_of_servers_that_are_left_out_and_back(connect):
    with serving() as server:
        server.behave = lambda number, _body: 500 if number < 3 else "ok"
        engine = connect(server)
        batch, told = engine.start_batch(1), []
        batch.add(request(engine, 1), GREEDY)
        while batch.open:
            told += [item.sentence for item in batch.step() if isinstance(item, Notice)]
    assert "left out until it answers again" in told[0]
    assert told[1] == f"server is asked again: {server.url}"


def test_a_plain_question_is_one_that_the_dialect_knows(connect):
    def behave(_number, body):
        return "ok" if "max_completion_tokens" in body and photo_of(body) is None else 400

    with serving(behave) as server:
        engine = connect(server, server_dialect="openai")
        (answer,) = run(engine, requests(engine, 1))
    assert isinstance(answer, Unanswered)
    assert set(server.asked[-1]) == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize("fault", ["echo", "echo late", "broken header"])
@pytest.mark.parametrize("key", ["sk-secret-of-ours", "sk/secret-of-ours"])
def test_whatever_repeats_the_key_it_is_not_told(connect, monkeypatch, fault, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with serving(lambda _number, _body: fault) as server:
        engine = connect(server, server_attempts=1, server_patience_seconds=0.2)
        try:
            (answer,) = run(engine, requests(engine, 1))
            told = answer.failure.detail
        except ServerError as error:
            told = "".join(traceback.format_exception(error))
    assert "secret-of-ours" not in told
    assert "secret-of" not in told


def test_a_finish_reason_that_repeats_the_key_is_not_told(connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    document = completion("", finish_reason="Bearer sk-secret refused")
    with serving(lambda _number, body: document if photo_of(body) else "ok") as server:
        engine = connect(server)
        (answer,) = run(engine, requests(engine, 1))
    assert "***" in answer.failure.detail
    assert "sk-secret" not in answer.failure.detail


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None), ("5", 5.0), ("0.5", 0.5), ("12345678", 120.0), ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("Fri, 31 Dec 2199 23:59:59 GMT", 120.0),
    ],
)  # fmt: skip
def test_servers_say_for_how_long_they_rest(said, seconds):
    assert seconds_to_rest(said) == seconds


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("http://h/v1/", "http://h/v1"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4"),
    ],
)
def test_a_url_names_the_version_or_gets_the_first(url, root):
    assert api_root(url) == root


@pytest.mark.parametrize(
    ("variable", "value"), [("SSL_CERT_FILE", "/nowhere.pem"), ("ALL_PROXY", "socks9://127.0.0.1:9")]
)
def test_an_environment_that_allows_no_connection_is_named(connect, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        connect("http://127.0.0.1:9")


def test_servers_that_answer_nothing_stop_the_run(connect):
    with serving(lambda _number, _body: 500) as server:
        engine = connect(server, server_attempts=2, server_patience_seconds=0.5)
        with pytest.raises(ServerError, match="run again: finished photos are kept"):
            run(engine, requests(engine, 3))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_concerns_all_stops_the_run_at_once(connect, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    echo = {"status": status}
    with serving(lambda _number, _body: echo["status"]) as server:
        engine = connect(server)
        with pytest.raises(ServerError, match=r"correct engine\.server_urls") as error:
            run(engine, requests(engine, 3))
    assert "sk-secret" not in str(error.value)
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert len(server.asked) <= 3


def test_a_server_that_is_not_there_is_named(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = connect(f"http://127.0.0.1:{port}", server_patience_seconds=0.5, server_attempts=2)
    with pytest.raises(ServerError, match=f"no server has answered for 0.5 s .*127.0.0.1:{port}/v1"):
        run(engine, requests(engine, 2))


def test_requests_are_spread_and_a_dead_server_is_left_out_and_found_again(connect):
    with serving(slowness=0.02) as lives:
        with serving(slowness=0.02) as dies:
            engine = connect(lives, dies)
            run(engine, requests(engine, 12))
            assert 4 <= len(dies.asked) <= 8
            port = dies.server_port
        answers = run(engine, asked := [request(engine, number) for number in range(20, 32)])
        assert [answer.text for answer in answers] == [expected(request) for request in asked]
        with serving(slowness=0.02, port=port) as back:
            deadline = time.monotonic() + 20
            while not back.asked and time.monotonic() < deadline:
                run(engine, requests(engine, 4))
            assert back.asked


def test_a_server_that_hangs_is_asked_no_longer_than_told(connect):
    with serving(lambda number, _body: "hang" if number == 0 else "ok") as server:
        engine = connect(server, server_timeout_seconds=0.5)
        asked = requests(engine, 1)
        started = time.monotonic()
        answers = run(engine, asked)
        assert time.monotonic() - started < 10
    assert answers[0].text == expected(asked[0])


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def test_a_server_whose_certificate_nobody_vouches_for_is_not_asked(connect, tls):
    with serving(tls=tls) as server:
        engine = connect(server, server_attempts=1, server_patience_seconds=0.2)
        with pytest.raises(ServerError, match="CERTIFICATE_VERIFY_FAILED"):
            run(engine, requests(engine, 1))
    assert server.asked == []


def test_an_authority_of_one_s_own_is_named_by_the_environment(
    connect, tls, authority, tmp_path, monkeypatch
):
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with serving(tls=tls) as server:
        engine = connect(server)
        (answer,) = run(engine, asked := requests(engine, 1))
    assert answer.text == expected(asked[0])


def test_a_key_from_a_file_is_taken_without_its_line_end(connect, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    with serving() as server:
        engine = connect(server)
        run(engine, requests(engine, 1))
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("key", ["sk-密钥", "sk one", "sk\nX-Other: 1"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(connect, monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as error:
        connect("http://127.0.0.1:9")
    assert key not in str(error.value)


def test_closing_gives_up_what_is_under_way(connect):
    with serving(lambda _number, _body: "hang") as server:
        engine = connect(server)
        batch = engine.start_batch(4)
        batch.add(request(engine, 1), GREEDY)
        assert batch.step() == []
        started = time.monotonic()
        engine.close()
        assert time.monotonic() - started < 5
        engine.close()
