"""One run over several missions: a Dagster instance, real photo files, the fake engine."""

import dagster as dg
import pytest

from stage_a_pipeline.defs.jobs import ASSETS, MISSION_JOB
from stage_a_pipeline.defs.launch import CHECKS, default_resources
from stage_a_pipeline.defs.partitions import MISSIONS
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.jsonl import output_paths
from tests.conftest import write_groups

NAMES = list(MISSIONS)
FIRST, SECOND, THIRD = NAMES[:3]


@pytest.fixture
def root(tmp_path):
    for place, mission in enumerate((FIRST, SECOND, THIRD)):
        write_groups(tmp_path / "in", mission, {"fail": [3, 1], "pass": [2]}, first_seed=100 * place)
    return tmp_path / "in"


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def materialise(tmp_path, root, instance):
    """Materialise the missions from `first` to `last` in one run, by default with a large batch."""

    def run(first, last, *, out="out", **engine):
        settings = SettingsResource(
            discovery={"input_root": str(root)},
            engine={"engine": "fake", "batch_size": 32, **engine},
            inference={"lease_dir": str(tmp_path / "leases"), "worker_processes": False},
            output={"output_dir": str(tmp_path / out)},
        )
        location = dg.Definitions(
            assets=ASSETS,
            asset_checks=CHECKS,
            jobs=[MISSION_JOB],
            resources=default_resources(settings),
            executor=dg.in_process_executor,
        )
        span = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        job = location.resolve_job_def(MISSION_JOB.name)
        return job.execute_in_process(
            **({"partition_key": first} if first == last else {"tags": span}),
            instance=instance,
            raise_on_error=False,
        )

    return run


def delivered(folder, mission):
    paths = output_paths(folder, mission)
    return [path.read_bytes() if path.exists() else None for path in (paths.jsonl, paths.rejected)]


def statuses(instance, asset):
    partitions = dg.StaticPartitionsDefinition(NAMES)
    found = instance.get_status_by_partition(dg.AssetKey(asset), NAMES, partitions)
    return {mission: status.value for mission, status in found.items() if status is not None}


def latest(instance, asset):
    """The metadata of the newest materialisation of each mission."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=50).records
    return {
        record.asset_materialization.partition: record.asset_materialization.metadata
        for record in reversed(records)
    }


def error_of(result):
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data.error.cause.message)


def test_each_mission_gets_the_bytes_of_a_run_of_its_own(tmp_path, materialise):
    assert materialise(FIRST, THIRD).success
    for mission in (FIRST, SECOND, THIRD):
        assert materialise(mission, mission, out="alone").success
        assert delivered(tmp_path / "out", mission) == delivered(tmp_path / "alone", mission)


def test_batches_are_filled_across_missions(materialise, instance):
    materialise(FIRST, THIRD)
    told = latest(instance, "stage_a_summaries")
    assert {mission: metadata["groups"].value for mission, metadata in told.items()} == dict.fromkeys(
        (FIRST, SECOND, THIRD), 3
    )
    assert {metadata["steps"].value for metadata in told.values()} == {1}
    assert {metadata["photos"].value for metadata in told.values()} == {18}


def test_metadata_and_checks_belong_to_their_mission(materialise, instance, root):
    write_groups(root, SECOND, {"pass": [1, 1, 1]}, first_seed=500)
    result = materialise(FIRST, THIRD)
    counts = {
        name: told["dagster/row_count"].value for name, told in latest(instance, "image_groups").items()
    }
    assert counts == {FIRST: 3, SECOND: 5, THIRD: 3}
    found = {
        (evaluation.check_name, evaluation.partition): evaluation.description
        for evaluation in result.get_asset_check_evaluations()
    }
    assert found["every_photo_has_one_outcome", SECOND] == "8 outcomes for 8 photos"
    assert found["every_photo_has_one_outcome", None] == "3 of 3 missions pass"


def test_a_second_run_infers_nothing_and_touches_no_output_file(tmp_path, materialise, instance):
    materialise(FIRST, THIRD)
    files = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    assert len(files) == 9
    assert materialise(FIRST, THIRD).success
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before
    assert latest(instance, "stage_a_summaries")[FIRST]["inferred"].value == 0


def test_a_mission_over_its_budget_is_refused_and_the_others_are_published(
    tmp_path, materialise, instance, root
):
    assert materialise(SECOND, SECOND).success
    last_good = delivered(tmp_path / "out", SECOND)[0]
    for photo in (root / SECOND).rglob("*.jpg"):
        photo.write_bytes(b"broken")
    result = materialise(FIRST, THIRD)
    assert not result.success
    assert f"1 of 3 missions are not published: {SECOND}: 3 of 3 groups were rejected" in error_of(result)
    jsonl, rejected = delivered(tmp_path / "out", SECOND)
    assert jsonl == last_good
    assert rejected.count(b"\n") == 6
    for mission in (FIRST, THIRD):
        assert delivered(tmp_path / "out", mission)[0].count(b"\n") == 3
    assert statuses(instance, "stage_a_jsonl") == {
        FIRST: "MATERIALIZED",
        SECOND: "FAILED",
        THIRD: "MATERIALIZED",
    }
    assert latest(instance, "stage_a_jsonl")[THIRD]["counts"].value["written"] == 3
    # Reports of what was published are written although the step failed, and the refused one's stays.
    reports = latest(instance, "stage_a_report")
    assert {name: told["groups"].value for name, told in reports.items()} == dict.fromkeys(reports, 3)
    assert set(reports) == {FIRST, SECOND, THIRD}
    assert (tmp_path / "out" / "report" / THIRD / "index.html").exists()


def test_a_run_whose_missions_are_all_over_their_budget_fails_before_anything_follows(materialise, root):
    for photo in root.rglob("*.jpg"):
        photo.write_bytes(b"broken")
    result = materialise(FIRST, SECOND)
    assert not result.success
    assert "2 of 2 missions are not published" in error_of(result)
    assert not result.get_step_success_events()[-1].step_key.startswith("clean_summaries")


def test_a_mission_without_photos_is_left_out_and_the_others_are_published(tmp_path, materialise, root):
    (root / SECOND).rename(tmp_path / "elsewhere")
    result = materialise(FIRST, THIRD)
    assert not result.success
    assert f"1 of 3 missions are not published: {SECOND}: mission '{SECOND}' has no folder" in error_of(
        result
    )
    assert [delivered(tmp_path / "out", mission)[0] is None for mission in (FIRST, SECOND, THIRD)] == [
        False, True, False,
    ]  # fmt: skip
