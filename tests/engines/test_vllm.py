"""The real vLLM with the built-in checkpoint: answers of the other engines, and what a dying one costs.

`make test-vllm` runs this in an environment of its own.
"""

import shutil
from dataclasses import replace

import psutil
import pytest

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.engines import load_engine
from stage_a_pipeline.engines.base import EngineFailure, GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.vllm_arguments import installed_version
from stage_a_pipeline.errors import CheckpointError, ConfigurationError, EngineDiedError, EngineError
from stage_a_pipeline.inference.asking import Listeners
from stage_a_pipeline.inference.batching import Budget
from stage_a_pipeline.inference.in_flight import InFlight
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings
from tests.conftest import BRACKETS, MISSION, write_groups
from tests.defs.conftest import materialiser
from tests.engines.conftest import OPTIONS
from tests.engines.running import check_own_options, run
from tests.faults.conftest import Workplace, finish, gone, wait_until, workers_of


def reason_to_skip() -> str:
    try:
        installed_version()
    except ConfigurationError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip()),
    # A vLLM that answers nobody says nothing either. Half a minute is what it takes to start.
    pytest.mark.timeout(400),
]
# What the waits of a whole run add up to.
of_a_run = pytest.mark.timeout(900)

SETTINGS = EngineSettings(engine="vllm", batch_size=16, structured_output=True)


@pytest.fixture(scope="module")
def engine():
    engine = load_engine(SETTINGS, "cpu")
    yield engine
    engine.close()


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_every_answer_is_that_of_generate_photo_by_photo(engine, requests, singles, rows):
    done, _ = run(engine, requests, rows=rows)
    assert [done[request.id] for request in requests] == singles


def test_answers_come_while_others_go_on_and_newcomers_join_them(engine, requests, singles):
    batch = engine.start_batch(4)
    waiting, done, joined = list(requests), {}, 0
    while waiting or batch.open:
        joined += bool(done and batch.open and waiting)
        while waiting and batch.room:
            batch.add(waiting.pop(0), OPTIONS)
        done |= {completion.id: completion for completion in batch.step()}
    assert [done[request.id] for request in requests] == singles
    assert joined >= 4, "whoever has ended made room for the next one at once"
    assert batch.usage.filled > 0.6 * batch.usage.places


def test_every_row_has_options_of_its_own(engine, static_engine, requests):
    check_own_options(engine, static_engine, requests)


def test_text_before_the_photo_is_asked_so(engine, static_engine, requests):
    turned = [
        replace(request, prompt=replace(request.prompt, text_before_image=True)) for request in requests
    ]
    assert engine.generate(turned, OPTIONS) == [static_engine.generate([one], OPTIONS)[0] for one in turned]


def test_a_grammar_holds_answers_to_summaries(engine, static_engine, requests):
    # At this heat the model would say anything.
    hot = GenerationOptions(max_new_tokens=600, temperature=2.0, seed=5)
    held = [replace(request, grammar="bbu") for request in requests[:6]]
    ended = [done for done in engine.generate(held, hot) if done.finish_reason == "stop"]
    assert len(ended) >= 3
    assert all(defect(clean_summary(done.text)) is None for done in ended)
    free = engine.generate(requests[:6], hot)
    assert any(defect(clean_summary(done.text)) for done in free), "or this shows nothing"
    assert engine.generate(held, OPTIONS) == [static_engine.generate([one], OPTIONS)[0] for one in held]


def test_a_sampled_answer_depends_on_its_seed_and_its_photo_alone(engine, requests):
    sampling = GenerationOptions(max_new_tokens=24, temperature=2.0, top_p=0.98, seed=1)
    alone = [engine.generate([request], sampling)[0] for request in requests[:3]]
    together = engine.generate(requests[:3], sampling)
    assert [done.text for done in together] == [done.text for done in alone]
    other = engine.generate(requests[:3], replace(sampling, seed=2))
    assert [done.text for done in other] != [done.text for done in alone]


def test_photos_reach_the_model_in_our_size(engine, static_engine, requests):
    """Thin ones as well, which our sizes let grow beyond the checkpoint's range."""
    thin = replace(requests[0], image=requests[0].image.resize(engine.target_size(512, 64, max_pixels=10**6)))
    assert engine.trace_inputs([*requests, thin]) == static_engine.trace_inputs([*requests, thin])


def test_a_request_that_is_too_long_costs_nobody_but_itself(engine, requests, singles):
    text = "请看图。" * 4000
    endless = Request("endless", requests[0].image, Prompt("系统", text))
    asked = [*requests[:4], endless, *requests[4:8]]
    in_flight = InFlight(engine, Budget(16), OPTIONS, ShardMetrics(), listeners=Listeners())
    for request in asked:
        in_flight.add(request)
    results = {}
    while in_flight:
        results |= {result.request_id: result.answer for result in in_flight.step()}
    failure = results.pop("endless")
    assert isinstance(failure, EngineFailure)
    assert "vllm_max_model_len" in failure.detail
    # Short answers are asked for again in a run; the first words are what counts here.
    assert {name: answer.prompt_tokens for name, answer in results.items()} == {
        single.id: single.prompt_tokens for single in singles[:8]
    }


