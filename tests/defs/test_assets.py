"""The whole chain in memory: real photo files, the fake engine, real output files."""

import json

import dagster as dg
import pytest
import xlsxwriter

from stage_a_pipeline.defs.jobs import ASSETS, MISSION_JOB
from stage_a_pipeline.defs.launch import CHECKS, default_resources
from stage_a_pipeline.defs.partitions import MISSIONS
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.errors import (
    ConfigurationError,
    DiscoveryError,
    FailureBudgetError,
    LockedError,
    OutputError,
    StaleTableError,
    WorkbookError,
)
from stage_a_pipeline.inference.shard import mission_recipe, plan_run, require_fingerprint
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records, validate_file
from stage_a_pipeline.settings import EngineSettings, GrpoSettings, ReassemblySettings, Settings
from stage_a_pipeline.storage import claim_output, device_lease
from tests.conftest import BRACKETS, MISSION, write_groups, write_photo

FAKE = '[engine]\nengine = "fake"\n[inference]\nworker_processes = false\nlease_dir = "leases"\n'


@pytest.fixture
def root(tmp_path):
    return write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})


def photo(root, group, name, mission=MISSION):
    return next((root / mission).glob(f"*/{group}/{name}"))


def write_workbook(path, rows):
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        for number, (group_id, mission, reason, flag) in enumerate(rows):
            for column, value in ((0, group_id), (2, mission), (5, reason), (6, flag)):
                sheet.write(number, column, value)
    return path


def checks(result):
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


@pytest.mark.parametrize("mission", [MISSION, BRACKETS])
def test_every_asset_is_materialised_and_the_file_keeps_the_contract(tmp_path, materialise, mission):
    root = write_groups(tmp_path / "in", mission, {"fail": [3, 1], "pass": [2]})
    result = materialise(root, mission)
    assert result.success
    assert set(checks(result).values()) == {True}
    paths = output_paths(tmp_path / "out", mission)
    records = list(read_records(paths.jsonl))
    assert [(r.label, r.group_id, len(r.images)) for r in records] == [
        ("fail", "QC-20241028-fail001", 3),
        ("fail", "QC-20241028-fail002", 1),
        ("pass", "QC-20241028-pass001", 2),
    ]
    assert {r.mission for r in records} == {mission}
    assert paths.rejected.read_bytes() == b""
    assert not validate_file(paths.jsonl).errors


