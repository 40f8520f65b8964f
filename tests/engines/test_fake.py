import json
import subprocess
import sys

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.engines.base import GenerationOptions, Request, check_answers
from stage_a_pipeline.engines.fake import FAULT_KINDS, FakeBehaviour, FakeEngine, Fault, load_behaviour
from stage_a_pipeline.errors import (
    ConfigurationError,
    EngineContractError,
    EngineError,
    EngineOutOfMemoryError,
)
from stage_a_pipeline.prompts import Prompt

GREEDY = GenerationOptions(max_new_tokens=64)


def request(name, colour):
    return Request(name, Pillow.new("RGB", (64, 64), colour), Prompt("s", "u"))


def test_answers_depend_on_the_pixels_alone():
    engine = FakeEngine()
    first, second, other = engine.generate(
        [request("a", "red"), request("b", "red"), request("c", "blue")], GREEDY
    )
    assert first.text == second.text != other.text
    assert [first.id, second.id, other.id] == ["a", "b", "c"]


def test_answers_are_canonical_summaries():
    engine = FakeEngine()
    requests = [request(str(i), (i, 2 * i, 255 - i)) for i in range(100)]
    for completion in engine.generate(requests, GREEDY):
        clean = clean_summary(completion.text)
        assert clean.text == completion.text
        assert defect(clean) is None


@pytest.mark.parametrize("kind", ["error", "out_of_memory"])
def test_a_batch_with_a_faulty_photo_raises(kind):
    engine = FakeEngine(FakeBehaviour(faults=(Fault("*bad*", kind),)))
    expected = EngineOutOfMemoryError if kind == "out_of_memory" else EngineError
    with pytest.raises(expected):
        engine.generate([request("good", "red"), request("bad", "blue")], GREEDY)
    assert len(engine.generate([request("good", "red")], GREEDY)) == 1


def test_a_fault_strikes_as_often_as_told():
    engine = FakeEngine(FakeBehaviour(faults=(Fault("a", "empty", times=1),)))
    texts = [engine.generate([request("a", "red")], GREEDY)[0].text.strip() for _ in range(3)]
    assert texts[0] == ""
    assert texts[1] == texts[2] != ""


@pytest.mark.parametrize("kind", ["too_few", "too_many", "reordered"])
def test_answers_that_break_the_contract_do_not_match_the_requests(kind):
    engine = FakeEngine(FakeBehaviour(faults=(Fault("a", kind),)))
    requests = [request("a", "red"), request("b", "blue")]
    with pytest.raises(EngineContractError):
        check_answers(requests, engine.generate(requests, GREEDY))
    check_answers(requests[1:], engine.generate(requests[1:], GREEDY))


def test_what_was_asked_is_written_down_before_it_is_answered(tmp_path):
    behaviour = FakeBehaviour(asked_file=tmp_path / "asked.txt", faults=(Fault("b", "error"),))
    FakeEngine(behaviour).generate([request("a", "red")], GREEDY)
    with pytest.raises(EngineError):
        FakeEngine(behaviour).generate([request("a", "red"), request("b", "blue")], GREEDY)
    assert (tmp_path / "asked.txt").read_text() == "a\na\nb\n"


@pytest.mark.parametrize("kind", ["empty", "truncated", "repetition", "invalid"])
def test_a_bad_answer_is_unusable(kind):
    engine = FakeEngine(FakeBehaviour(faults=(Fault("a", kind),)))
    completion = engine.generate([request("a", "red")], GREEDY)[0]
    assert completion.finish_reason == "length" or defect(clean_summary(completion.text)) is not None


def test_more_photos_than_fit_are_out_of_memory():
    engine = FakeEngine(FakeBehaviour(max_batch=1))
    with pytest.raises(EngineOutOfMemoryError, match="1 have room"):
        engine.generate([request("a", "red"), request("b", "red")], GREEDY)


def test_kill_ends_the_process():
    script = (
        "from stage_a_pipeline.engines.fake import *; from stage_a_pipeline.engines.base import *\n"
        "from stage_a_pipeline.prompts import Prompt; from PIL import Image\n"
        "engine = FakeEngine(FakeBehaviour(faults=(Fault('*', 'kill'),)))\n"
        "engine.generate([Request('a', Image.new('RGB', (9, 9)), Prompt('', ''))], GenerationOptions(8))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9


def test_behaviour_is_read_from_toml(tmp_path):
    path = tmp_path / "faults.toml"
    path.write_text(
        'seconds_per_batch = 0.5\nmax_batch = 3\nasked_file = "asked.txt"\n'
        '[[fault]]\nmatch = "*/a.jpg*"\nkind = "empty"\ntimes = 2\n'
    )
    assert load_behaviour(path) == FakeBehaviour(
        seconds_per_batch=0.5,
        max_batch=3,
        asked_file=tmp_path / "asked.txt",
        faults=(Fault("*/a.jpg*", "empty", 2),),
    )
    assert load_behaviour(None) == FakeBehaviour()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed = 3", "unknown key 'speed'; known: seconds_per_batch"),
        ('[[fault]]\nkind = "explode"', "fault kind must be one of error"),
        ('[[fault]]\nkind = "empty"\nwhen = 1', "unknown key 'when'"),
        ('[[fault]]\nkind = "empty"\ntimes = -1', "fault times"),
        ("fault = 3", "fault"),
        ('seconds_per_batch = "slow"', "seconds_per_batch"),
        ("asked_file = 3", "asked_file must be a path"),
        ("not toml", "is not valid TOML"),
    ],
)
def test_a_wrong_behaviour_file_names_file_and_key(tmp_path, text, message):
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_behaviour(path)
    assert str(path) in str(caught.value)


def test_every_documented_fault_kind_is_known():
    assert set(FAULT_KINDS) >= {
        "error",
        "out_of_memory",
        "kill",
        "empty",
        "truncated",
        "repetition",
        "too_few",
        "too_many",
    }
    assert json.dumps(FAULT_KINDS)
