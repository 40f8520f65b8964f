"""Stage-B in Dagster: one real training behind delivered files, by the command of the documents."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import dagster as dg
import pytest

from stage_a_pipeline.defs.jobs import ASSETS, STAGE_B_ASSETS
from stage_a_pipeline.defs.launch import CHECKS, STAGE_B_CHECKS
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.defs.stage_b import stage_b_dataset
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.errors import InputError
from stage_a_pipeline.jsonl import output_paths
from tests.conftest import MISSION, write_groups

DAGSTER = str(Path(sys.executable).with_name("dagster"))
ASSET_NAMES = ["stage_b_dataset", "stage_b_adapter", "stage_b_evaluation"]
TINY = {
    "max_steps": 2,
    "num_generations": 2,
    "prompts_per_step": 2,
    "gradient_accumulation": 1,
    "max_new_tokens": 16,
    "temperature": 1.2,
    "save_steps": 1,
    "warmup_steps": 0,
    "held_out_fraction": 0.4,
    "stage_a_photos": 4,
    "bootstrap_samples": 100,
}


def deliver(root: Path, output: Path) -> Path:
    """The truth of a demo tree, as the file that Stage-A delivers."""
    lines = [json.loads(line) for line in (root / "truth.jsonl").read_text("utf-8").splitlines()]
    delivered = output_paths(output, MISSION).jsonl
    delivered.parent.mkdir(parents=True, exist_ok=True)
    with delivered.open("w", encoding="utf-8") as file:
        for (group_id, label), photos in groupby(lines, key=lambda line: (line["group_id"], line["label"])):
            shown = list(photos)
            record = {
                "group_id": group_id,
                "mission": MISSION,
                "label": label,
                "images": [photo["image"] for photo in shown],
                "per_image": {f"image_{n}": photo["summary"] for n, photo in enumerate(shown, start=1)},
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    return delivered


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A rendered tree and its delivered file, settings, and a DAGSTER_HOME."""
    folder = tmp_path_factory.mktemp("stage_b")
    write_demo_tree(folder / "photos", missions=[MISSION], groups=8, seed=5)
    deliver(folder / "photos", folder / "out")
    (folder / "settings.toml").write_text(
        f'[discovery]\ninput_root = "{folder}/photos"\n[inference]\nlease_dir = "{folder}/leases"\n'
        f'[output]\noutput_dir = "{folder}/out"\n'
    )
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


