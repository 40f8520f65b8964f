"""Several missions asked together, and what the run of each finds of it."""

import shutil

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import WorkerError
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker
from stage_a_pipeline.inference.shard import ShardTask, mission_recipes
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.inference.together import ask_ahead
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output
from tests.conftest import BRACKETS, MISSION, write_groups

MISSIONS = load_missions()
BOTH = [MISSIONS[name] for name in (BRACKETS, MISSION)]


@pytest.fixture
def settings(tmp_path):
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1], "pass": [2]})
    write_groups(tmp_path / "in", BRACKETS, {"pass": [2, 1]}, first_seed=50)

    def build(faults="", *, processes=False, **engine):
        (tmp_path / "faults.toml").write_text(faults)
        return Settings.model_validate(
            {
                "discovery": {"input_root": tmp_path / "in"},
                "engine": {"engine": "fake", "fake_faults": tmp_path / "faults.toml", **engine},
                "inference": {"lease_dir": tmp_path / "leases", "worker_processes": processes},
                "output": {"output_dir": tmp_path / "out"},
            }
        )

    return build


def ask(settings):
    silent = Audience(None, lambda _: None, lambda _: None)
    return ask_ahead(BOTH, settings, lambda _: silent, known=MISSIONS)


def task(settings, mission, *, shards=1, shard=0):
    groups = discover_groups(settings.discovery.input_root, mission).groups
    refs = deal_out(enumerate(groups), shards=shards, mode="per_group")[shard]
    recipes = mission_recipes([MISSIONS[mission]], settings)
    return Task(ShardTask("cpu", refs, Worker("cpu"), recipes, settings, "run"), groups)


def found(taken):
    table, metrics = taken
    return table.read(), metrics


def test_each_run_finds_the_outcomes_of_its_own_photos(settings):
    asked = ask(settings())
    assert asked.metrics.photos == 9
    for mission, photos in ((BRACKETS, 3), (MISSION, 6)):
        wanted = task(settings(), mission)
        table, metrics = found(asked.take(wanted))
        places = zip(
            *(table.column(name).to_pylist() for name in ("group_index", "image_index")), strict=True
        )
        assert sorted(places) == [(ref.group_index, ref.image_index) for ref in wanted.shard.refs]
        assert set(table.column("mission").to_pylist()) == {mission}
        assert (metrics.photos, metrics.inferred, metrics.rejected) == (photos, photos, 0)


def test_a_shard_finds_its_share(settings):
    asked = ask(settings(devices=["cpu", "cpu"]))
    shares = [asked.take(task(settings(), MISSION, shards=2, shard=shard))[0] for shard in (0, 1)]
    assert [share.num_rows for share in shares] == [5, 1]


def test_rejections_are_found_too_so_that_nobody_is_asked_again(settings):
    asked = ask(settings('[[fault]]\nmatch = "QC-20241028-pass001/IMG_1*"\nkind = "empty"\n'))
    table, metrics = found(asked.take(task(settings(), BRACKETS)))
    assert table.column("reason").to_pylist().count("empty") == 1
    assert (metrics.inferred, metrics.rejected) == (3, 1)


def test_groups_that_changed_since_are_not_found(settings, tmp_path):
    asked = ask(settings())
    write_groups(tmp_path / "in", MISSION, {"pass": [1, 1]}, first_seed=90)
    assert asked.take(task(settings(), MISSION)) is None
    assert asked.take(task(settings(), BRACKETS)) is not None


def test_answers_to_another_question_are_not_found(settings):
    asked = ask(settings())
    assert asked.take(task(settings(max_new_tokens=7), MISSION)) is None


def test_a_mission_that_another_run_writes_is_left_to_its_own_run(settings, tmp_path):
    with claim_output(tmp_path / "out" / "work" / "locks", MISSION, run_id="another", purpose="test"):
        asked = ask(settings())
    assert asked.take(task(settings(), MISSION)) is None
    assert asked.take(task(settings(), BRACKETS)) is not None


def test_missions_without_photos_ask_nobody(settings, tmp_path):
    chosen = settings()
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "in").mkdir()
    assert ask(chosen).metrics is None


def test_a_worker_that_dies_does_not_keep_the_others_from_their_photos(settings):
    faults = '[[fault]]\nmatch = "*/IMG_3.jpg*"\nkind = "kill"\n'
    chosen = settings(faults, processes=True, devices=["cpu", "cpu"], batch_size=1)
    table, metrics = found(ask(chosen).take(task(chosen, MISSION)))
    assert [reason for reason in table.column("reason").to_pylist() if reason] == ["crashed"]
    assert metrics.photos == 6


def test_when_workers_die_on_every_device_the_run_fails(settings):
    with pytest.raises(WorkerError, match="on every device"):
        ask(settings('[[fault]]\nmatch = "*"\nkind = "kill"\n', processes=True, devices=["cpu", "cpu"]))
