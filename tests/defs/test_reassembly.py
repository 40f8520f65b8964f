"""Data sets in Dagster: partitions, objects and comparisons, through files and the documented commands."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from stage_a_pipeline.defs import data_sets
from stage_a_pipeline.defs.data_sets import new_data_sets
from stage_a_pipeline.defs.jobs import REASSEMBLY_ASSETS
from stage_a_pipeline.defs.reassembly_checks import check_objects
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.demo.scan import write_demo_scan
from stage_a_pipeline.errors import ConfigurationError, LockedError, ReassemblyError
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction
from stage_a_pipeline.reassembly.stitched_object import StitchedObject
from stage_a_pipeline.settings import ReassemblySettings, load_settings
from stage_a_pipeline.storage import claim_output

BIN = Path(sys.executable).parent
SMALL = {"positions": 64, "patch_size": 32}
BETTER_IF_LOW = ("mae", "mse")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set that tests copy, since they break it."""
    return write_demo_scan(tmp_path_factory.mktemp("scan") / "set", **SMALL).folder


@pytest.fixture
def data(tmp_path: Path, scan: Path) -> Path:
    """The folder of one data set called `first`."""
    shutil.copytree(scan, tmp_path / "data" / "first")
    return tmp_path / "data" / "first"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large enough data set, settings that name it, and a DAGSTER_HOME that knows nothing of it."""
    folder = tmp_path_factory.mktemp("reassembly")
    write_demo_scan(folder / "data" / "blue sample")
    (folder / "data" / "no data set").mkdir()
    (folder / "settings.toml").write_text('[reassembly]\ndata_dir = "data"\n[output]\noutput_dir = "out"\n')
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = {"STAGE_A_SETTINGS": str(folder / "settings.toml"), "DAGSTER_HOME": str(folder / "home")}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env=os.environ | names | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def materialised(workplace: Path) -> subprocess.CompletedProcess[str]:
    """The documented commands, once: the data set becomes a partition, and both of its assets are made."""
    added = run(workplace, "stage-a", "data-sets")
    assert (added.returncode, added.stdout) == (0, "blue sample  new\n")
    module = ("-m", "stage_a_pipeline.definitions")
    selection = ("--select", "group:reassembly", "--partition", "blue sample")
    return run(workplace, "dagster", "asset", "materialize", *module, *selection)


def materialise(data: Path, *assets: dg.AssetsDefinition, name: str = "first", **chosen: object):
    """The assets of one data set in memory; all of them unless told otherwise."""
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("data_sets", [name])
    given = {"data_dir": str(data.parent), "device": "cpu", **chosen}
    settings = SettingsResource(
        reassembly={key: value for key, value in given.items() if value is not None},
        output={"output_dir": str(data.parents[1] / "out")},
        inference={"lease_dir": str(data.parents[1] / "leases")},
    )
    return dg.materialize_to_memory(
        list(assets or REASSEMBLY_ASSETS),
        partition_key=name,
        instance=instance,
        resources={"settings": settings, "progress": LogProgress()},
    )


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, object]:
    (made,) = [one for one in result.get_asset_materialization_events() if one.asset_key.path == [asset]]
    return {name: value.value for name, value in made.materialization.metadata.items()}


def results(data: Path) -> Path:
    return data.parents[1] / "out" / "reassembly" / data.name


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "lock" not in path.name
    }


def test_the_documented_commands_make_objects_and_a_comparison(workplace, materialised):
    assert materialised.returncode == 0, materialised.stderr[-3000:]
    written = workplace / "out" / "reassembly" / "blue sample"
    for model in ("pinn", "baseline", "true"):
        found = read_reconstruction(written / model / "reconstruction.npz")
        assert found.object.shape == found.count.shape == (216, 216)
    assert (written / "comparison" / "comparison_plot.png").stat().st_size > 10_000
    assert not (written / ".unfinished").exists()


def test_every_metric_prefers_the_better_model_and_registration_finds_its_shift(workplace, materialised):
    path = workplace / "out" / "reassembly" / "blue sample" / "comparison" / "comparison_metrics.csv"
    rows = list(csv.DictReader(path.open()))
    found = {(row["model"], row["metric"]): row for row in rows}
    for metric in ("mae", "mse", "psnr", "ssim", "ms_ssim", "frc50", "frc1over7"):
        for part in ("amplitude", "phase"):
            pinn, baseline = (float(found[model, metric][part]) for model in ("PtychoPINN", "Baseline"))
            assert (pinn < baseline) == (metric in BETTER_IF_LOW), (metric, part)
    truth = json.loads((workplace / "data" / "blue sample" / "truth.json").read_text())["models"]
    for model, name, near in (("pinn", "PtychoPINN", 0.1), ("baseline", "Baseline", 0.25)):
        for axis in ("y", "x"):
            offset = float(found[name, f"registration_offset_d{axis}"]["value"])
            assert offset == pytest.approx(truth[model][f"shift_{axis}"], abs=near)


def test_the_command_lists_data_sets_that_are_known_without_adding_them_again(workplace, materialised):
    again = run(workplace, "stage-a", "data-sets")
    assert (again.returncode, again.stdout) == (0, "blue sample\n")


def test_without_a_dagster_home_data_sets_are_only_listed(workplace):
    listed = run(workplace, "stage-a", "data-sets", DAGSTER_HOME="")
    assert (listed.returncode, listed.stdout) == (0, "blue sample\n")
    assert "DAGSTER_HOME is not set: they are listed, and added to no Dagster instance" in listed.stderr


def test_a_partition_that_nobody_has_added_fails(workplace):
    module = ("-m", "stage_a_pipeline.definitions")
    selection = ("--select", "group:reassembly", "--partition", "no data set")
    done = run(workplace, "dagster", "asset", "materialize", *module, *selection)
    assert done.returncode == 1


def test_the_asset_pages_show_pictures_numbers_and_paths(data):
    done = materialise(data)
    told = metadata(done, "reassembled_object")
    assert {told[f"{model}_patches"] for model in ("pinn", "baseline", "true")} == {64}
    assert 0.9 < told["pinn_coverage"] <= 1
    assert told["pinn_object"] == str(results(data) / "pinn" / "reconstruction.npz")
    assert told["models"].count("| 64 |") == 3
    pictures = [decoded(text) for text in re.findall(r"base64,([^)]+)\)", told["pictures"])]
    assert len(pictures) == 3
    assert all(picture.width <= 512 and picture.getbbox() for picture in pictures)
    compared = metadata(done, "model_comparison")
    assert isinstance(compared["pinn_ssim_amplitude"], float)
    assert compared["pinn_ssim_amplitude"] > compared["baseline_ssim_amplitude"]
    assert compared["metrics"].startswith("| metric | PtychoPINN, amplitude | Baseline, amplitude |")
    assert compared["csv"] == str(results(data) / "comparison" / "comparison_metrics.csv")
    assert decoded(re.findall(r"base64,([^)]+)\)", compared["picture"])[0]).width <= 720


def decoded(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_the_same_patches_give_the_same_version_and_files(data):
    versions = []
    for _ in range(2):
        (event, *_) = materialise(data).get_asset_materialization_events()
        versions.append((event.materialization.tags["dagster/data_version"], files_of(results(data))))
    assert versions[0] == versions[1]


def nan_patches(folder: Path) -> Path:
    path = folder / "pinn" / "patches.npz"
    arrays = dict(np.load(path, allow_pickle=False))
    arrays["patches"][7, 15, 15] = np.nan
    np.savez(path, allow_pickle=False, **arrays)
    return path


def too_few_positions(folder: Path) -> Path:
    path = folder / "baseline" / "offsets.npy"
    np.save(path, np.load(path, allow_pickle=False)[:-1], allow_pickle=False)
    return path


def half_a_file(folder: Path) -> Path:
    path = folder / "true" / "patches.npz"
    path.write_bytes(path.read_bytes()[:1000])
    return path


def gone(folder: Path) -> Path:
    shutil.rmtree(folder)
    return folder / "test_data.npz"


@pytest.mark.parametrize("damage", [nan_patches, too_few_positions, half_a_file, gone])
def test_a_broken_data_set_fails_naming_the_file_and_leaves_old_results_as_they_are(data, damage):
    materialise(data)
    before = files_of(results(data))
    path = damage(data)
    with pytest.raises(ReassemblyError, match=re.escape(str(path))):
        materialise(data)
    assert files_of(results(data)) == before


@pytest.mark.parametrize("name", ["..", "first/..", "../data/first"])
def test_a_partition_that_leads_elsewhere_is_no_data_set(data, name):
    with pytest.raises(ReassemblyError, match="is no data set's name"):
        materialise(data, name=name)


def test_a_folder_of_data_sets_that_is_not_set_is_told(data):
    with pytest.raises(ConfigurationError, match=r"give reassembly\.data_dir"):
        materialise(data, data_dir=None)


def test_a_data_set_without_models_is_told_what_to_put_where(data):
    for model in ("pinn", "baseline", "true"):
        shutil.rmtree(data / model)
    with pytest.raises(ReassemblyError, match=r"holds no folder with a model's patches; put .* `pinn` there"):
        materialise(data)


def test_a_comparison_before_its_objects_says_what_to_materialise_first(data):
    with pytest.raises(ReassemblyError, match="materialise reassembled_object of data set 'first' first"):
        materialise(data, REASSEMBLY_ASSETS[1])


def test_a_model_that_comes_stitched_is_compared_as_it_is(data):
    materialise(data)
    stitched = results(data) / "baseline" / "reconstruction.npz"
    shutil.move(stitched, data / "baseline" / "reconstruction.npz")
    done = materialise(data)
    assert "baseline_side" not in metadata(done, "reassembled_object")
    assert "baseline_ssim_phase" in metadata(done, "model_comparison")
    assert not stitched.exists()


def test_the_object_of_a_third_program_is_compared_too(data):
    materialise(data, REASSEMBLY_ASSETS[0])
    shutil.copy(results(data) / "true" / "reconstruction.npz", data / "tike.npz")
    told = metadata(materialise(data), "model_comparison")
    assert told["tike_mae_phase"] < told["pinn_mae_phase"] < told["baseline_mae_phase"]


def test_two_runs_never_write_the_same_data_set(data):
    results(data).mkdir(parents=True)
    with (
        claim_output(results(data), "objects", run_id="another", purpose="test"),
        pytest.raises(LockedError, match="what is made of this data set is being written by"),
    ):
        materialise(data)


def test_what_a_killed_run_has_left_is_removed(data):
    left = results(data) / ".unfinished" / "pinn"
    left.mkdir(parents=True)
    (left / "reconstruction.npz").write_bytes(b"half")
    materialise(data)
    assert not left.parent.exists()


@pytest.fixture
def stitched(tmp_path: Path) -> StitchedObject:
    return StitchedObject(
        model="pinn",
        path=tmp_path / "reconstruction.npz",
        patches=9,
        seconds=0.1,
        side=40,
        object_shape=(40, 40),
        count_shape=(40, 40),
        finite=True,
        coverage=0.97,
        picture=b"",
    )


@pytest.mark.parametrize(
    ("check", "changes", "told"),
    [
        ("patches_cover_the_scan", {"coverage": 0.5}, r"pinn: 50\.0%, below 95\.0%.* raise .*crop_size"),
        ("values_are_finite", {"finite": False}, r"not finite: .*reconstruction\.npz; look at the patches"),
        ("objects_fit_their_plans", {"object_shape": (40, 42)}, r"40 x 42 and 40 x 40, planned 40 x 40"),
        ("objects_fit_their_plans", {"count_shape": (38, 38)}, r"40 x 40 and 38 x 38, planned 40 x 40"),
        ("objects_fit_their_plans", {"side": 42}, r"pinn: 40 x 40, planned 42 x 42"),
    ],
)
def test_a_check_fails_for_its_own_cause_alone_and_says_what_to_do(stitched, check, changes, told):
    sound = check_objects([stitched], ReassemblySettings())
    assert all(result.passed for result in sound)
    judged = {
        one.check_name: one for one in check_objects([replace(stitched, **changes)], ReassemblySettings())
    }
    assert [name for name, one in judged.items() if not one.passed] == [check]
    assert re.search(told, judged[check].description)


def test_a_scan_with_holes_warns_and_is_compared_all_the_same(data):
    done = materialise(data, crop_size=6)
    (check,) = [
        one for one in done.get_asset_check_evaluations() if one.check_name == "patches_cover_the_scan"
    ]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert done.success
    assert "pinn_mae_phase" in metadata(done, "model_comparison")


def test_the_sensor_adds_what_is_new_and_removes_nothing(data, monkeypatch):
    (data.parent / "no data set").mkdir()
    (data.parent / ".hidden").mkdir()
    shutil.copy(data / "test_data.npz", data.parent / ".hidden")
    settings = load_settings(environ={}, overrides={"reassembly": {"data_dir": data.parent}})
    monkeypatch.setattr(data_sets, "SETTINGS_AT_LOAD", settings)
    instance = dg.DagsterInstance.ephemeral()
    instance.add_dynamic_partitions("data_sets", ["gone"])
    found = new_data_sets(dg.build_sensor_context(instance=instance))
    (request,) = found.dynamic_partitions_requests
    assert found.skip_reason.skip_message == "new, and to be materialised: first"
    assert (request.partitions_def_name, list(request.partition_keys)) == ("data_sets", ["first"])
    instance.add_dynamic_partitions("data_sets", ["first"])
    skipped = new_data_sets(dg.build_sensor_context(instance=instance))
    assert skipped.skip_message == "nothing new among 1 data sets"


def test_the_sensor_runs_by_itself_only_where_there_is_a_folder_to_look_in():
    program = (
        "from stage_a_pipeline.defs.data_sets import new_data_sets; print(new_data_sets.default_status.value)"
    )
    assert new_data_sets.default_status is dg.DefaultSensorStatus.STOPPED
    with_folder = "import os, pathlib, tempfile; f = pathlib.Path(tempfile.mkdtemp()) / 's.toml'; "
    with_folder += (
        "f.write_text('[reassembly]\\ndata_dir = \".\"'); os.environ['STAGE_A_SETTINGS'] = str(f); "
    )
    done = subprocess.run(
        [sys.executable, "-c", with_folder + program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "RUNNING\n"
