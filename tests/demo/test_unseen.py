"""Missions that the built-in checkpoint has not learnt: what their trees bring, and who knows of them."""

import json
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.demo.unseen import demo_missions, unseen_missions_file
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError, DiscoveryError
from stage_a_pipeline.missions import load_missions
from tests.demo.conftest import MISSION_NAMES, UNSEEN_SEED

GROUNDING, WIRING = "RRU接地检查", "BBU布线检查"
KNOWN = "RRU线缆"


def write(root, *missions, **changes):
    return write_demo_tree(root, missions=missions, **{"groups": 4, "seed": UNSEEN_SEED, **changes})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A tree of both unseen missions and a packaged one."""
    return write(tmp_path_factory.mktemp("unseen") / "tree", GROUNDING, KNOWN, WIRING)


def test_the_unseen_missions_come_on_top_of_the_packaged_ones():
    assert {
        name: mission.dataset for name, mission in demo_missions().items() if name not in MISSION_NAMES
    } == {
        WIRING: "bbu",
        GROUNDING: "rru",
    }
    assert set(load_missions()) == set(MISSION_NAMES) < set(demo_missions())


def test_the_missions_file_is_packaged():
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    patterns = pyproject["tool"]["setuptools"]["package-data"]["stage_a_pipeline"]
    name = unseen_missions_file().relative_to(str(files("stage_a_pipeline"))).as_posix()
    assert any(fnmatch(name, pattern) for pattern in patterns)


def test_a_tree_with_an_unseen_mission_brings_the_missions_file(mixed):
    assert mixed.missions_file == mixed.root / "missions.toml"
    assert mixed.missions_file.read_bytes() == unseen_missions_file().read_bytes()
    assert mixed.unseen == (GROUNDING, WIRING)
    assert mixed.sentence().endswith(
        f"; to discover {GROUNDING} and {WIRING}, "
        f"set discovery.missions_file (STAGE_A_MISSIONS) to {mixed.missions_file}"
    )


def test_a_tree_of_packaged_missions_brings_no_missions_file(tmp_path):
    tree = write(tmp_path / "tree", KNOWN)
    assert tree.missions_file is None
    assert not (tree.root / "missions.toml").exists()
    assert tree.sentence().endswith("truth in truth.jsonl")


def test_with_its_missions_file_discovery_finds_exactly_what_the_truth_lists(mixed):
    found = discover_groups(mixed.root, missions=load_missions(mixed.missions_file))
    discovered = {
        (group.mission, group.label, image.path.relative_to(mixed.root).as_posix())
        for group in found.groups
        for image in group.images
    }
    lines = map(json.loads, mixed.truth.read_text("utf-8").splitlines())
    assert discovered == {(line["mission"], line["label"], line["path"]) for line in lines}
    assert {group.mission for group in found.groups} == {GROUNDING, WIRING, KNOWN}
    assert (found.skipped, found.warnings) == ((), ())


def test_without_it_discovery_names_the_folders_that_it_skips_and_the_remedy(mixed):
    found = discover_groups(mixed.root)
    assert {group.mission for group in found.groups} == {KNOWN}
    assert {(entry.path.name, entry.reason) for entry in found.skipped} == {
        (GROUNDING, "unknown_mission"),
        (WIRING, "unknown_mission"),
    }
    assert all("a missions file (setting missions_file or STAGE_A_MISSIONS)" in s for s in found.sentences())


def test_without_it_an_unseen_mission_is_an_error_with_the_remedy(mixed, tmp_path):
    with pytest.raises(ConfigurationError, match=rf"unknown mission '{GROUNDING}'.*STAGE_A_MISSIONS"):
        discover_groups(mixed.root, GROUNDING)
    alone = write(tmp_path / "tree", GROUNDING)
    with pytest.raises(DiscoveryError, match=rf"1 unknown_mission .*{GROUNDING}.*STAGE_A_MISSIONS"):
        discover_groups(alone.root).require_groups()


def test_a_former_missions_file_goes_with_its_tree(tmp_path):
    root = tmp_path / "tree"
    write(root, WIRING)
    write(root, GROUNDING)
    assert not (root / WIRING).exists()
    write(root, KNOWN)
    assert {path.name for path in root.iterdir()} == {
        KNOWN,
        "reviews.xlsx",
        "truth.jsonl",
        ".demo_tree.json",
    }


def test_a_missions_file_of_ones_own_is_not_overwritten(tmp_path):
    root = tmp_path / "tree"
    write(root, KNOWN)
    mine = root / "missions.toml"
    mine.write_text("# mine\n")
    with pytest.raises(ConfigurationError, match=r"such as missions\.toml"):
        write(root, GROUNDING)
    assert mine.read_text() == "# mine\n"


def test_label_noise_moves_groups_of_unseen_missions(tmp_path):
    tree = write(tmp_path / "tree", GROUNDING, WIRING, groups=10, label_noise=0.2)
    lines = [json.loads(line) for line in tree.truth.read_text("utf-8").splitlines()]
    wrong = {
        (line["mission"], line["path"].rpartition("/")[0])
        for line in lines
        if line["label"] != line["verdict"]
    }
    assert tree.mislabelled == len(wrong) == 4
    assert {mission for mission, _ in wrong} == {GROUNDING, WIRING}


@pytest.mark.parametrize(
    ("options", "missions", "told"),
    [
        ((), MISSION_NAMES, False),
        (("--mission", GROUNDING), [GROUNDING], True),
        (("--mission", KNOWN, "--mission", WIRING), [KNOWN, WIRING], True),
    ],
)
def test_the_command_renders_unseen_missions_when_they_are_named(options, missions, told, tmp_path):
    root = tmp_path / "tree"
    done = CliRunner().invoke(main, ["demo", "tree", "--root", str(root), "--groups", "1", *options])
    assert done.exit_code == 0, done.output
    assert {path.name for path in root.iterdir() if path.is_dir()} == set(missions)
    assert (f"STAGE_A_MISSIONS) to {root / 'missions.toml'}" in done.output.replace("\n", "")) == told