def test_one_broken_photo_loses_exactly_its_group_and_is_named(tmp_path, materialise, root):
    photo(root, "QC-20241028-fail003", "IMG_2.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = materialise(root)
    paths = output_paths(tmp_path / "out", MISSION)
    assert [r.group_id[-7:] for r in read_records(paths.jsonl)] == [
        "fail001",
        "fail002",
        "pass001",
        "pass002",
    ]
    (line,) = [json.loads(line) for line in paths.rejected.read_text("utf-8").splitlines()]
    assert (line["group_id"], line["image"], line["stage"]) == ("QC-20241028-fail003", "IMG_2.jpg", "read")
    counts = read_manifest(paths.manifest).counts
    assert (counts.discovered, counts.sampled_out, counts.written, counts.rejected) == (5, 0, 4, 1)
    assert checks(result)["few_groups_are_rejected"] is False


def test_two_groups_of_one_ticket_are_told_apart_when_the_first_is_lost(tmp_path, materialise, root):
    folder, ticket = root / MISSION / "审核通过", "QC-TEMP-20241028-7"
    write_photo(folder / "a" / f"{ticket}.jpg", seed=70).write_bytes(b"")
    write_photo(folder / "b" / f"{ticket}_2.jpg", seed=71)
    result = materialise(root)
    assert result.success
    assert checks(result)["records_cover_their_images"]
    assert checks(result)["no_duplicate_tickets"] is False
    records = read_records(output_paths(tmp_path / "out", MISSION).jsonl)
    assert [record.group_id for record in records].count(ticket) == 1


def test_the_same_inputs_give_the_same_bytes(tmp_path, materialise, root):
    paths = output_paths(tmp_path / "out", MISSION)
    materialise(root)
    first = paths.jsonl.read_bytes(), paths.rejected.read_bytes()
    materialise(root, output={"output_dir": str(tmp_path / "again")}, engine={"batch_size": 1})
    again = output_paths(tmp_path / "again", MISSION)
    assert (again.jsonl.read_bytes(), again.rejected.read_bytes()) == first


@pytest.mark.parametrize(
    "variant",
    [
        {"engine": {"devices": ["cpu", "cpu"]}},
        {"engine": {"devices": ["cpu", "cpu", "cpu"]}, "inference": {"sharding_mode": "per_image"}},
        {"inference": {"batching_mode": "per_group"}},
    ],
)
def test_devices_modes_and_batch_size_never_change_the_file(tmp_path, materialise, root, variant):
    materialise(root)
    expected = output_paths(tmp_path / "out", MISSION).jsonl.read_bytes()
    materialise(root, **variant, output={"output_dir": str(tmp_path / "variant")})
    assert output_paths(tmp_path / "variant", MISSION).jsonl.read_bytes() == expected


def test_a_second_run_infers_nothing_and_touches_no_output_file(tmp_path, materialise, root):
    paths = output_paths(tmp_path / "out", MISSION)
    files = (paths.jsonl, paths.rejected, paths.manifest)
    # The faults belong to the settings that the manifest lists, so both runs name the same file.
    faults = tmp_path / "faults.toml"
    faults.write_text("")
    materialise(root, engine={"fake_faults": str(faults)})
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in files]
    faults.write_text('[[fault]]\nkind = "error"\nmatch = "*"')
    assert materialise(root, engine={"fake_faults": str(faults)}).success
    assert [(path.stat().st_mtime_ns, path.stat().st_ino) for path in files] == before


def test_new_photos_only_are_inferred_on_the_next_run(tmp_path, materialise, root):
    materialise(root)
    write_groups(root, MISSION, {"pass": [1, 1, 2]}, first_seed=100)
    result = materialise(root)
    metadata = result.asset_materializations_for_node("stage_a_summaries.merge_shards")[0].metadata
    assert metadata["photos"].value == 14
    assert metadata["inferred"].value == 4


def test_sampling_takes_the_reference_split_and_counts_the_rest(tmp_path, materialise, root):
    result = materialise(root, sampling={"pass_count": 1, "fail_count": 2, "seed": 42})
    counts = read_manifest(output_paths(tmp_path / "out", MISSION).manifest).counts
    assert (counts.discovered, counts.sampled_out, counts.written, counts.rejected) == (5, 2, 3, 0)
    metadata = result.asset_materializations_for_node("sampled_groups")[0].metadata
    stats = {
        key: metadata[key].value for key in ("pass_total", "pass_selected", "fail_total", "fail_selected")
    }
    assert stats == {"pass_total": 2, "pass_selected": 1, "fail_total": 3, "fail_selected": 2}


def test_fail_reasons_join_fail_records_and_no_others(tmp_path, materialise, root):
    rows = [
        ("QC-20241028-fail001", MISSION, "螺丝不符合", 2),
        ("QC-20241028-fail001", MISSION, "标签不可读", 2),
        ("QC-20241028-pass001", MISSION, "通过", 1),
        ("QC-20241028-gone", MISSION, "没有照片", 2),
    ]
    workbook = write_workbook(tmp_path / "reviews.xlsx", rows)
    result = materialise(root, fail_reasons={"workbook": str(workbook)})
    records = {r.group_id[-7:]: r for r in read_records(output_paths(tmp_path / "out", MISSION).jsonl)}
    assert records["fail001"].fail_reasons == ("标签不可读", "螺丝不符合")
    assert records["fail002"].fail_reasons == ()
    assert records["pass001"].fail_reasons is None
    assert checks(result)["fail_reasons_match"] is False


