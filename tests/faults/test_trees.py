"""Trees as people leave them: what is no photo of a group is told, and no group suffers for it."""

from __future__ import annotations

import os
import unicodedata

from tests.conftest import LABEL_FOLDERS, MISSION, write_photo
from tests.faults.conftest import HERE, group_folder

LATIN = "Café"
MISSIONS = f'[[mission]]\nname = "{LATIN}"\ndataset = "bbu"\nfocus = "测试"\n'


def test_stray_things_in_a_tree_are_told_and_every_group_is_published(make_workplace, tmp_path):
    workplace = make_workplace({"fail": [2], "pass": [3]})
    workplace.configure(inference=HERE)
    assert workplace.run_here().code == 0
    expected = workplace.records()
    passed = workplace.root / MISSION / LABEL_FOLDERS["pass"]
    outside = write_photo(tmp_path / "outside" / "IMG_1.jpg", seed=1).parent
    good = group_folder(workplace.root, "QC-20241028-pass001")

    group_folder(workplace.root, "empty")
    write_photo(workplace.root / MISSION / "待定" / "G1" / "IMG_1.jpg", seed=2)
    write_photo(passed / "loose.jpg", seed=3)
    write_photo(good / "nested" / "IMG_1.jpg", seed=4)
    (good / "notes.txt").write_text("x")
    (passed / "circle").symlink_to(passed)
    (passed / "nowhere").symlink_to("gone")
    (passed / "escape").symlink_to(outside)
    (good / "IMG_8.jpg").symlink_to(outside / "IMG_1.jpg")
    os.mkfifo(good / "IMG_9.jpg")
    for hidden in (".IMG_1.jpg", "._IMG_1.jpg", ".DS_Store", "Thumbs.db"):
        (good / hidden).write_bytes(b"x")
    write_photo(passed / ".hidden" / "IMG_1.jpg", seed=5)

    ended = workplace.run_here()
    assert ended.code == 0
    for told in (
        f"{passed}/empty (empty_group)",
        f"{workplace.root}/{MISSION}/待定 (unknown_label)",
        f"{passed}/loose.jpg (loose_file)",
        f"{good}/nested (nested_folder)",
        f"{good}/notes.txt (not_a_photo)",
        f"{passed}/circle (broken_link)",
        f"{passed}/nowhere (broken_link)",
        f"{passed}/escape (external_link)",
        f"{good}/IMG_8.jpg (external_link)",
        f"{good}/IMG_9.jpg (special_file)",
    ):
        assert f"skipped {told}" in ended.output
    assert "hidden" not in ended.output
    assert "._IMG" not in ended.output
    assert workplace.records() == expected
    assert workplace.rejected() == {}


def test_folders_whose_names_look_the_same_are_read_as_one_mission(make_workplace):
    workplace = make_workplace({})
    (workplace.folder / "missions.toml").write_text(MISSIONS, "utf-8")
    for number, form in enumerate(("NFC", "NFD")):
        folder = workplace.root / unicodedata.normalize(form, LATIN) / LABEL_FOLDERS["pass"]
        write_photo(folder / f"G{number}" / "IMG_1.jpg", seed=number)
    workplace.configure(discovery={"input_root": "in", "missions_file": "missions.toml"})
    process = workplace.start("stage-a", "materialize", "--mission", unicodedata.normalize("NFD", LATIN))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert f"mission {LATIN} has 2 folders, and all are read" in output
    assert f"done {LATIN}: 2 groups written, 0 rejected" in output


def test_a_link_that_may_leave_the_root_is_followed(make_workplace, tmp_path):
    workplace = make_workplace({"pass": [1]})
    outside = write_photo(tmp_path / "outside" / "IMG_1.jpg", seed=1).parent
    (workplace.root / MISSION / LABEL_FOLDERS["pass"] / "elsewhere").symlink_to(outside)
    workplace.configure(discovery={"input_root": "in", "allow_external_symlinks": True})
    assert workplace.run_here().code == 0
    assert "elsewhere" in workplace.records()
