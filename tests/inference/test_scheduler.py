"""The scheduler with real photo files, a real journal and the shipped fake engine."""

import gc
import shutil
import threading
import weakref
from dataclasses import replace

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.engines.base import Completion, GenerationOptions
from stage_a_pipeline.engines.fake import FakeBehaviour, FakeEngine, Fault
from stage_a_pipeline.errors import EngineContractError, EngineOutOfMemoryError
from stage_a_pipeline.images import rgb_sha256
from stage_a_pipeline.inference.asking import BatchingOptions, Listeners, Recipe, answer_defect, retry_options
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.journal import Journal
from stage_a_pipeline.inference.metrics import Queue
from stage_a_pipeline.inference.scheduler import ShardScheduler
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.records import Rejection, Summary
from tests.conftest import MISSION, write_groups

GREEDY = GenerationOptions(max_new_tokens=64, repetition_penalty=1.05)
RECIPE = Recipe(Prompt("system", "user"), 1_048_576, "fingerprint")


@pytest.fixture
def refs(tmp_path):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})
    return deal_out(enumerate(discover_groups(root, MISSION).groups), shards=1, mode="per_group")[0]


def run(
    tmp_path, refs, engine, *, batch_size=4, mode="cross_group", options=GREEDY, journal="j", **listeners
):
    with Journal(tmp_path / journal, "cpu", [MISSION]) as opened:
        scheduler = ShardScheduler(
            engine,
            opened,
            {MISSION: RECIPE},
            options,
            BatchingOptions(batch_size, mode),
            listeners=Listeners(**listeners),
        )
        return sorted(scheduler.run(refs), key=place), scheduler.metrics


@pytest.fixture(params=["static", "refill"])
def fake(request):
    """A fake engine that answers whole batches, or one whose rows leave one by one."""

    def build(**behaviour):
        return FakeEngine(FakeBehaviour(refill=request.param == "refill", **behaviour))

    return build


def place(outcome):
    return outcome.ref.group_index, outcome.ref.image_index


def reasons(outcomes):
    return {
        o.ref.image.name + "@" + o.ref.group.group_id: o.reason for o in outcomes if isinstance(o, Rejection)
    }


def test_every_photo_ends_exactly_once(tmp_path, refs, fake):
    outcomes, metrics = run(tmp_path, refs, fake())
    assert [place(o) for o in outcomes] == [(r.group_index, r.image_index) for r in refs]
    assert all(isinstance(o, Summary) for o in outcomes)
    assert (metrics.photos, metrics.inferred, metrics.reused, metrics.rejected) == (12, 12, 0, 0)


def test_batches_are_filled_across_groups(tmp_path, refs):
    engine = FakeEngine()
    _, metrics = run(tmp_path, refs, engine, batch_size=5)
    assert engine.batch_sizes == [5, 5, 2]
    assert metrics.batch_fill == pytest.approx(12 / 15)


def test_per_group_batches_never_mix_groups(tmp_path, refs):
    engine = FakeEngine()
    run(tmp_path, refs, engine, batch_size=3, mode="per_group")
    assert engine.batch_sizes == [3, 1, 2, 3, 1, 2]