def test_rru_records_pass_without_fail_reasons_even_with_a_workbook(tmp_path, materialise):
    root = write_groups(tmp_path / "in", "RRU线缆", {"fail": [1], "pass": [1]})
    workbook = write_workbook(tmp_path / "reviews.xlsx", [("QC-20241028-fail001", MISSION, "x", 2)])
    materialise(root, "RRU线缆", fail_reasons={"workbook": str(workbook)})
    assert all(r.fail_reasons is None for r in read_records(output_paths(tmp_path / "out", "RRU线缆").jsonl))


def test_a_run_that_loses_too_much_fails_and_keeps_the_last_good_file(tmp_path, materialise, root):
    materialise(root)
    paths = output_paths(tmp_path / "out", MISSION)
    good = paths.jsonl.read_bytes(), paths.manifest.read_bytes()
    for group in ("fail001", "fail002"):
        photo(root, f"QC-20241028-{group}", "IMG_1.jpg").write_bytes(b"")
    with pytest.raises(FailureBudgetError, match=r"2 of 5 groups were rejected.*stays as it was"):
        materialise(root)
    assert (paths.jsonl.read_bytes(), paths.manifest.read_bytes()) == good
    rejected = [json.loads(line) for line in paths.rejected.read_text("utf-8").splitlines()]
    assert [line["group_id"][-7:] for line in rejected] == ["fail001", "fail002"]


def test_a_first_run_in_which_everything_fails_writes_no_jsonl(tmp_path, materialise, root):
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "error"\nmatch = "*"')
    with pytest.raises(FailureBudgetError, match="5 of 5 groups were rejected"):
        materialise(root, engine={"fake_faults": str(faults)})
    paths = output_paths(tmp_path / "out", MISSION)
    assert not paths.jsonl.exists()
    assert len(paths.rejected.read_text("utf-8").splitlines()) == 12


def test_a_failed_blocking_check_stops_what_follows(tmp_path, materialise, root, monkeypatch):
    from stage_a_pipeline.defs import delivery

    monkeypatch.setattr(
        delivery, "assemble_records", lambda groups, outcomes: list(real(groups, outcomes))[::-1]
    )
    real = __import__("stage_a_pipeline.inference.assembly", fromlist=["x"]).assemble_records
    result = materialise(root, raise_on_error=False)
    assert not result.success
    assert checks(result)["records_cover_their_images"] is False
    assert not output_paths(tmp_path / "out", MISSION).jsonl.exists()


def test_run_config_goes_on_top_of_file_and_environment(tmp_path, root, monkeypatch):
    settings = tmp_path / "settings.toml"
    settings.write_text(f"{FAKE}[sampling]\npass_count = 2\nfail_count = 0\n")
    monkeypatch.setenv("STAGE_A_SETTINGS", str(settings))
    monkeypatch.setenv("STAGE_A_INPUT_ROOT", str(root))
    monkeypatch.setenv("STAGE_A_OUTPUT_DIR", str(tmp_path / "out"))
    result = dg.materialize_to_memory(
        [*ASSETS, *CHECKS],
        partition_key=MISSION,
        resources={"settings": SettingsResource(), "progress": LogProgress()},
        run_config={"resources": {"settings": {"config": {"sampling": {"pass_count": 1}}}}},
    )
    assert result.success
    records = list(read_records(output_paths(tmp_path / "out", MISSION).jsonl))
    assert [record.label for record in records] == ["pass"]


def test_a_missing_root_is_named(tmp_path, materialise):
    with pytest.raises(DiscoveryError, match="nowhere"):
        materialise(tmp_path / "nowhere")


def test_a_mission_without_a_folder_says_what_is_there(materialise, root):
    with pytest.raises(DiscoveryError, match=MISSION):
        materialise(root, BRACKETS)


