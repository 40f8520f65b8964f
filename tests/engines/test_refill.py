"""Rows that come and go: every row gets the static engine's tokens, whoever its neighbours are."""

import json
import math
import shutil
from dataclasses import replace
from random import Random

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.refill_policy import CPU
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.errors import EngineError, EngineOutOfMemoryError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS
from tests.engines.running import check_own_options, decoded_tokens, run


@pytest.fixture(scope="module")
def engine():
    engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    yield engine
    engine.close()


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 16])
def test_every_row_equals_its_single_run_in_any_order(engine, requests, singles, rows):
    order = Random(rows).sample(range(len(requests)), len(requests))
    done, _ = run(engine, [requests[place] for place in order], rows=rows)
    assert [done[request.id] for request in requests] == singles


def test_a_late_newcomer_changes_nobody_and_is_changed_by_nobody(engine, requests, singles):
    batch = engine.start_batch(16)
    done = []
    for request in requests:
        batch.add(request, OPTIONS)
        done += batch.step()
    while batch.open:
        done += batch.step()
    assert sorted(done, key=lambda completion: int(completion.id[1:])) == singles


@pytest.mark.parametrize("rows", [2, 4, 7])
def test_no_step_is_spent_on_a_row_that_has_ended_and_places_are_refilled_at_once(
    engine, requests, singles, rows
):
    _, batch = run(engine, requests, rows=rows)
    needed = decoded_tokens(singles)
    assert batch.usage.filled == sum(needed)
    assert batch.usage.places == batch.usage.steps * rows
    assert batch.usage.steps <= math.ceil(sum(needed) / rows) + max(needed)


def test_every_row_has_options_of_its_own(engine, static_engine, requests):
    check_own_options(engine, static_engine, requests)


def test_a_sampled_answer_depends_on_seed_and_id_but_not_on_its_neighbours(engine, requests):
    sampling = GenerationOptions(max_new_tokens=24, temperature=4.0, top_p=0.98, seed=1)
    drawn = requests[-6:]
    alone = [engine.generate([request], sampling)[0] for request in drawn]
    # The rows before them end early, so that these move.
    mixed = [replace(OPTIONS, max_new_tokens=4)] * 10 + [sampling] * 6
    done, _ = run(engine, requests, rows=16, options=mixed)
    assert [done[request.id].text for request in drawn] == [completion.text for completion in alone]
    renamed = [replace(request, id=f"other {request.id}") for request in drawn]
    assert [c.text for c in engine.generate(renamed, sampling)] != [c.text for c in alone]


def test_the_beginning_of_a_prompt_is_computed_once(engine, requests, monkeypatch):
    prefilled = []
    prefill = engine.forward.prefill

    def counted(cache, slots, tokens, positions, *, start=0, photos=None):
        prefilled.append((start, tokens.shape[1], photos is not None))
        return prefill(cache, slots, tokens, positions, start=start, photos=photos)

    monkeypatch.setattr(engine.forward, "prefill", counted)
    engine._newcomers.forget_texts()
    same = [replace(request, prompt=requests[0].prompt) for request in requests[:8]]
    engine.generate(same, OPTIONS)
    engine.generate(same, OPTIONS)
    beginnings = [tokens for start, tokens, _ in prefilled if start == 0]
    assert len(beginnings) == 1
    assert all(start == beginnings[0] for start, _, with_photo in prefilled if with_photo)
    assert sum(with_photo for *_, with_photo in prefilled) == 2 * 8


def test_a_request_that_fails_leaves_the_engine_usable_and_tells_who_was_under_way(engine, requests, singles):
    batch = engine.start_batch(8)
    odd = Request("odd", Pillow.new("RGB", (200, 150)), requests[0].prompt)
    for request in [*requests[:3], odd]:
        batch.add(request, OPTIONS)
    with pytest.raises(EngineError, match="200x150 pixels cannot be cut into squares of 32"):
        batch.step()
    assert {request.id for request, _ in batch.open} == {"r0", "r1", "r2", "odd"}
    assert engine.generate(requests[:3], OPTIONS) == singles[:3]


def test_a_lack_of_memory_is_its_own_error(engine, requests, monkeypatch):
    import torch

    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.forward, "decode", full)
    with pytest.raises(EngineOutOfMemoryError, match="CUDA out of memory"):
        engine.generate(requests[:2], OPTIONS)


@pytest.mark.parametrize(
    ("user", "places"), [("请看<|image_pad|>", 2), ("请看<|image_pad|><|image_pad|>", 3)]
)
def test_a_prompt_with_another_place_for_a_photo_is_an_error(engine, requests, user, places):
    request = replace(requests[0], prompt=Prompt("系统", user))
    with pytest.raises(EngineError, match=f"the prompt has {places} places for a photo.*chat_template"):
        engine.generate([request], OPTIONS)


