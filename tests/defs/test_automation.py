"""What runs by itself, on a real Dagster instance: sensor, schedule, conditions, told failures."""

import os
import subprocess
import sys
from datetime import datetime

import dagster as dg
import pytest

from stage_a_pipeline.definitions import defs
from stage_a_pipeline.defs.arrivals import new_or_changed_groups, nightly
from stage_a_pipeline.defs.incidents import incidents
from stage_a_pipeline.defs.jobs import ALL_JOB, ASSETS, MISSION_JOB
from stage_a_pipeline.defs.launch import CHECKS, default_resources, materialise_missions
from stage_a_pipeline.defs.partitions import MISSIONS
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.jsonl import output_paths, read_records
from stage_a_pipeline.status import mission_status
from tests.conftest import LABEL_FOLDERS, MISSION, write_groups, write_photo
from tests.test_incidents import Hook

NAMES = list(MISSIONS)
FIRST, _, THIRD = NAMES[:3]


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def root(tmp_path):
    return write_groups(tmp_path / "in", MISSION, {"fail": [2], "pass": [1, 3]})


@pytest.fixture
def settings(tmp_path, root):
    """The settings of a code location, as a file; `automation` is what a test adds."""

    def write(**automation):
        told = {"settle_seconds": 0, **automation}
        lines = [
            f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
            for key, value in told.items()
        ]
        file = tmp_path / "settings.toml"
        file.write_text(
            f'[discovery]\ninput_root = "{root}"\n[output]\noutput_dir = "{tmp_path}/out"\n'
            '[engine]\nengine = "fake"\nbatch_size = 4\n'
            f'[inference]\nlease_dir = "{tmp_path}/leases"\nworker_processes = false\n'
            "[automation]\n" + "\n".join(lines) + "\n"
        )
        return SettingsResource(settings_file=str(file))

    return write


def location(settings, job=MISSION_JOB):
    located = dg.Definitions(
        assets=ASSETS,
        asset_checks=CHECKS,
        jobs=[job],
        resources=default_resources(settings),
        executor=dg.in_process_executor,
    )
    return located.resolve_job_def(job.name)


class Sensor:
    """The sensor tick by tick, as the daemon has it: with the cursor of the tick before."""

    def __init__(self, instance, settings):
        self.instance, self.settings, self.cursor = instance, settings, None

    def tick(self):
        # A context that is not closed leaves the instance of its resources behind, for whatever runs next.
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            definitions=defs,
            resources={"settings": self.settings},
        ) as context:
            found = new_or_changed_groups(context)
        if isinstance(found, dg.SkipReason):
            return [], found.skip_message
        self.cursor = found.cursor
        return found.run_requests or [], found.skip_reason and found.skip_reason.skip_message

    def run(self, request, *, raise_on_error=True):
        return location(self.settings).execute_in_process(
            partition_key=request.partition_key,
            tags=dict(request.tags),
            instance=self.instance,
            raise_on_error=raise_on_error,
        )


def metadata(result, asset):
    (event,) = [
        event for event in result.get_asset_materialization_events() if event.asset_key == dg.AssetKey(asset)
    ]
    return event.materialization.metadata


def delivered(tmp_path, mission=MISSION):
    path = output_paths(tmp_path / "out", mission).jsonl
    return [record.group_id for record in read_records(path)] if path.exists() else None


def drop_group(root, name="QC-20241029-new001", photos=2, mission=MISSION):
    for number in range(photos):
        write_photo(root / mission / LABEL_FOLDERS["pass"] / name / f"IMG_{number}.jpg", seed=900 + number)


