"""stage_a_evaluation: a mission's own answers beside the truth, with the fake engine and real files."""

import json

import dagster as dg
import pytest

from stage_a_pipeline.defs.jobs import ASSETS, MISSION_JOB
from stage_a_pipeline.defs.launch import CHECKS, default_resources
from stage_a_pipeline.defs.resources import SettingsResource
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.evaluation.document import evaluation_paths
from stage_a_pipeline.evaluation.form import summary_defect
from stage_a_pipeline.evaluation.thresholds import DESCRIPTIONS
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records
from tests.conftest import BRACKETS, MISSION, write_groups

WIRE = '{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}]}'


@pytest.fixture
def root(tmp_path):
    return write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})


def write_truth(root, summary_of=lambda number, path: "无关图片", name="truth.jsonl"):
    paths = [
        image.path.relative_to(root).as_posix()
        for group in discover_groups(root).groups
        for image in group.images
    ]
    lines = [{"path": path, "summary": summary_of(number, path)} for number, path in enumerate(paths)]
    truth = root / name
    truth.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return truth


def checks(result):
    return {
        evaluation.check_name: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name in DESCRIPTIONS
    }


def metadata(result):
    return result.asset_materializations_for_node("stage_a_evaluation")[0].metadata


def document(tmp_path, mission=MISSION):
    return json.loads(evaluation_paths(tmp_path / "out", mission).document.read_text("utf-8"))


def test_without_a_sidecar_it_says_so_passes_and_writes_nothing(tmp_path, materialise, root):
    result = materialise(root)
    statement = f"no truth sidecar {root / 'truth.jsonl'}; nothing to compare"
    assert {key: value.value for key, value in metadata(result).items()} == {"truth": statement}
    found = checks(result)
    assert set(found) == set(DESCRIPTIONS)
    assert {(check.passed, check.description) for check in found.values()} == {(True, statement)}
    assert not list((tmp_path / "out").glob("*.evaluation.*"))


def test_with_a_sidecar_the_answers_are_compared_and_both_files_written(tmp_path, materialise, root):
    materialise(root)
    records = read_records(output_paths(tmp_path / "out", MISSION).jsonl)
    answers = [text for record in records for text in record.summaries]
    valid = [number for number, text in enumerate(answers) if summary_defect(text, "bbu") is None]
    write_truth(root, lambda number, path: answers[number] if number in valid else WIRE)
    result = materialise(root)
    scores = document(tmp_path)
    assert scores["photos"] == len(answers) == 12
    assert scores["exact_match"] == scores["valid"] == len(valid) / 12
    assert scores["checkpoint"] == "engine fake"
    assert scores["fingerprint"] == {
        MISSION: read_manifest(output_paths(tmp_path / "out", MISSION).manifest).fingerprint
    }
    told = metadata(result)
    assert (told["photos"].value, told["exact_match"].value) == (12, scores["exact_match"])
    assert told["attributes"].value.startswith("| attribute | recall |")
    assert told["confusions"].value.startswith("![confusions](data:image/svg+xml;base64,")
    paths = evaluation_paths(tmp_path / "out", MISSION)
    assert (told["scores"].value, told["picture"].value) == (str(paths.document), str(paths.picture))
    assert paths.picture.read_text("utf-8").startswith("<svg ")