@pytest.mark.parametrize("mode", ["cross_group", "per_group"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_answers_do_not_depend_on_batching(tmp_path, refs, fake, mode, batch_size):
    expected, _ = run(tmp_path, refs, fake(), batch_size=4, journal="expected")
    assert run(tmp_path, refs, fake(), batch_size=batch_size, mode=mode)[0] == expected


def test_each_photo_gets_the_answer_to_its_own_pixels(tmp_path, refs):
    class Mirror(FakeEngine):
        def generate(self, requests, options):
            return [Completion(r.id, rgb_sha256(r.image), "stop", 1, 1) for r in requests]

    outcomes, _ = run(tmp_path, refs, Mirror())
    alone = [run(tmp_path, [ref], Mirror(), journal=f"alone{i}")[0][0] for i, ref in enumerate(refs)]
    assert [o.raw_text for o in outcomes] == [o.raw_text for o in alone]
    assert len({o.raw_text for o in outcomes}) == 12


def test_a_second_run_infers_nothing(tmp_path, refs, fake):
    first, _ = run(tmp_path, refs, fake())
    engine = fake()
    second, metrics = run(tmp_path, refs, engine)
    assert engine.batch_sizes == []
    assert metrics.reused == 12
    assert [o.raw_text for o in second] == [o.raw_text for o in first]


def test_identical_photos_are_inferred_once(tmp_path, refs, fake):
    for ref in refs[1:6]:
        shutil.copy(refs[0].image.path, ref.image.path)
    engine = fake()
    outcomes, metrics = run(tmp_path, refs, engine)
    assert sum(engine.batch_sizes) == 7
    assert metrics.reused == 5
    assert len({o.raw_text for o in outcomes[:6]}) == 1
    assert [o.reused for o in outcomes[:6]] == [False, True, True, True, True, True]


def test_identical_photos_are_inferred_each_for_itself_when_sampling(tmp_path, refs, fake):
    shutil.copy(refs[0].image.path, refs[1].image.path)
    engine = fake()
    run(tmp_path, refs, engine, options=GenerationOptions(64, temperature=0.7))
    assert sum(engine.batch_sizes) == 12


def test_all_twins_of_a_failing_photo_are_rejected(tmp_path, refs, fake):
    for ref in refs[1:3]:
        shutil.copy(refs[0].image.path, ref.image.path)
    engine = fake(faults=(Fault(f"{refs[0].group.group_id}/*", "error"),))
    outcomes, metrics = run(tmp_path, refs, engine)
    assert len(reasons(outcomes)) == 3
    assert metrics.rejected == 3


def test_one_failing_photo_loses_nobody_else(tmp_path, refs, fake):
    engine = fake(faults=(Fault("*pass001/IMG_3*", "error"),))
    outcomes, _ = run(tmp_path, refs, engine, batch_size=12)
    assert reasons(outcomes) == {"IMG_3.jpg@QC-20241028-pass001": "engine_error"}


def test_out_of_memory_lowers_the_batch_size_for_good(tmp_path, refs):
    warnings = []
    engine = FakeEngine(FakeBehaviour(max_batch=3))
    outcomes, _ = run(tmp_path, refs, engine, batch_size=8, warning=warnings.append)
    assert reasons(outcomes) == {}
    assert engine.batch_sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2]
    assert any(
        "out of memory with 8 of 8 places taken; the batch size is 2 from here on" in warning
        for warning in warnings
    )


def test_one_photo_without_room_costs_the_others_no_more_than_half_a_batch(tmp_path, refs):
    engine = FakeEngine(FakeBehaviour(faults=(Fault("*fail001/IMG_1*", "out_of_memory"),)))
    outcomes, _ = run(tmp_path, refs, engine, batch_size=4)
    assert reasons(outcomes) == {"IMG_1.jpg@QC-20241028-fail001": "out_of_memory"}
    assert engine.batch_sizes[5:] == [2, 2, 2, 2]


def test_a_retry_that_runs_out_of_memory_leaves_the_batch_size(tmp_path, refs):
    class NoRoomForLongAnswers(FakeEngine):
        def generate(self, requests, options):
            if options.max_new_tokens > GREEDY.max_new_tokens:
                raise EngineOutOfMemoryError("no room for twice the tokens")
            return super().generate(requests, options)

    engine = NoRoomForLongAnswers(FakeBehaviour(faults=(Fault("*fail001/IMG_1*", "truncated"),)))
    outcomes, _ = run(tmp_path, refs, engine, batch_size=4)
    assert reasons(outcomes) == {"IMG_1.jpg@QC-20241028-fail001": "truncated"}
    assert engine.batch_sizes == [4, 3, 4, 1], "three photos were under way with the retry"


def test_the_bytes_of_a_rejected_photo_are_not_asked_for_again(tmp_path, refs):
    for ref in (refs[6], refs[11]):
        shutil.copy(refs[0].image.path, ref.image.path)
    engine = FakeEngine(FakeBehaviour(faults=(Fault("*fail001/IMG_1*", "error"),)))
    outcomes, _ = run(tmp_path, refs, engine, batch_size=3)
    assert len(reasons(outcomes)) == 3
    assert engine.batch_sizes == [3, 1, 2, 3, 3, 1]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("empty", "empty"), ("truncated", "truncated"), ("repetition", "repetition")],
)
def test_an_unusable_answer_is_asked_for_once_more_then_rejected_with_its_text(
    tmp_path, refs, fake, kind, reason
):
    engine = fake(faults=(Fault("*fail002/IMG_1*", kind),))
    outcomes, metrics = run(tmp_path, refs, engine)
    assert reasons(outcomes) == {"IMG_1.jpg@QC-20241028-fail002": reason}
    rejection = next(o for o in outcomes if isinstance(o, Rejection))
    assert rejection.attempts == 2
    assert rejection.raw_text is not None
    assert metrics.retried == 1
    assert sum(engine.batch_sizes) == 13, "only the unusable answer is asked for again"