def test_the_missions_own_folder_as_root_works_and_says_so(tmp_path, materialise, root):
    assert materialise(root / MISSION).success
    assert len(list(read_records(output_paths(tmp_path / "out", MISSION).jsonl))) == 5


def test_an_empty_mission_is_an_error(materialise, tmp_path):
    (tmp_path / "in" / MISSION / "审核通过").mkdir(parents=True)
    with pytest.raises(DiscoveryError, match=MISSION):
        materialise(tmp_path / "in")


def test_a_sample_of_nothing_is_an_error(materialise, root):
    with pytest.raises(DiscoveryError, match="pass_count"):
        materialise(root, sampling={"pass_count": 0, "fail_count": 0})


def test_an_unknown_setting_lists_the_known_ones(materialise):
    with pytest.raises(ConfigurationError, match=r"unknown setting 'engine.batchsize'.*batch_size"):
        materialise("x", engine={"batchsize": 3})


def test_a_missing_checkpoint_stops_before_any_photo_is_read(tmp_path, materialise, root):
    with pytest.raises(ConfigurationError, match=r"nowhere does not exist"):
        materialise(root, engine={"engine": "transformers", "checkpoint": str(tmp_path / "nowhere")})


def test_a_missing_workbook_is_an_error_when_one_is_configured(tmp_path, materialise, root):
    with pytest.raises(WorkbookError, match=r"nothing\.xlsx"):
        materialise(root, fail_reasons={"workbook": str(tmp_path / "nothing.xlsx")})


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, materialise, root):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        materialise(root, output={"output_dir": str(tmp_path / "file")})


def test_a_second_run_on_the_same_output_is_refused(tmp_path, materialise, root):
    locks = tmp_path / "out" / "work" / "locks"
    with (
        claim_output(locks, MISSION, run_id="another-run", purpose="test"),
        pytest.raises(LockedError, match="another-run"),
    ):
        materialise(root)
    assert materialise(root).success


def test_an_unwritable_output_folder_is_named_by_the_real_stores_too(tmp_path, root):
    (tmp_path / "file").write_text("x")
    settings = SettingsResource(
        discovery={"input_root": str(root)},
        engine={"engine": "fake"},
        output={"output_dir": str(tmp_path / "file" / "out")},
    )
    with pytest.raises(OutputError, match="cannot be written"):
        dg.materialize(ASSETS, partition_key=MISSION, resources=default_resources(settings))


class Stored:
    """Assets materialised one by one through the real stores, as people do in the UI."""

    def __init__(self, folder, root):
        self.folder, self.root = folder, root

    def run(self, *selection, raise_on_error=True, **sections):
        settings = SettingsResource(
            discovery={"input_root": str(self.root)},
            sampling=sections.get("sampling", {}),
            engine={"engine": "fake", **sections.get("engine", {})},
            prompts=sections.get("prompts", {}),
            inference={"lease_dir": str(self.folder / "leases"), "worker_processes": False},
            output={"output_dir": str(self.folder / "out")},
        )
        return dg.materialize(
            ASSETS,
            partition_key=MISSION,
            selection=list(selection) or None,
            resources=default_resources(settings),
            instance=dg.DagsterInstance.ephemeral(),
            raise_on_error=raise_on_error,
        )


@pytest.fixture
def stored(tmp_path, root):
    return Stored(tmp_path, root)


def test_answers_are_never_delivered_under_groups_that_were_sampled_later(stored):
    stored.run(sampling={"fail_count": 2, "seed": 1})
    stored.run("image_groups", "sampled_groups", sampling={"fail_count": 2, "seed": 3})
    with pytest.raises(StaleTableError, match="the sampled groups have changed"):
        stored.run("clean_summaries", "enriched_records", "stage_a_jsonl")


def test_records_of_another_run_than_the_summaries_are_not_delivered(stored):
    stored.run()
    stored.run("stage_a_summaries", "clean_summaries", engine={"max_new_tokens": 77})
    with pytest.raises(StaleTableError, match="enriched_records is of another run"):
        stored.run("stage_a_jsonl")