def test_a_request_that_is_refused_leaves_the_engine_usable(engine, requests, singles):
    strange = replace(requests[0], id="strange", prompt=Prompt("系统", "请看<|image_pad|>"))
    with pytest.raises(EngineError, match="the prompt has 2 places for a photo"):
        engine.generate([requests[1], strange], OPTIONS)
    # Past our own checks, so that vLLM itself refuses.
    with pytest.raises(EngineError, match="temperature must be in"):
        engine.generate([requests[1]], GenerationOptions(max_new_tokens=5, temperature=4.0))
    assert engine.generate(requests[:2], OPTIONS) == singles[:2]


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """The built-in checkpoint without what its layers compute: it says its prompt's last token for ever."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("endless")
    shutil.copytree(resolve_checkpoint("builtin").folder, folder, dirs_exist_ok=True)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if "language_model.layers" in name and ("o_proj" in name or "down_proj" in name):
            weight.zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_endless_answers_are_cut_and_a_killed_engine_process_is_told_as_that(endless, requests):
    """One after the other, for the half minute that vLLM takes to start."""
    before = set(psutil.Process().children(recursive=True))
    engine = load_engine(EngineSettings(engine="vllm", checkpoint=endless, batch_size=4), "cpu")
    started = set(psutil.Process().children(recursive=True)) - before
    options = GenerationOptions(max_new_tokens=400)
    ends = [(done.finish_reason, done.generated_tokens) for done in engine.generate(requests[:4], options)]
    assert ends == [("repetition", 256)] * 4

    batch = engine.start_batch(4)
    for request in requests[:4]:
        batch.add(request, replace(options, max_new_tokens=2000, repetition_stop=False))
    engine_process().kill()
    with pytest.raises(EngineDiedError, match="engine process ended"):
        finish_batch(batch)
    assert len(batch.open) == 4
    engine.close()
    engine.close()
    # Python's tracker of resources belongs to the process, and lives as long.
    wait_until(lambda: gone([one for one in started if "tracker" not in " ".join(command(one))]), "the end")


def finish_batch(batch):
    while batch.open:
        batch.step()


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def engine_process(parent: psutil.Process | None = None) -> psutil.Process:
    """The last process of vLLM's engine that was started by this process, or by another one."""
    children = (parent or psutil.Process()).children()
    return [one for one in children if one.name().startswith("VLLM::EngineCor")][-1]


def test_what_vllm_cannot_start_with_is_told_with_the_checkpoint(monkeypatch):
    impossible = EngineSettings(engine="vllm", vllm_max_model_len=1 << 20)
    with pytest.raises(CheckpointError, match=r"vLLM does not start on cpu with checkpoint .*1048576"):
        load_engine(impossible, "cpu")
    with pytest.raises(ConfigurationError, match="device cuda:0 needs the package vllm"):
        load_engine(EngineSettings(engine="vllm", devices=("cuda:0",)), "cuda:0")


@of_a_run
def test_a_mission_ends_in_the_bytes_of_the_other_engines(tmp_path):
    root = tmp_path / "photos"
    write_demo_tree(root, missions=[BRACKETS], groups=8, seed=77, broken=1)
    published = []
    for name in ("refill", "vllm"):
        settings = {"engine": name, "batch_size": 8, "max_new_tokens": 256, "verify_inputs": True}
        result = materialiser(tmp_path / name)(
            root, BRACKETS, engine=settings, inference={"worker_processes": True}
        )
        assert result.success
        paths = output_paths(tmp_path / name / "out", BRACKETS)
        published.append([path.read_bytes() for path in (paths.jsonl, paths.rejected)])
    assert published[0] == published[1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two hundred photos for vLLM, one by one, so that there is a middle in which to kill it."""
    workplace = Workplace(tmp_path, monkeypatch)
    write_groups(workplace.root, MISSION, {"fail": [5] * 40})
    workplace.configure(engine={"engine": "vllm", "batch_size": 1})
    yield workplace
    workplace.clear_up()


@of_a_run
def test_an_engine_process_killed_in_a_run_is_replaced_and_nothing_is_asked_again(place):
    process = place.start()
    wait_until(lambda: place.journal.exists() and place.answers(), "answers", process, seconds=300)
    place.wait_for_answers(10, process)
    (worker,) = workers_of(process)
    engine_process(worker).kill()
    ended = finish(process, seconds=400)
    assert ended.code == 0, ended.output
    assert "the worker on cpu ended with code 1 (vLLM's engine process ended" in ended.output
    assert len(place.records()) == 40
    assert set(place.answers().values()) == {1}, "every photo was answered once"


@of_a_run
def test_a_killed_run_leaves_no_process_of_vllm(place):
    process = place.start()
    wait_until(lambda: place.journal.exists() and place.answers(), "answers", process, seconds=300)
    everybody = process.children(recursive=True)
    assert len(everybody) >= 3, "worker, engine, and the engine's own worker"
    process.kill()
    wait_until(lambda: gone(everybody), "the end of all of them", seconds=30)