def test_a_dropped_group_is_in_the_file_after_the_next_tick_and_only_its_photos_are_inferred(
    tmp_path, root, instance, settings
):
    sensor = Sensor(instance, settings())
    (request,), _ = sensor.tick()
    assert metadata(sensor.run(request), "stage_a_summaries")["inferred"].value == 6
    assert sensor.tick() == ([], "nothing new among 3 groups of 1 missions")
    drop_group(root)
    (request,), _ = sensor.tick()
    result = sensor.run(request)
    assert "QC-20241029-new001" in delivered(tmp_path)
    told = metadata(result, "stage_a_summaries")
    assert (told["inferred"].value, told["reused"].value) == (2, 6)
    journal = tmp_path / "out" / "work" / "journal" / MISSION / "cpu.jsonl"
    assert journal.read_bytes().count(b"\n") == 8
    tags = instance.get_run_by_id(result.run_id).tags
    assert tags["stage_a/started_by"] == "new_or_changed_groups"
    assert (tags["stage_a/engine"], tags["stage_a/device"]) == ("fake", "cpu")
    assert sensor.tick()[0] == []


def test_an_upload_under_way_is_left_to_settle(root, instance, settings):
    sensor = Sensor(instance, settings(settle_seconds=3600))
    requests, why = sensor.tick()
    assert requests == []
    assert f"{MISSION} has changed, and is left to settle for 3600 s more" in why


def test_what_other_runs_have_delivered_is_not_requested(instance, settings):
    location(settings()).execute_in_process(partition_key=MISSION, instance=instance)
    assert Sensor(instance, settings()).tick()[0] == []


def test_several_missions_in_one_run_are_all_known_as_delivered(root, instance, settings):
    write_groups(root, FIRST, {"pass": [1]}, first_seed=50)
    assert location(settings(), ALL_JOB).execute_in_process(instance=instance).success
    assert Sensor(instance, settings()).tick()[0] == []


def test_no_run_is_requested_beside_one_that_is_under_way(instance, settings):
    job = location(settings())
    run = instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": MISSION}
    )
    sensor = Sensor(instance, settings())
    requests, why = sensor.tick()
    assert (requests, why) == ([], f"{MISSION} has changed, and waits for the run that is under way")
    instance.report_run_canceled(run)
    assert len(sensor.tick()[0]) == 1


def test_after_a_failed_run_only_a_change_is_requested(tmp_path, root, instance, settings):
    for photo in root.rglob("*.jpg"):
        photo.write_bytes(b"broken")
    sensor = Sensor(instance, settings())
    (request,), _ = sensor.tick()
    assert not sensor.run(request, raise_on_error=False).success
    requests, why = sensor.tick()
    assert requests == []
    assert "was run as it is, and not delivered: look at its last run" in why
    for number, photo in enumerate(sorted(root.rglob("*.jpg"))):
        write_photo(photo, seed=number)
    (again,), _ = sensor.tick()
    assert again.run_key != request.run_key
    assert sensor.run(again).success


def test_a_root_that_is_away_is_told_and_changes_nothing(tmp_path, root, instance, settings):
    sensor = Sensor(instance, settings())
    (request,), _ = sensor.tick()
    sensor.run(request)
    before = sensor.cursor
    root.rename(tmp_path / "unmounted")
    requests, why = sensor.tick()
    assert (requests, sensor.cursor) == ([], before)
    assert f"input root {root} does not exist" in why
    (tmp_path / "unmounted").rename(root)
    assert sensor.tick()[0] == []


def test_without_an_input_root_the_sensor_says_how_to_set_it(instance):
    assert "STAGE_A_INPUT_ROOT" in Sensor(instance, SettingsResource()).tick()[1]


@pytest.fixture
def kept_instance(tmp_path):
    """One on disk, which alone a schedule's context takes. Slower."""
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        yield instance


def tonight(instance, settings):
    with dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2026, 11, 23, 2),
        resources={"settings": settings},
    ) as context:
        return nightly.evaluate_tick(context)


