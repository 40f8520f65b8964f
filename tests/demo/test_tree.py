"""The demo tree: what lies in it, that it repeats itself byte for byte, and what it refuses."""

import hashlib
import json
from collections import Counter, defaultdict

import pytest

from stage_a_pipeline.demo.composition import COMPOSITIONS
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.demo.tree_plan import plan_tree
from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import ConfigurationError, OutputError
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.vocabulary import IRRELEVANT
from tests.demo.conftest import MISSION_NAMES, MISSIONS

MISSION = "挡风板安装检查"
OTHER = "RRU线缆"


def truth_of(tree):
    return [json.loads(line) for line in tree.truth.read_text("utf-8").splitlines()]


def bytes_below(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def write(root, **changes):
    arguments = {"missions": [MISSION], "groups": 4, "seed": 3, **changes}
    return write_demo_tree(root, **arguments)


def test_discovery_finds_exactly_what_the_truth_lists(tree):
    found = discover_groups(tree.root)
    discovered = {
        (group.mission, group.label, group.group_id, image.name, image.path.relative_to(tree.root).as_posix())
        for group in found.groups
        for image in group.images
    }
    listed = {
        (line["mission"], line["label"], line["group_id"], line["image"], line["path"])
        for line in truth_of(tree)
    }
    assert discovered == listed
    assert {group.mission for group in found.groups} == set(MISSION_NAMES)
    assert (len(found.groups), len(discovered)) == (tree.groups, tree.photos)


def test_discovery_skips_only_the_files_beside_the_missions(tree):
    assert {entry.path.name for entry in discover_groups(tree.root).skipped} <= {
        "reviews.xlsx",
        "truth.jsonl",
        ".demo_tree.json",
    }


def test_the_counts_are_those_of_the_truth(tree):
    lines = truth_of(tree)
    assert tree.broken == 3 == sum(line["broken"] is not None for line in lines)
    assert tree.irrelevant >= 1
    shown = sum(line["summary"] == IRRELEVANT for line in lines)
    assert tree.irrelevant - 3 <= shown <= tree.irrelevant
    assert all((line["summary"] is None) == (line["broken"] is not None) for line in lines)
    assert f"{tree.photos} photos" in tree.sentence()


def test_broken_photos_lie_in_distinct_groups_and_are_broken_in_turn(tree):
    broken = [line for line in truth_of(tree) if line["broken"]]
    assert {line["broken"] for line in broken} == {"truncated", "empty", "html"}
    assert len({(line["path"].rpartition("/")[0]) for line in broken}) == 3


def test_every_mission_has_both_labels_and_a_resubmitted_ticket(tree):
    labels = defaultdict(set)
    for group in discover_groups(tree.root).groups:
        labels[group.mission, group.group_id].add(group.label)
    for mission in MISSION_NAMES:
        of_mission = [found for (name, _), found in labels.items() if name == mission]
        assert set().union(*of_mission) == {"pass", "fail"}
        assert {"pass", "fail"} in of_mission
    assert tree.resubmitted == len(MISSION_NAMES)


def test_a_resubmitted_ticket_shares_photo_files(tmp_path):
    tree = write(tmp_path / "tree")
    by_ticket = defaultdict(lambda: defaultdict(set))
    for line in truth_of(tree):
        digest = hashlib.sha256((tree.root / line["path"]).read_bytes()).hexdigest()
        by_ticket[line["group_id"]][line["label"]].add(digest)
    twice = [photos for photos in by_ticket.values() if len(photos) == 2]
    assert twice
    assert all(photos["pass"] & photos["fail"] for photos in twice)
    assert all(photos["fail"] - photos["pass"] for photos in twice)


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_arguments_write_the_same_bytes(workers, tmp_path):
    first = write(tmp_path / "a", broken=1)
    second = write(tmp_path / "b", broken=1, workers=workers)
    assert bytes_below(first.root) == bytes_below(second.root)


def test_another_seed_writes_other_photos(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "b", seed=4)
    photos = [
        {digest for name, digest in bytes_below(tree.root).items() if name.endswith(".jpg")}
        for tree in (first, second)
    ]
    assert not photos[0] & photos[1]


def test_label_noise_moves_groups_and_leaves_their_photos():
    plain = plan_tree([load_missions()[MISSION]], groups=40, seed=1, broken=0)
    noisy = plan_tree([load_missions()[MISSION]], groups=40, seed=1, broken=0, label_noise=0.2)
    moved = [group for group in noisy if group.mislabelled]
    assert len(moved) == 8
    assert all(group.label != group.verdict.label and not group.resubmitted for group in moved)
    assert all(group.label == group.verdict.label for group in noisy if not group.mislabelled)
    by_folder = [
        {group.ticket.folder: (group.verdict, group.photos) for group in plan if not group.resubmitted}
        for plan in (plain, noisy)
    ]
    assert by_folder[0] == by_folder[1]


def test_the_truth_tells_the_verdict_beside_the_reviewers_label(tmp_path):
    tree = write(tmp_path / "tree", groups=20, label_noise=0.25)
    lines = truth_of(tree)
    wrong = {line["path"].rpartition("/")[0] for line in lines if line["label"] != line["verdict"]}
    assert len(wrong) == tree.mislabelled == 5
    assert "5 groups mislabelled" in tree.sentence()
    found = {
        str(group.folder.relative_to(tree.root)): group.label for group in discover_groups(tree.root).groups
    }
    assert all(found[line["path"].rpartition("/")[0]] == line["label"] for line in lines)


def test_label_noise_of_one_keeps_resubmissions_apart():
    plan = plan_tree(MISSIONS[:1], groups=10, seed=1, broken=0, label_noise=1.0)
    assert all(group.mislabelled != group.resubmitted for group in plan)


def test_a_missions_photos_do_not_depend_on_the_other_missions():
    alone = plan_tree([load_missions()[MISSION]], groups=20, seed=1, broken=0)
    together = plan_tree([load_missions()[OTHER], load_missions()[MISSION]], groups=20, seed=1, broken=0)
    assert [group for group in together if group.mission.name == MISSION] == alone


def test_a_large_tree_has_the_fields_proportions():
    plan = plan_tree(MISSIONS, groups=300, seed=2, broken=0)
    photos = [photo for group in plan for _, photo in group.photos]
    sizes = sorted(len(group.photos) for group in plan)
    assert sizes[len(sizes) // 2] == 3
    assert 2.9 < sum(sizes) / len(sizes) < 3.7
    assert 0.03 < sum(photo.scene.irrelevant is not None for photo in photos) / len(photos) < 0.07
    assert 0.25 < sum(group.ticket.id_in_stem for group in plan) / len(plan) < 0.42
    assert 0.2 < sum(photo.orientation != 1 for photo in photos) / len(photos) < 0.4
    labels = Counter(group.label for group in plan)
    assert min(labels.values()) > 0.4 * len(plan)
    assert sum(group.resubmitted for group in plan) == 2 * 6 * len(MISSIONS)
    assert len({group.folder for group in plan}) == len(plan)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_even_the_smallest_tree_holds_an_irrelevant_picture(seed, groups):
    plan = plan_tree(MISSIONS[:1], groups=groups, seed=seed, broken=0)
    assert len(plan) == groups
    assert any(photo.scene.irrelevant for group in plan for _, photo in group.photos)


def test_a_former_tree_is_replaced(tmp_path):
    root = tmp_path / "tree"
    write(root, missions=[OTHER], groups=6)
    again = write(root)
    assert bytes_below(root) == bytes_below(write(tmp_path / "fresh").root)
    assert not (root / OTHER).exists()
    assert again.photos == len(truth_of(again))


def test_a_tree_whose_writing_was_interrupted_is_replaced(tmp_path):
    root = tmp_path / "tree"
    write(root)
    (root / "truth.jsonl").unlink()
    next(root.rglob("*.jpg")).unlink()
    write(root)
    assert (root / "truth.jsonl").exists()


@pytest.mark.parametrize("name", ["mine.jpg", f"{MISSION}/审核通过/G1/mine.jpg", ".hidden"])
def test_foreign_files_are_neither_touched_nor_mixed_with(name, tmp_path):
    root = tmp_path / "tree"
    write(root)
    mine = root / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    before = bytes_below(root)
    with pytest.raises(ConfigurationError, match=r"not from a demo tree, such as .*; choose") as caught:
        write(root)
    assert str(root) in str(caught.value)
    assert name in str(caught.value)
    assert bytes_below(root) == before


def test_a_tree_with_a_truth_of_its_own_is_foreign(tmp_path):
    (tmp_path / "truth.jsonl").write_text('{"path": "a.jpg"}\n')
    (tmp_path / "a.jpg").write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match=r"a\.jpg"):
        write(tmp_path)
    assert (tmp_path / "a.jpg").exists()


def test_a_link_in_the_folder_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.jpg").write_bytes(b"mine")
    root = tmp_path / "tree"
    write(root)
    (root / "link").symlink_to(outside, target_is_directory=True)
    with pytest.raises(ConfigurationError, match="link"):
        write(root)
    assert (outside / "mine.jpg").exists()


def test_a_damaged_listing_names_the_file(tmp_path):
    (tmp_path / ".demo_tree.json").write_text("{")
    with pytest.raises(ConfigurationError, match=r"\.demo_tree\.json cannot be read"):
        write(tmp_path)


def test_a_root_that_is_a_file_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file"):
        write(tmp_path / "file")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missions": ["不存在"]}, "unknown mission '不存在'"),
        ({"missions": []}, "at least one mission"),
        ({"groups": 0}, "groups must be at least 1, not 0"),
        ({"groups": -2}, "groups must be at least 1, not -2"),
        ({"broken": -1}, "broken must be at least 0, not -1"),
        ({"broken": 5}, "5 broken photos need as many groups, and the tree has 4"),
        ({"workers": 0}, "workers must be at least 1, not 0"),
        ({"label_noise": 1.5}, "label noise must be a share from 0 to 1, not 1.5"),
        ({"label_noise": -0.1}, "label noise must be a share"),
    ],
)
def test_arguments_out_of_range_write_nothing(changes, message, tmp_path):
    root = tmp_path / "tree"
    with pytest.raises(ConfigurationError, match=message):
        write(root, **changes)
    assert not root.exists()


def test_an_alias_writes_the_missions_own_folder(tmp_path):
    tree = write(tmp_path / "tree", missions=["BBU线缆布放要求", "BBU线缆布放"], groups=1)
    assert tree.missions == ("BBU线缆布放",)
    assert discover_groups(tree.root).groups[0].mission == "BBU线缆布放"


def test_summaries_name_what_the_mission_is_about(tree):
    for mission in MISSION_NAMES:
        composition = COMPOSITIONS[mission]
        told = " ".join(line["summary"] or "" for line in truth_of(tree) if line["mission"] == mission)
        assert any(category in told for category in composition.focus)