def test_a_usable_second_answer_is_taken(tmp_path, refs, fake):
    engine = fake(faults=(Fault("*fail002/IMG_1*", "empty", times=1),))
    outcomes, _ = run(tmp_path, refs, engine)
    assert reasons(outcomes) == {}
    assert [o.attempts for o in outcomes if o.attempts > 1] == [2]


def test_an_unreadable_photo_is_rejected_without_asking_the_engine(tmp_path, refs, fake):
    refs[4].image.path.write_bytes(b"<html>not a photo</html>")
    refs[5].image.path.unlink()
    engine = fake()
    outcomes, _ = run(tmp_path, refs, engine)
    lost = [o for o in outcomes if isinstance(o, Rejection)]
    assert [(o.ref, o.stage) for o in lost] == [(refs[4], "read"), (refs[5], "read")]
    assert sum(engine.batch_sizes) == 10


@pytest.mark.parametrize("kind", ["too_few", "reordered"])
def test_answers_that_do_not_match_their_requests_stop_the_run(tmp_path, refs, fake, kind):
    engine = fake(faults=(Fault("*fail001/IMG_2*", kind),))
    with pytest.raises(EngineContractError):
        run(tmp_path, refs, engine)


def test_threads_ahead_end_when_the_run_is_stopped(tmp_path, refs):
    before, threads = set(threading.enumerate()), []

    class Breaking(FakeEngine):
        def generate(self, requests, options):
            threads.extend(set(threading.enumerate()) - before)
            return []

    batching = BatchingOptions(2, sort_window=2)
    with Journal(tmp_path / "j", "cpu", [MISSION]) as journal:
        scheduler = ShardScheduler(Breaking(), journal, {MISSION: RECIPE}, GREEDY, batching)
        with pytest.raises(EngineContractError) as stopped:
            list(scheduler.run(refs))
    assert threads
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads), f"although {stopped} holds its frames"


def test_what_was_finished_before_a_stop_is_not_repeated(tmp_path, refs):
    engine = FakeEngine(FakeBehaviour(faults=(Fault("*pass002/*", "too_few"),)))
    with pytest.raises(EngineContractError):
        run(tmp_path, refs, engine)
    resumed = FakeEngine()
    outcomes, metrics = run(tmp_path, refs, resumed)
    assert metrics.reused == 8
    assert sum(resumed.batch_sizes) == 4
    fresh, _ = run(tmp_path, refs, FakeEngine(), journal="fresh")
    assert [o.raw_text for o in outcomes] == [o.raw_text for o in fresh]


def test_at_most_two_batches_of_decoded_photos_exist(tmp_path, refs, monkeypatch):
    from stage_a_pipeline.inference import photos_ahead

    root = write_groups(tmp_path / "many", MISSION, {"fail": [3] * 20})
    many = deal_out(enumerate(discover_groups(root, MISSION).groups), shards=1, mode="per_group")[0]
    alive, most, lock = [], 0, threading.Lock()
    decode = photos_ahead.decode_photo

    def counted(*args, **kwargs):
        nonlocal most
        image = decode(*args, **kwargs)
        with lock:
            alive.append(weakref.ref(image))
            most = max(most, sum(each() is not None for each in alive))
        return image

    monkeypatch.setattr(photos_ahead, "decode_photo", counted)
    run(tmp_path, many, FakeEngine(), batch_size=4)
    assert 4 <= most <= 2 * 4 + 1


