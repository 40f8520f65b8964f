"""Engines whose answers are held to a grammar, and what the setting changes."""

from dataclasses import replace

import pytest

import stage_a_pipeline.engines
from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.engines import engine_hash, load_engine, summary_grammar
from stage_a_pipeline.engines.base import GenerationOptions
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.refill_policy import CPU, CUDA
from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.inference.shard import mission_recipes
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import EngineSettings, Settings
from stage_a_pipeline.vocabulary import DATASETS, VOCABULARY
from tests.engines.running import run

pytest.importorskip("llguidance")

GREEDY = GenerationOptions(max_new_tokens=256, repetition_penalty=1.05)
WILD = GenerationOptions(max_new_tokens=1024, temperature=3.0, seed=1)


@pytest.fixture(scope="module")
def datasets(requests):
    """What each request's photo is of: the missions take turns, as in `requests`."""
    missions = list(load_missions().values())
    return [missions[number % len(missions)].dataset for number in range(len(requests))]


@pytest.fixture(scope="module")
def held(requests, datasets):
    return [replace(request, grammar=dataset) for request, dataset in zip(requests, datasets, strict=True)]


@pytest.fixture(scope="module")
def plain(static_engine, requests):
    return static_engine.generate(requests, GREEDY)


def is_summary(completion, dataset):
    """Whether an answer as the model wrote it, cleaned by no hand, is a summary of that dataset."""
    return summary_defect(completion.text, dataset) is None


def test_an_answer_that_was_a_summary_already_stays_as_it_was(static_engine, plain, held, datasets):
    answers = static_engine.generate(held, GREEDY)
    assert all(map(is_summary, answers, datasets))
    valid = [place for place, its in enumerate(plain) if is_summary(its, datasets[place])]
    assert len(valid) > len(plain) / 2
    assert [answers[place] for place in valid] == [plain[place] for place in valid]


def test_every_answer_that_was_not_cut_is_a_summary_however_wildly_it_is_drawn(
    static_engine, requests, held, datasets
):
    free = static_engine.generate(requests, replace(WILD, max_new_tokens=64))
    assert not any(map(is_summary, free, datasets)), "or this test shows nothing"
    answers = static_engine.generate(held, WILD)
    assert len({answer.text for answer in answers}) > len(answers) / 2
    ended = [place for place, answer in enumerate(answers) if answer.finish_reason == "stop"]
    assert len(ended) > len(answers) / 2
    for place in ended:
        clean = clean_summary(answers[place].text)
        assert (defect(clean), summary_defect(clean.text, datasets[place])) == (None, None)


def test_a_strong_repetition_penalty_pushes_no_row_off_its_grammar(static_engine, requests, held, datasets):
    options = replace(GREEDY, repetition_penalty=3.0)
    free = static_engine.generate(requests, replace(options, max_new_tokens=64))
    assert not all(map(is_summary, free, datasets)), "or this test shows nothing"
    answers = static_engine.generate(held, options)
    assert all(map(is_summary, answers, datasets))


def test_rows_without_a_grammar_stand_beside_rows_with_one(static_engine, requests, held, plain, datasets):
    mixed = [request if place % 2 else held[place] for place, request in enumerate(requests)]
    wild = static_engine.generate(mixed, GREEDY)
    assert [wild[place] for place in range(1, len(mixed), 2)] == plain[1::2]


def test_a_photo_is_held_to_the_dataset_that_it_is_asked_for(static_engine, requests, datasets):
    """A bbu photo under the grammar of rru is summarised in rru's words, or called irrelevant."""
    others = [DATASETS[1 - DATASETS.index(dataset)] for dataset in datasets]
    swapped = [replace(request, grammar=other) for request, other in zip(requests, others, strict=True)]
    assert all(map(is_summary, static_engine.generate(swapped, GREEDY), others))


ON = EngineSettings(structured_output=True)


def test_the_grammar_belongs_to_the_fingerprint_once_it_is_on(monkeypatch):
    assert engine_hash(ON) != engine_hash(EngineSettings())
    before = engine_hash(ON)
    monkeypatch.setattr(stage_a_pipeline.engines, "grammar_version", lambda: "another form")
    assert engine_hash(ON) != before


@pytest.fixture
def forget_grammars():
    def forget():
        summary_grammar.summary_grammar.cache_clear()
        summary_grammar.grammar_version.cache_clear()

    yield forget
    forget()


def test_another_vocabulary_is_another_version(monkeypatch, forget_grammars):
    before = summary_grammar.grammar_version()
    fewer = {dataset: categories[:-1] for dataset, categories in VOCABULARY.items()}
    monkeypatch.setattr(summary_grammar, "VOCABULARY", fewer)
    forget_grammars()
    assert summary_grammar.grammar_version() != before


@pytest.mark.parametrize("engine", ["refill", "transformers"])
def test_without_llguidance_the_remedy_is_told_before_a_model_is_loaded(monkeypatch, engine):
    monkeypatch.setattr(stage_a_pipeline.engines, "find_spec", lambda _: None)
    # Not there either: whoever looked for the checkpoint first would say so.
    wanted = EngineSettings(engine=engine, structured_output=True, checkpoint="/nowhere")
    for step in (engine_hash, lambda its: load_engine(its, "cpu")):
        with pytest.raises(ConfigurationError, match=r"pip install '\.\[grammar\]'"):
            step(wanted)


def test_the_fake_engine_needs_no_llguidance(monkeypatch):
    monkeypatch.setattr(stage_a_pipeline.engines, "find_spec", lambda _: None)
    wanted = EngineSettings(engine="fake", structured_output=True)
    assert engine_hash(wanted) == engine_hash(EngineSettings(engine="fake"))
    load_engine(wanted, "cpu").close()


@pytest.mark.parametrize("structured_output", [True, False])
def test_the_photos_of_a_mission_are_held_to_its_dataset_where_the_settings_say_so(structured_output):
    wanted = Settings(engine=EngineSettings(engine="fake", structured_output=structured_output))
    missions = load_missions()
    recipes = mission_recipes(missions.values(), wanted)
    expected = {name: mission.dataset if structured_output else None for name, mission in missions.items()}
    assert {name: recipe.grammar for name, recipe in recipes.items()} == expected


@pytest.mark.parametrize(
    "policy",
    [CPU, replace(CUDA, row_step=4, window_step=32, growth=64, capture=False)],
    ids=["as on a CPU", "as on CUDA"],
)
def test_refilled_rows_are_held_to_their_grammars_as_static_ones_are(static_engine, requests, held, policy):
    """Rows at all places of their answers, with and without a grammar, which move when others leave."""
    options = replace(GREEDY, repetition_penalty=3.0)
    mixed = [request if place % 3 == 2 else held[place] for place, request in enumerate(requests)]
    short = [replace(options, max_new_tokens=64 if place % 3 == 2 else 256) for place in range(len(mixed))]
    expected = [static_engine.generate([request], its)[0] for request, its in zip(mixed, short, strict=True)]
    engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu", policy=policy)
    done, _ = run(engine, mixed, rows=5, options=short)
    assert [done[request.id] for request in mixed] == expected


def test_refilled_rows_that_sample_are_summaries_too(held, datasets):
    engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    done, _ = run(engine, held, rows=6, options=[WILD] * len(held))
    answers = [done[request.id] for request in held]
    ended = [place for place, answer in enumerate(answers) if answer.finish_reason == "stop"]
    assert len(ended) > len(answers) / 2
    assert all(is_summary(answers[place], datasets[place]) for place in ended)