def materialise(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    names = {"STAGE_A_SETTINGS": str(folder / "settings.toml"), "DAGSTER_HOME": str(folder / "home")}
    return subprocess.run(
        [DAGSTER, "asset", "materialize", "-m", "stage_a_pipeline.definitions", *arguments],
        cwd=folder,
        env=os.environ | names,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def config(**grpo: object) -> str:
    return json.dumps({"resources": {"settings": {"config": {"grpo": grpo}}}})


class Run:
    """What a DAGSTER_HOME knows of its latest run."""

    def __init__(self, home: Path) -> None:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            (run,) = instance.get_runs(limit=1)
            entries = instance.all_logs(run.run_id)
        events = [entry.dagster_event for entry in entries if entry.is_dagster_event]
        self.log = "\n".join(entry.user_message for entry in entries)
        made = [event.step_materialization_data.materialization for event in events
                if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION]  # fmt: skip
        self.made = {one.asset_key.to_user_string(): one for one in made}
        judged = [event.asset_check_evaluation_data for event in events
                  if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION]  # fmt: skip
        self.checks = {one.check_name: one for one in judged}
        self.steps = [event.step_key for event in events if event.is_step_success]

    def metadata(self, asset: str) -> dict:
        return dict(self.made[asset].metadata)

    def version(self, asset: str) -> str:
        return self.made[asset].tags["dagster/data_version"]


@pytest.fixture(scope="module")
def trained(workplace):
    """The whole of Stage-B, once, with settings of the run config."""
    done = materialise(workplace, "--select", "key:stage_b_dataset+", "--config-json", config(**TINY))
    assert done.returncode == 0, done.stderr[-3000:]
    return Run(workplace / "home")


def test_the_documented_selection_makes_all_three_assets_in_order(trained):
    assert list(trained.made) == ASSET_NAMES
    assert trained.steps.index("stage_b_tickets_are_sound") < trained.steps.index("stage_b_adapter")


def test_every_check_is_judged_and_only_those_may_warn_that_are_warnings(trained):
    severities = {name: check.severity.value for name, check in trained.checks.items()}
    assert severities == {
        "both_labels_are_there": "WARN",
        "labels_do_not_contradict": "WARN",
        "frozen_weights_unchanged": "ERROR",
        "verdicts_have_their_form": "ERROR",
        "accuracy_not_below_the_start": "ERROR",
        "stage_a_quality_kept": "ERROR",
    }
    assert trained.checks["frozen_weights_unchanged"].passed
    assert trained.checks["stage_a_quality_kept"].description.startswith("Stage-A with the adapter, ")
    assert all(check.description for check in trained.checks.values())


def test_the_dataset_tells_its_counts_and_a_row_per_mission(trained, workplace):
    told = trained.metadata("stage_b_dataset")
    assert told["dagster/row_count"].value == told["train"].value + told["held_out"].value >= 8
    assert told["held_out"].value > 0
    assert told["skipped_lines"].value == {}
    assert told["files"].value == [str(output_paths(workplace / "out", MISSION).jsonl)]
    assert told["missions"].value.count(f"| {MISSION} | {told['dagster/row_count'].value} |") == 1
    assert len(trained.version("stage_b_dataset")) == 64


def test_the_adapter_tells_where_it_lies_and_shows_its_rewards(trained, workplace):
    told = trained.metadata("stage_b_adapter")
    assert told["steps"].value == 2, "run config reaches the training's own process"
    assert told["adapter"].value == str(workplace / "out" / "stage_b" / "adapter")
    folder = workplace / "out" / "stage_b" / "runs" / trained.version("stage_b_adapter")
    assert told["metrics"].value == str(folder / "metrics.jsonl")
    assert Path(told["tensorboard"].value).is_dir()
    assert picture(told["rewards"]).startswith("<svg ")
    assert all("lora_" in name for name in told["trainable"].value)


def test_the_evaluation_tells_shares_before_and_after_with_its_pictures(trained, workplace):
    told = trained.metadata("stage_b_evaluation")
    document = json.loads(Path(told["scores"].value).read_text("utf-8"))
    verdicts = document["verdicts"]
    assert told["scores"].value == str(workplace / "out" / "stage_b" / "evaluation.json")
    assert told["tickets"].value == trained.metadata("stage_b_dataset")["held_out"].value
    for side in ("before", "after"):
        for name in ("accuracy", "format"):
            assert told[f"{name}_{side}"].value == round(verdicts[side][name]["value"], 4)
    assert f"{verdicts['after']['accuracy']['value']:.1%}" in told["verdicts"].value
    assert MISSION in told["missions"].value
    assert told["stage_a"].value == trained.checks["stage_a_quality_kept"].description
    assert document["stage_a"]["photos"] > 0
    for name in ("accuracy", "confusion"):
        assert picture(told[name]) == (workplace / "out" / "stage_b" / f"evaluation.{name}.svg").read_text()


def picture(metadata: dg.MarkdownMetadataValue) -> str:
    _, _, encoded = metadata.value.rstrip(")").partition("base64,")
    return base64.b64decode(encoded).decode()


def test_progress_is_told_in_what_is_counted(trained):
    assert "training: 2 of 2 steps, " in trained.log
    assert "verdicts before: " in trained.log
    assert " tickets, " in trained.log


@pytest.fixture
def in_memory(tmp_path):
    """Materialise the tickets in memory, with an output folder of the test's own."""

    def run(**tags: str) -> dg.ExecuteInProcessResult:
        settings = SettingsResource(
            grpo={"held_out_fraction": 0.5}, output={"output_dir": str(tmp_path / "out")}
        )
        return dg.materialize_to_memory(
            [*STAGE_B_ASSETS, *STAGE_B_CHECKS],
            selection=dg.AssetSelection.assets(stage_b_dataset),
            resources={"settings": settings, "progress": LogProgress()},
            tags=tags,
        )

    return run


def test_tickets_in_memory_have_the_version_of_what_they_hold(in_memory, workplace, tmp_path):
    delivered = deliver(workplace / "photos", tmp_path / "out")
    versions = [version_of(in_memory()) for _ in range(2)]
    lines = delivered.read_text("utf-8").splitlines(keepends=True)
    delivered.write_text("".join(lines[1:]), "utf-8")
    assert versions[0] == versions[1] != version_of(in_memory())


def version_of(result: dg.ExecuteInProcessResult) -> str:
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {
        "both_labels_are_there",
        "labels_do_not_contradict",
    }
    (made,) = result.asset_materializations_for_node("stage_b_dataset")
    return made.tags["dagster/data_version"]


def test_without_a_delivered_file_the_error_says_what_to_do(in_memory):
    with pytest.raises(InputError, match="no canonical JSONL of a known mission; run Stage-A first"):
        in_memory()


def test_without_a_delivered_file_the_command_fails_with_that_sentence(workplace, tmp_path):
    empty = json.dumps({"resources": {"settings": {"config": {"output": {"output_dir": str(tmp_path)}}}}})
    done = materialise(workplace, "--select", "key:stage_b_dataset", "--config-json", empty)
    assert done.returncode == 1
    assert f"{tmp_path} holds no canonical JSONL of a known mission; run Stage-A first" in done.stderr


def test_a_run_of_a_mission_with_every_asset_trains_nothing_and_succeeds(tmp_path):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [1], "pass": [2]})
    settings = SettingsResource(
        discovery={"input_root": str(root)},
        engine={"engine": "fake"},
        inference={"worker_processes": False, "lease_dir": str(tmp_path / "leases")},
        output={"output_dir": str(tmp_path / "out")},
    )
    result = dg.materialize_to_memory(
        [*ASSETS, *CHECKS, *STAGE_B_ASSETS, *STAGE_B_CHECKS],
        partition_key=MISSION,
        resources={"settings": settings, "progress": LogProgress()},
    )
    skipped = {event.step_key for event in result.all_events if event.is_step_skipped}
    assert skipped == {"stage_b_tickets_are_sound", "stage_b_adapter", "stage_b_evaluation"}
    assert not result.asset_materializations_for_node("stage_b_dataset")
    assert output_paths(tmp_path / "out", MISSION).jsonl.exists()
    assert not (tmp_path / "out" / "stage_b").exists()