def test_the_manifest_names_what_the_answers_were_made_with(stored):
    stored.run()
    before = read_manifest(output_paths(stored.folder / "out", MISSION).manifest)
    stored.run("stage_a_jsonl", engine={"max_new_tokens": 77})
    assert read_manifest(output_paths(stored.folder / "out", MISSION).manifest) == before


def test_a_run_whose_settings_change_under_way_is_refused():
    planned = Settings(engine=EngineSettings(engine="fake"))
    changed = Settings(engine=EngineSettings(engine="fake", max_new_tokens=7))
    plan = plan_run(mission_recipe(MISSIONS[MISSION], planned), planned)
    with pytest.raises(ConfigurationError, match="have changed since this run was planned"):
        require_fingerprint(mission_recipe(MISSIONS[MISSION], changed), plan.fingerprint)
    require_fingerprint(mission_recipe(MISSIONS[MISSION], planned), plan.fingerprint)


@pytest.mark.parametrize(
    "others", [{"grpo": GrpoSettings(seed=2)}, {"reassembly": ReassemblySettings(crop_size=2)}]
)
def test_settings_of_what_comes_later_are_no_part_of_how_a_file_was_made(others):
    known = [Settings(engine=EngineSettings(engine="fake"), **given) for given in ({}, others)]
    one, other = (plan_run(mission_recipe(MISSIONS[MISSION], settings), settings) for settings in known)
    assert one == other


def test_run_config_moves_tables_and_results_alike(tmp_path, root, monkeypatch):
    settings = tmp_path / "settings.toml"
    settings.write_text(FAKE)
    monkeypatch.setenv("STAGE_A_SETTINGS", str(settings))
    monkeypatch.setenv("STAGE_A_INPUT_ROOT", str(root))
    monkeypatch.setenv("STAGE_A_OUTPUT_DIR", str(tmp_path / "environment"))
    chosen = {"resources": {"settings": {"config": {"output": {"output_dir": str(tmp_path / "chosen")}}}}}
    location = dg.Definitions(ASSETS, asset_checks=CHECKS, jobs=[MISSION_JOB], resources=default_resources())
    job = location.resolve_job_def(MISSION_JOB.name)
    assert job.execute_in_process(partition_key=MISSION, run_config=chosen).success
    assert output_paths(tmp_path / "chosen", MISSION).jsonl.exists()
    assert (tmp_path / "chosen" / "work" / "tables" / "image_groups" / f"{MISSION}.parquet").exists()
    assert not (tmp_path / "environment").exists()
    assert job.execute_in_process(partition_key=MISSION).success
    assert output_paths(tmp_path / "environment", MISSION).jsonl.exists()


def test_a_finished_mission_needs_no_device(tmp_path, materialise, root):
    materialise(root)
    with device_lease(tmp_path / "leases", "cpu", on_wait=lambda sentence: pytest.fail(sentence)):
        assert materialise(root).success


def test_a_mission_whose_answers_are_all_unusable_lists_them(tmp_path, materialise, root):
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nkind = "repetition"\nmatch = "*"')
    with pytest.raises(FailureBudgetError, match="5 of 5 groups"):
        materialise(root, engine={"fake_faults": str(faults)})
    lines = output_paths(tmp_path / "out", MISSION).rejected.read_text("utf-8").splitlines()
    assert {json.loads(line)["reason"] for line in lines} == {"repetition"}
    assert all(json.loads(line)["raw_text"] for line in lines)


def test_verified_inputs_are_recorded_for_the_first_batch(tmp_path, materialise, root):
    materialise(root, engine={"verify_inputs": True})
    path = tmp_path / "out" / "work" / "inputs" / MISSION / "cpu.jsonl"
    traces = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(traces) == 4
    assert all(trace["expected_image_tokens"] == trace["actual_image_tokens"] > 0 for trace in traces)
    assert all(len(trace["rgb_sha256"]) == 64 for trace in traces)