def test_the_night_s_run_delivers_every_mission_that_has_a_folder_and_misses_none(
    tmp_path, root, instance, kept_instance, settings
):
    for place, mission in enumerate((FIRST, THIRD)):
        write_groups(root, mission, {"pass": [1, 1]}, first_seed=100 + 50 * place)
    (request,) = tonight(kept_instance, settings()).run_requests
    assert request.tags["stage_a/started_by"] == "nightly"
    result = location(settings(), ALL_JOB).execute_in_process(tags=dict(request.tags), instance=instance)
    assert result.success
    present = {FIRST, THIRD, MISSION}
    assert {mission for mission in NAMES if delivered(tmp_path, mission)} == present
    told = {
        event.partition: event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("stage_a_jsonl")
    }
    assert {mission for mission, one in told.items() if "jsonl" in one} == present
    absent = {mission for mission, one in told.items() if "has no folder" in str(one.get("absent", ""))}
    assert absent == told.keys() - present


def test_a_folder_that_is_there_and_holds_nothing_still_fails_the_night_s_run(root, instance, settings):
    (root / FIRST).mkdir()
    result = location(settings(), ALL_JOB).execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    assert delivered(root.parent, MISSION)


def test_the_night_is_skipped_with_a_reason_where_there_is_nothing_to_run(root, kept_instance, settings):
    assert "STAGE_A_INPUT_ROOT" in tonight(kept_instance, SettingsResource()).skip_message
    (root / MISSION).rename(root / "别的")
    assert "no mission has a folder" in tonight(kept_instance, settings()).skip_message