def test_a_failed_batch_is_let_go_before_its_photos_are_asked_again(tmp_path, refs):
    batches = []

    class Watched(FakeEngine):
        def start_batch(self, rows):
            batch = super().start_batch(rows)
            batches.append(weakref.ref(batch))
            return batch

        def generate(self, requests, options):
            if len(batches) > 1:
                assert batches[0]() is None
            return super().generate(requests, options)

    gc.disable()
    try:
        outcomes, _ = run(tmp_path, refs, Watched(FakeBehaviour(max_batch=3)), batch_size=8)
    finally:
        gc.enable()
    assert reasons(outcomes) == {}
    assert len(batches) > 1


def test_the_first_batch_is_traced_when_asked(tmp_path, refs, fake):
    traced = []
    run(tmp_path, refs, fake(), inputs=traced.extend)
    assert [trace.id.split("/")[0] for trace in traced] == [ref.group.group_id for ref in refs[:4]]


def test_progress_is_told_after_a_batch_not_at_its_first_photo(tmp_path, refs):
    told = []
    run(tmp_path, refs, FakeEngine(), batch_size=4, progress=told.append)
    assert list(dict.fromkeys(progress.done for progress in told if progress.done)) == [4, 8, 12]


def test_what_is_under_way_is_told_before_the_step_that_answers_it(tmp_path, refs):
    told = []
    run(tmp_path, refs, FakeEngine(), batch_size=4, progress=told.append)
    assert (told[0].done, told[0].queue.under_way) == (0, 4)
    assert told[0].queue.ready <= 4
    assert (told[-1].queue, told[-1].to_come) == (Queue(), 0)


def test_outcomes_are_told_only_once_the_journal_keeps_them(tmp_path, refs, fake):
    with Journal(tmp_path / "j", "cpu", [MISSION]) as journal:
        scheduler = ShardScheduler(fake(), journal, {MISSION: RECIPE}, GREEDY, BatchingOptions(4))
        commit, kept = journal.commit, 0

        def counted():
            nonlocal kept
            commit()
            kept = len(journal)

        journal.commit = counted
        for told, _ in enumerate(scheduler.run(refs), start=1):
            assert told <= kept


def test_a_photo_read_long_ago_is_told_although_only_known_ones_follow(tmp_path, refs):
    time, seen = [0.0], []
    run(tmp_path, refs[6:], FakeEngine())
    with Journal(tmp_path / "j", "cpu", [MISSION]) as journal:
        scheduler = ShardScheduler(
            FakeEngine(FakeBehaviour(refill=True)),
            journal,
            {MISSION: RECIPE},
            GREEDY,
            BatchingOptions(5),
            clock=lambda: time[0],
        )
        for outcome in scheduler.run(refs):
            seen.append(outcome.reused)
            time[0] += 1.0
    assert sorted(seen) == [False] * 6 + [True] * 6
    assert seen.index(False) < 6, "before all the known ones are told"


def test_progress_ends_at_the_total(tmp_path, refs, fake):
    told = []
    run(tmp_path, refs, fake(), progress=told.append)
    assert (told[-1].done, told[-1].total) == (12, 12)


def test_a_cut_answer_may_be_twice_as_long_and_others_are_penalised():
    assert retry_options(GREEDY, "truncated").max_new_tokens == 128
    assert retry_options(GREEDY, "truncated").repetition_penalty == 1.05
    assert retry_options(GREEDY, "empty").repetition_penalty == pytest.approx(1.15)


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ('{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}]}', "stop", None),
        ("无关图片", "stop", None),
        ("BBU设备安装正确", "stop", None),
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        ('{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}]}', "length", "truncated"),
        ('{"统计": [' + '{"类别": "电线"}, ' * 300, "length", "repetition"),
    ],
)
def test_answer_defect(text, finish, expected):
    assert answer_defect(Completion("r", text, finish, 1, 1)) == expected


def test_every_photo_is_asked_under_the_grammar_of_its_recipe(tmp_path, refs, monkeypatch):
    asked = []

    class Listening(FakeEngine):
        def generate(self, requests, options):
            asked.extend(request.grammar for request in requests)
            return super().generate(requests, options)

    run(tmp_path, refs, Listening(), journal="free")
    assert set(asked) == {None}
    asked.clear()
    monkeypatch.setitem(globals(), "RECIPE", replace(RECIPE, grammar="bbu"))
    run(tmp_path, refs, Listening())
    assert asked == ["bbu"] * len(refs)