def test_low_scores_are_warnings_that_name_the_threshold_and_fail_nothing(tmp_path, materialise, root):
    write_truth(root, lambda number, path: WIRE)
    result = materialise(root)
    assert result.success
    exact = checks(result)["answers_match_exactly"]
    assert (exact.passed, exact.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert exact.description.startswith("exact 0.0%, at least 85.0% expected; the picture")
    assert output_paths(tmp_path / "out", MISSION).jsonl.exists()
    lenient = materialise(root, evaluation={"min_exact_match": 0.0})
    assert checks(lenient)["answers_match_exactly"].passed


def test_shares_of_nothing_are_null_in_the_metadata(materialise, root):
    write_truth(root, lambda number, path: WIRE)
    assert metadata(materialise(root))["irrelevant_recall"] == dg.MetadataValue.null()


def test_a_rejected_photo_with_a_truth_counts_as_wrong(tmp_path, materialise, root):
    write_truth(root)
    photo = next((root / MISSION).rglob("*.jpg"))
    photo.write_bytes(b"")
    result = materialise(root)
    scores = document(tmp_path)
    assert scores["photos"] == 12
    assert scores["rejected"]["paths"] == {photo.relative_to(root).as_posix(): "read: empty"}
    assert metadata(result)["rejected"].value == 1


def test_only_sampled_groups_are_compared(tmp_path, materialise, root):
    write_truth(root)
    materialise(root, sampling={"pass_count": 1, "fail_count": 0})
    scores = document(tmp_path)
    assert 0 < scores["photos"] < 12
    assert scores["unmatched"]["truth_lines_not_evaluated"] == 12 - scores["photos"]
    assert scores["unmatched"]["truth_lines_without_photo"] == 0


def test_files_of_an_earlier_evaluation_go_when_the_sidecar_has_gone(tmp_path, materialise, root):
    truth = write_truth(root)
    materialise(root)
    paths = evaluation_paths(tmp_path / "out", MISSION)
    assert paths.document.exists()
    assert paths.picture.exists()
    truth.unlink()
    materialise(root)
    assert not paths.document.exists()
    assert not paths.picture.exists()


def test_a_sidecar_that_leaves_the_mission_out_is_nothing_to_compare(tmp_path, materialise, root):
    write_groups(root, BRACKETS, {"pass": [1]}, first_seed=90)
    lines = write_truth(root).read_text("utf-8").splitlines(keepends=True)
    (root / "truth.jsonl").write_text("".join(line for line in lines if BRACKETS in line), "utf-8")
    result = materialise(root)
    assert "has no summary for the mission's sampled photos" in metadata(result)["truth"].value
    assert not evaluation_paths(tmp_path / "out", MISSION).document.exists()
    materialise(root, BRACKETS)
    assert document(tmp_path, BRACKETS)["photos"] == 1


def test_a_configured_sidecar_that_is_missing_is_an_error_that_names_it(tmp_path, materialise, root):
    with pytest.raises(InputError, match=r"gone\.jsonl cannot be read: .*evaluation\.truth"):
        materialise(root, evaluation={"truth": str(tmp_path / "gone.jsonl")})


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        ('{"path": "a"}', RecordError, r"truth\.jsonl, line 1: summary: is missing"),
        (f'{{"path": "{MISSION}/x/a.jpg", "summary": null}}', InputError, "no summary for any photo"),
    ],
)
def test_a_wrong_sidecar_fails_the_evaluation_behind_the_delivered_file(
    tmp_path, materialise, root, line, error, message
):
    """And no scores of an earlier run stay beside it."""
    write_truth(root)
    materialise(root)
    paths, delivered = evaluation_paths(tmp_path / "out", MISSION), output_paths(tmp_path / "out", MISSION)
    assert paths.document.exists()
    delivered.jsonl.unlink()
    (root / "truth.jsonl").write_text(line + "\n", "utf-8")
    with pytest.raises(error, match=message):
        materialise(root)
    assert delivered.jsonl.exists()
    assert not paths.document.exists()
    assert not paths.picture.exists()


def test_the_mission_job_evaluates_behind_the_delivered_file(tmp_path, root):
    write_truth(root)
    settings = SettingsResource(
        discovery={"input_root": str(root)},
        engine={"engine": "fake"},
        inference={"lease_dir": str(tmp_path / "leases"), "worker_processes": False},
        output={"output_dir": str(tmp_path / "out")},
    )
    location = dg.Definitions(
        ASSETS, asset_checks=CHECKS, jobs=[MISSION_JOB], resources=default_resources(settings),
        executor=dg.in_process_executor,
    )  # fmt: skip
    result = location.resolve_job_def(MISSION_JOB.name).execute_in_process(partition_key=MISSION)
    steps = [event.step_key for event in result.all_events if event.is_step_success]
    assert steps.index("stage_a_jsonl") < steps.index("stage_a_evaluation")


def test_answers_name_the_checkpoint_they_were_made_with_not_the_present_one(tmp_path, root):
    write_truth(root)

    def run(*selection, **engine):
        settings = SettingsResource(
            discovery={"input_root": str(root)},
            engine={"engine": "fake", **engine},
            inference={"lease_dir": str(tmp_path / "leases"), "worker_processes": False},
            output={"output_dir": str(tmp_path / "out")},
        )
        dg.materialize(
            ASSETS,
            partition_key=MISSION,
            selection=list(selection) or None,
            resources=default_resources(settings),
            instance=dg.DagsterInstance.ephemeral(),
        )

    run()
    before = document(tmp_path)
    run("stage_a_evaluation", engine="refill", checkpoint="elsewhere")
    assert document(tmp_path) == before