def test_a_lack_of_memory_for_the_slots_is_its_own_error_too(engine, requests, monkeypatch):
    import torch

    def full(*_args, **_kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.forward, "empty_cache", full)
    batch = engine.start_batch(4)
    batch.add(requests[0], OPTIONS)
    with pytest.raises(EngineOutOfMemoryError):
        batch.step()


def test_nobody_is_open_twice_when_the_device_fails_between_two_newcomers(engine, requests, monkeypatch):
    from stage_a_pipeline.engines.next_token import NextToken

    entered = []
    enter = NextToken.enter

    def failing(self, row, options, prompt):
        entered.append(row)
        if len(entered) == 4:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        enter(self, row, options, prompt)

    monkeypatch.setattr(NextToken, "enter", failing)
    batch = engine.start_batch(8)
    for request in requests[:5]:
        batch.add(request, OPTIONS)
    with pytest.raises(EngineError, match="illegal memory access"):
        batch.step()
    assert sorted(request.id for request, _ in batch.open) == [f"r{place}" for place in range(5)]


def test_nothing_is_held_once_everybody_has_left(engine, requests):
    batch = engine.start_batch(4)
    batch.add(requests[0], OPTIONS)
    batch.step()
    assert batch._device_rows is None
    batch.add(requests[1], OPTIONS)
    assert [completion.id for completion in batch.step()] == ["r1"]


def test_infinite_states_of_one_photo_harm_nobody_who_takes_its_slot(engine, requests, monkeypatch):
    import torch

    pixel_values, bad_photo = engine.patches.pixel_values, engine.prepare(requests[0].image)

    def spoiled(photos):
        values = pixel_values(photos)
        return values * torch.inf if bad_photo in photos else values

    options = replace(OPTIONS, max_new_tokens=12)
    alone = {request.id: engine.generate([request], options)[0] for request in requests[1:6]}
    monkeypatch.setattr(engine.patches, "pixel_values", spoiled)
    bad = replace(requests[0], id="bad", image=bad_photo)
    long = replace(options, max_new_tokens=200, repetition_penalty=1.5)
    done, _ = run(
        engine,
        [requests[0], bad, *requests[1:6]],
        rows=2,
        options=[long, replace(options, max_new_tokens=3), *[options] * 5],
    )
    assert done["bad"].text == "!!!", "the photo's own answer is spoiled, or this test shows nothing"
    assert {name: done[name] for name in alone} == alone


@pytest.mark.parametrize(("lump", "taken"), [(1, 1), (4, 4), (9, 4)])
def test_room_is_reported_in_lumps_once_rows_are_under_way(engine, requests, monkeypatch, lump, taken):
    monkeypatch.setattr(engine, "policy", replace(CPU, lump=lump))
    batch = engine.start_batch(16)
    assert batch.room == 16
    for request in requests[:15]:
        batch.add(request, OPTIONS)
    assert batch.room == 1
    seen = set()
    while batch.open:
        batch.step()
        free = 16 - len(batch.open)
        seen.add(free)
        assert batch.room == (free if free >= taken or free == 16 else 0)
    assert min(seen) < 4, "a batch that never had few places free shows nothing"


def test_the_prompt_is_the_processor_s(engine, static_engine, requests):
    import torch

    for request in requests:
        expected = static_engine._inputs([request])
        newcomer = engine.newcomer(request, OPTIONS)
        assert newcomer.tokens.tolist() == expected["input_ids"][0].tolist()
        assert torch.equal(engine.patches.pixel_values([newcomer.photo]), expected["pixel_values"])
        assert newcomer.photo.image_grid_thw.tolist() == expected["image_grid_thw"].tolist()


@pytest.fixture(scope="module", params=[(8, 2, False), (6, 3, True)], ids=["untied", "tied"])
def grouped_heads(request, tmp_path_factory):
    """A random checkpoint of the shape of larger ones: fewer key heads than heads, two deepstack layers,
    more logits than tokens, and a generation_config that samples."""
    import torch
    from transformers import AutoConfig, Qwen3VLForConditionalGeneration

    heads, key_heads, tied = request.param
    builtin = resolve_checkpoint("builtin").folder
    folder = tmp_path_factory.mktemp("grouped")
    shutil.copytree(builtin, folder, dirs_exist_ok=True)
    config = AutoConfig.from_pretrained(builtin)
    config.tie_word_embeddings = tied
    for name, value in {
        "hidden_size": 192,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": 1500,
        # A wider spread than usual, so that answers depend on the photo.
        "initializer_range": 0.08,
        "tie_word_embeddings": tied,
    }.items():
        setattr(config.text_config, name, value)
    config.vision_config.out_hidden_size = 192
    config.vision_config.deepstack_visual_indexes = [0, 2]
    config.vision_config.initializer_range = 0.08
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(config).float().save_pretrained(folder)
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    (folder / "generation_config.json").write_text(json.dumps(sampling))
    return resolve_checkpoint(str(folder))


