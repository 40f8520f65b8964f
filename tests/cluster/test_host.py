"""An actor's side without Ray: real worker processes, with the fake engine's faults."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from stage_a_pipeline.cluster.host import Host
from stage_a_pipeline.cluster.messages import Brief, Done, Failed, Ready, versions_here
from stage_a_pipeline.cluster.shards import cut_shards
from stage_a_pipeline.images import read_photo
from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import request_id
from tests.cluster.conftest import PHOTOS, brief_of, host_workers
from tests.conftest import MISSION
from tests.faults.conftest import gone, wait_until

KILL = '[[fault]]\nmatch = "{match}"\nkind = "kill"\ntimes = 0\n'


def summarise(task, *, known=b"", crashes=None, news=b"", size=4):
    """The answers of one host to all shards, given at once, and the host."""
    host = Host()
    answer = host.set_up(replace(brief_of(task), crashes=crashes or {}), known)
    assert isinstance(answer, Ready), answer
    shards = list(cut_shards(task.shard.refs, size=size, mode="per_image"))
    with ThreadPoolExecutor(len(shards)) as pool:
        answers = list(pool.map(lambda shard: host.summarise(shard, news), shards))
    return answers, host


def rows_of(answers):
    return [row for answer in answers for row in answer.outcomes.to_pylist()]


def test_batches_are_filled_across_shards_and_the_model_is_loaded_once(task):
    answers, host = summarise(task(engine={"batch_size": 8}), size=3)
    assert len(rows_of(answers)) == PHOTOS
    metrics = max((answer.metrics for answer in answers), key=lambda metrics: metrics.photos)
    # Eight at a time, though no shard has more than three: no batch but the last one has an empty place.
    assert metrics.photos == metrics.inferred == PHOTOS
    assert metrics.places - metrics.filled_places == 2
    said = [sentence.text for sentence in host.pulse().said]
    assert sum("loading fake" in sentence for sentence in said) == 1


def test_a_photo_that_kills_the_worker_is_left_out_and_the_host_lives_on(task, groups):
    match = f"{groups[1].group_id}/IMG_1.jpg*"
    answers, host = summarise(task(KILL.format(match=match)))
    rejected = [row for row in rows_of(answers) if row["status"] == "rejected"]
    assert [(row["group_id"], row["reason"], row["attempts"]) for row in rejected] == [
        (groups[1].group_id, "crashed", 2)
    ]
    assert len(rows_of(answers)) == PHOTOS
    deaths = deaths_on(host)
    assert len(deaths) == 2
    assert " of host " in deaths[0]


@pytest.mark.parametrize("crashes", [1, 2])
def test_deaths_over_a_photo_in_earlier_runs_count_on_every_host(task, groups, asked, crashes):
    match = f"{groups[1].group_id}/IMG_1.jpg"
    given = task(KILL.format(match=match + "*"))
    (guilty,) = (ref for ref in given.shard.refs if request_id(ref).startswith(match))
    key = answer_key(read_photo(guilty.image.path).sha256, given.shard.recipes[MISSION].fingerprint)
    answers, host = summarise(given, crashes={key: crashes})
    rejected = [(row["reason"], row["attempts"]) for row in rows_of(answers) if row["status"] == "rejected"]
    assert rejected == [("crashed", 2)]
    assert len(deaths_on(host)) == sum(name.startswith(match) for name in asked()) == 2 - crashes


def deaths_on(host):
    return [one.text for one in host.pulse().said if "was killed by SIGKILL" in one.text]


def test_a_host_on_which_every_worker_dies_says_so_to_everybody_who_waits(task):
    answers, host = summarise(task(KILL.format(match="*")), size=10)
    assert {type(answer) for answer in answers} == {Failed}
    assert "worker processes died 4 times in a row there" in answers[0].message
    assert isinstance(host.summarise(cut_one(task()), b""), Failed)


def test_a_worker_does_not_live_before_what_it_reads_is_written(task):
    given, host = task(), Host()
    with host._lock:
        host.set_up(brief_of(given), b"")
        # Long enough for a worker to come as far as that.
        time.sleep(4)
    assert isinstance(host.summarise(cut_one(given), b""), Done)
    assert [one.text for one in host.pulse().said if " in hand" in one.text] == []


def cut_one(task):
    return next(cut_shards(task.shard.refs, size=2, mode="per_image"))


@pytest.mark.parametrize("told", ["known", "news"])
def test_what_the_run_knows_already_is_not_asked(task, asked, told):
    given = task()
    known = given.shard.refs[:8]
    keys = b"".join(
        answer_key(read_photo(ref.image.path).sha256, given.shard.recipes[MISSION].fingerprint)
        for ref in known
    )
    answers, _ = summarise(given, **{told: keys})
    rows = rows_of(answers)
    assert [row["reused"] for row in rows].count(True) == len(known)
    assert {row["raw_text"] for row in rows if row["reused"]} == {""}
    assert len(asked()) == PHOTOS - len(known)


def test_another_version_on_a_host_is_refused_by_name(task):
    brief = brief_of(task())
    other = Brief(
        brief.name, brief.run_id, brief.settings, brief.recipes, versions_here() | {"pillow": "0.1"}
    )
    answer = Host().set_up(other, b"")
    assert isinstance(answer, Failed)
    assert "not 0.1 as the run" in answer.message


def test_a_checkpoint_that_a_host_does_not_see_is_named_with_the_host(task, tmp_path):
    answers, _ = summarise(task(engine={"fake_faults": None}), size=30)
    assert isinstance(answers[0], Done)
    given = task()
    engine = given.shard.settings.engine.model_copy(
        update={"engine": "refill", "checkpoint": str(tmp_path / "not" / "mounted"), "fake_faults": None}
    )
    brief = brief_of(given)
    settings = brief.settings.model_copy(update={"engine": engine})
    host = Host()
    host.set_up(Brief(brief.name, brief.run_id, settings, brief.recipes, brief.versions), b"")
    answer = host.summarise(cut_one(given), b"")
    assert isinstance(answer, Failed)
    assert "not/mounted" in answer.message
    assert answer.message.startswith("host ")


def test_other_content_of_the_checkpoint_on_a_host_is_refused(task):
    given = task()
    brief = brief_of(given)
    recipes = {MISSION: brief.recipes[MISSION]}
    engine = brief.settings.engine.model_copy(update={"max_new_tokens": 7})
    settings = brief.settings.model_copy(update={"engine": engine})
    host = Host()
    host.set_up(Brief(brief.name, brief.run_id, settings, recipes, brief.versions), b"")
    answer = host.summarise(cut_one(given), b"")
    assert isinstance(answer, Failed)
    assert "have changed since this run was planned" in answer.message


def test_a_pulse_comes_at_once_while_photos_are_asked_and_closing_leaves_nothing(task):
    given = task("seconds_per_batch = 30.0\n", run_id="to be closed")
    host = Host()
    host.set_up(brief_of(given), b"")
    threading.Thread(target=host.summarise, args=(cut_one(given), b""), daemon=True).start()
    assert host.pulse().metrics.photos == 0
    wait_until(lambda: host_workers("to be closed"), "the worker")
    (worker,) = host_workers("to be closed")
    folder = Path(worker.cmdline()[-2])
    host.close()
    assert gone([worker])
    assert not folder.parent.exists()