def test_a_night_s_run_that_is_not_over_is_not_doubled(kept_instance, settings):
    job = location(settings(), ALL_JOB)
    run = kept_instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert run.run_id in tonight(kept_instance, settings()).skip_message


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        (
            'nightly = true\nnightly_cron = "30 1 * * 1-5"\ntimezone = "Asia/Shanghai"\nsensor = true',
            "RUNNING RUNNING 30 1 * * 1-5 Asia/Shanghai ['a@b.com']",
        ),
        ('nightly_cron = "99 1 * * *"', "setting automation.nightly_cron: '99 1 * * *' is no time"),
    ],
)
def test_the_settings_turn_sensor_and_schedule_on(tmp_path, toml, told):
    file = tmp_path / "settings.toml"
    file.write_text(f'[automation]\nowners = ["a@b.com"]\n{toml}\n')
    program = (
        "from stage_a_pipeline.defs.arrivals import new_or_changed_groups as s, nightly as n; "
        "from stage_a_pipeline.defs.ingest import image_groups as i; "
        "print(s.default_status.value, n.default_status.value, n.cron_schedule, n.execution_timezone, "
        "list(i.owners_by_key.values())[0])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "STAGE_A_SETTINGS": str(file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told in ran.stdout + ran.stderr


class Conditions:
    """Automation conditions evaluated one after another, as the sensor `automation_conditions` does."""

    def __init__(self, instance, settings):
        self.instance, self.cursor = instance, None
        self.defs = dg.Definitions(assets=ASSETS, asset_checks=CHECKS, resources=default_resources(settings))
        self.requested()

    def requested(self):
        found = dg.evaluate_automation_conditions(self.defs, self.instance, cursor=self.cursor)
        self.cursor = found.cursor
        keys = (result.key for result in found.results if found.get_num_requested(result.key))
        return {key.to_user_string() for key in keys}

    def materialise(self, *names):
        result = dg.materialize(
            [*ASSETS, *CHECKS],
            selection=list(names) or None,
            partition_key=MISSION,
            instance=self.instance,
            resources=self.defs.resources,
        )
        assert result.success


CHAIN = {
    "sampled_groups", "stage_a_summaries", "clean_summaries", "enriched_records", "stage_a_jsonl",
    "stage_a_report", "stage_a_evaluation",
}  # fmt: skip


def test_an_unchanged_listing_leads_to_nothing_and_a_new_group_to_the_whole_chain(root, instance, settings):
    conditions = Conditions(instance, settings())
    conditions.materialise()
    assert conditions.requested() == set(), "a run of the whole chain leaves nothing to do"
    conditions.materialise("image_groups")
    assert conditions.requested() == set()
    drop_group(root)
    conditions.materialise("image_groups")
    assert conditions.requested() == CHAIN
    assert conditions.requested() == set(), "what is requested is requested once"


def test_a_failed_run_leaves_a_file_and_reaches_the_webhook(tmp_path, root, instance, settings):
    hook = Hook()
    own = settings(webhook_url=hook.url.get_secret_value(), ui_url="http://dagster.example:8080/")
    for photo in root.rglob("*.jpg"):
        photo.write_bytes(b"broken")
    result = location(own).execute_in_process(partition_key=MISSION, instance=instance, raise_on_error=False)
    run = instance.get_run_by_id(result.run_id)
    for _ in range(2):
        tell(instance, run, result, own)
    hook.close()
    (file,) = (tmp_path / "out" / "work" / "incidents").iterdir()
    text = file.read_text("utf-8")
    for told in (
        f"# {MISSION}: run failed",
        "stage_a_summaries.merge_shards",
        "3 of 3 groups were rejected",
        f"http://dagster.example:8080/runs/{run.run_id}",
        "Do what the message above says.",
    ):
        assert told in text
    assert "s3cret" not in text
    ((_, body),) = hook.received
    assert body["incident"] == str(file)
    assert body["missions"] == [MISSION]


def tell(instance, run, result, settings):
    event = next(event for event in result.all_events if event.is_run_failure)
    with dg.build_run_status_sensor_context(
        "incidents", event, instance, run, resources={"settings": settings}
    ).for_run_failure() as context:
        incidents(context)


def test_a_webhook_that_is_down_neither_hides_nor_worsens_a_failure(
    tmp_path, root, settings, monkeypatch, caplog
):
    hook = Hook()
    url = hook.url.get_secret_value()
    hook.close()
    monkeypatch.setattr("stage_a_pipeline.webhook._FIRST_WAIT", 0)
    (root / MISSION).rename(tmp_path / "elsewhere")
    own = settings(webhook_url=url)
    (run,) = materialise_missions([MISSION], settings=own, progress=LogProgress())
    assert f"mission '{MISSION}' has no folder" in run.error
    written, unheard = run.remarks
    (file,) = (tmp_path / "out" / "work" / "incidents").iterdir()
    assert written == f"incident: {file}"
    assert unheard.startswith("the webhook on 127.0.0.1 cannot be reached (ConnectError)")
    assert "s3cret" not in caplog.text + unheard


def test_an_incident_that_cannot_be_written_is_told_all_the_same(tmp_path, root, settings):
    hook = Hook()
    (root / MISSION).rename(tmp_path / "elsewhere")
    (tmp_path / "out" / "work").mkdir(parents=True)
    (tmp_path / "out" / "work" / "incidents").write_text("in the way")
    own = settings(webhook_url=hook.url.get_secret_value())
    (run,) = materialise_missions([MISSION], settings=own, progress=LogProgress())
    hook.close()
    assert "has no file" in run.remarks[0]
    assert hook.received[0][1]["incident"] is None


def test_a_run_without_a_job_carries_the_tags_of_its_own_settings(instance, settings):
    resources = default_resources(settings())
    result = dg.materialize([*ASSETS, *CHECKS], partition_key=MISSION, instance=instance, resources=resources)
    tags = instance.get_run_by_id(result.run_id).tags
    assert (tags["stage_a/engine"], tags["stage_a/device"]) == ("fake", "cpu")


def test_no_secret_of_the_automation_is_in_the_files_of_a_run(tmp_path, settings):
    own = settings(webhook_url="https://chat.example.com/s3cret")
    (run,) = materialise_missions([MISSION], settings=own, progress=LogProgress())
    assert run.error is None
    assert next(mission_status(own.load(), [MISSION])).written == 3
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in files if b"s3cret" in path.read_bytes() or b"webhook" in path.read_bytes()]