def test_a_checkpoint_of_another_shape_answers_as_generate_does(grouped_heads, requests):
    options = [replace(OPTIONS, max_new_tokens=4 + 9 * (place % 4)) for place in range(len(requests))]
    static = TransformersEngine(grouped_heads, EngineSettings(), "cpu")
    expected = [static.generate([request], its)[0] for request, its in zip(requests, options, strict=True)]
    assert len({completion.text for completion in expected}) > len(requests) / 2
    done, _ = run(RefillEngine(grouped_heads, EngineSettings(), "cpu"), requests, rows=5, options=options)
    assert [done[request.id] for request in requests] == expected


def test_an_answer_that_goes_in_circles_is_cut_alike_in_every_engine(requests):
    checkpoint = resolve_checkpoint("builtin")
    engines = [kind(checkpoint, EngineSettings(), "cpu") for kind in (TransformersEngine, RefillEngine)]
    for engine in engines:
        favourite = engine._processor.tokenizer("统")["input_ids"][-1]
        engine._model.lm_head.register_forward_hook(lambda _m, _a, logits, x=favourite: _favour(logits, x))
    options = replace(OPTIONS, max_new_tokens=320)
    static, refill = ([engine.generate(requests[:3], options)] for engine in engines)
    assert static == refill
    assert {(c.finish_reason, c.generated_tokens) for c in static[0]} == {("repetition", 256)}
    patient = replace(options, repetition_stop=False)
    for engine in engines:
        whole = engine.generate(requests[:1], patient)[0]
        assert (whole.finish_reason, whole.generated_tokens) == ("length", 320)


def test_an_answer_goes_in_circles_even_where_its_newest_character_is_not_complete(engine):
    tokenizer = engine._processor.tokenizer
    (piece,), (first, *_) = (tokenizer(text)["input_ids"] for text in ("a", "龘"))
    answer = [piece] * 255 + [first]
    assert tokenizer.decode(answer[-2:]) == "a\ufffd"
    assert engine.goes_in_circles(answer, OPTIONS)


def _favour(logits, token):
    logits[..., token] += 1000.0
    return logits


@pytest.mark.parametrize("rows", [1, 5])
def test_beginnings_that_are_computed_anew_change_no_answer(requests, singles, rows):
    settings = EngineSettings(prefix_reuse=False)
    engine = RefillEngine(resolve_checkpoint("builtin"), settings, "cpu")
    done, batch = run(engine, requests, rows=rows)
    assert [done[request.id] for request in requests] == singles
    assert batch.usage.tokens > sum(completion.prompt_tokens for completion in singles)
    assert not any(text.cache for text in engine._newcomers._texts.values())


def test_all_text_may_stand_before_the_photo(engine, static_engine, requests):
    moved = [
        replace(request, prompt=replace(request.prompt, text_before_image=True)) for request in requests[:6]
    ]
    expected = [static_engine.generate([request], OPTIONS)[0] for request in moved]
    done, _ = run(engine, moved, rows=4)
    assert [done[request.id] for request in moved] == expected
    for request, before in zip(moved, requests, strict=False):
        text, usual = (engine._newcomers.newcomer(each, OPTIONS).text for each in (request, before))
        assert len(text.before) + len(text.after) == len(usual.before) + len(usual.after)
        assert len(text.after) < 8 < len(usual.after), "no more than the end of the turn is left behind"


def test_what_was_prepared_on_another_thread_is_what_would_be_prepared_here(engine, requests, singles):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        prepared = list(pool.map(engine.prepare, [request.image for request in requests]))
    ahead = [replace(request, image=photo) for request, photo in zip(requests, prepared, strict=True)]
    done, _ = run(engine, ahead, rows=5)
    assert [done[request.id] for request in requests] == singles
    assert [engine.prompt_tokens(request) for request in ahead] == [
        engine.prompt_tokens(request) for request in requests
    ]


def test_a_trace_tells_the_pixels_of_a_prepared_photo(engine, requests):
    ahead = [replace(request, image=engine.prepare(request.image)) for request in requests]
    assert engine.trace_inputs(ahead) == engine.trace_inputs(requests)


def test_a_photo_that_cannot_be_prepared_is_an_error_of_the_engine(engine):
    with pytest.raises(EngineError, match="200x150 pixels cannot be cut into squares of 32"):
        engine.prepare(Pillow.new("RGB", (200, 150)))
