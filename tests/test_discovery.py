import os
import random
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from stage_a_pipeline.discovery import Discovery, discover_groups, listing_hash, natural_key
from stage_a_pipeline.errors import ConfigurationError, DiscoveryError
from stage_a_pipeline.missions import MissionTable, load_missions

MISSION = "BBU接地线检查"
PASS, FAIL = "审核通过", "审核不通过"


def plant(root: Path, *paths: str) -> Path:
    """Files below the root; a path that ends in a slash is a folder."""
    for path in paths:
        target = root / path
        (target if path.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            target.write_bytes(path.encode())
    return root


def ids(found: Discovery) -> list[str]:
    return [f"{group.label}/{group.folder.name}" for group in found.groups]


def photos(found: Discovery) -> list[list[str]]:
    return [[image.name for image in group.images] for group in found.groups]


def skips(found: Discovery) -> dict[str, str]:
    return {str(entry.path.relative_to(found.root)): entry.reason for entry in found.skipped}


# Layout and order


def test_a_group_carries_mission_label_id_folder_and_photos(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{FAIL}/QC-20241028-7/a.jpg", f"{MISSION}/{FAIL}/QC-20241028-7/b.png")
    (group,) = discover_groups(tmp_path, MISSION).groups
    folder = tmp_path / MISSION / FAIL / "QC-20241028-7"
    assert (group.mission, group.label, group.group_id) == (MISSION, "fail", "QC-20241028-7")
    assert group.folder == folder
    assert [(image.path, image.name) for image in group.images] == [
        (folder / "a.jpg", "a.jpg"),
        (folder / "b.png", "b.png"),
    ]


def test_missions_come_by_name_labels_fail_first_and_folders_by_code_point(tmp_path: Path) -> None:
    plant(
        tmp_path,
        f"挡风板安装检查/{PASS}/x/1.jpg",
        f"RRU线缆/{PASS}/x/1.jpg",
        *(f"{MISSION}/{PASS}/{name}/1.jpg" for name in ("g10", "G3", "g2", "É", "一")),
        f"{MISSION}/{FAIL}/z/1.jpg",
    )
    found = discover_groups(tmp_path)
    assert [(group.mission, group.label, group.group_id) for group in found.groups] == [
        (MISSION, "fail", "z"),
        *((MISSION, "pass", name) for name in ("G3", "g10", "g2", "É", "一")),
        ("RRU线缆", "pass", "x"),
        ("挡风板安装检查", "pass", "x"),
    ]


def test_one_mission_leaves_the_others_alone(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/a/1.jpg", f"RRU线缆/{PASS}/b/1.jpg", "RRU线缆/loose.txt", "odd/x.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert (ids(found), skips(found)) == (["pass/a"], {})


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_1.jpg", "IMG_2.jpg", "img_10.JPG", "img_11.jpg"],
        ["a01.jpg", "a1.jpg", "A2.jpg"],
        ["1²3.jpg", "1²20.jpg"],
        ["٣.jpg", "٤.jpg"],
        ["1.jpg", "1a.jpg", "a1.jpg", "a.jpg"],
        ["A.JPG", "A.jpg", "a.jpg"],
        ["007.jpg", "07.jpg", "7.jpg"],
        ["2024_9.jpeg", "2024_10.jpeg", "2024_10.jpg", "99999999999999999999999.png"],
        ["照片2.jpg", "照片10.jpg"],
    ],
)
def test_photos_stand_in_natural_order_whatever_the_file_system_says(
    tmp_path: Path, names: list[str]
) -> None:
    shuffled = names.copy()
    random.Random(1).shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == names
    plant(tmp_path, *(f"{MISSION}/{PASS}/g/{name}" for name in shuffled))
    assert photos(discover_groups(tmp_path, MISSION)) == [names]


def test_only_ascii_digits_are_numbers() -> None:
    assert natural_key("1²3")[0] == ["", 1, "²", 3, ""]
    assert natural_key("x٣½７")[0] == ["x٣½７"]


def test_suffixes_count_in_any_case_and_other_files_are_skipped(tmp_path: Path) -> None:
    group = f"{MISSION}/{PASS}/g"
    plant(
        tmp_path,
        *(f"{group}/{name}" for name in ("a.JPG", "b.Jpeg", "c.PNG", "d.gif", "e.heic", "notes", "jpg")),
    )
    found = discover_groups(tmp_path, MISSION)
    assert photos(found) == [["a.JPG", "b.Jpeg", "c.PNG"]]
    assert skips(found) == {f"{group}/{name}": "not_a_photo" for name in ("d.gif", "e.heic", "notes", "jpg")}


def test_hidden_files_are_no_photos(tmp_path: Path) -> None:
    group = f"{MISSION}/{PASS}/g"
    plant(tmp_path, *(f"{group}/{name}" for name in ("1.jpg", "._1.jpg", ".2.jpg", ".DS_Store", "Thumbs.db")))
    plant(tmp_path, f"{MISSION}/.DS_Store", f"{MISSION}/{PASS}/._g", f"{MISSION}/{PASS}/.trash/1.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert (photos(found), skips(found)) == ([["1.jpg"]], {})


# Group ids


@pytest.mark.parametrize(
    ("first_photo", "group_id"),
    [
        ("QC-TEMP-20250118-0015956.jpg", "QC-TEMP-20250118-0015956"),
        ("QC-temp-20250118-12_IMG_1.jpg", "QC-temp-20250118-12"),
        ("QC-20250118-0015956.jpg", "folder"),
        ("qc-TEMP-20250118-1.jpg", "folder"),
        ("1_QC-TEMP-20250118-1.jpg", "folder"),
        ("QC-TEMP-2025-1.jpg", "folder"),
        ("QC-TEMP-20250118-.jpg", "folder"),
        ("QC-TEMP-20250118-٣.jpg", "folder"),
    ],
)
def test_the_first_photo_names_the_ticket_or_else_the_folder(
    tmp_path: Path, first_photo: str, group_id: str
) -> None:
    plant(
        tmp_path, f"{MISSION}/{PASS}/folder/{first_photo}", f"{MISSION}/{PASS}/folder/zz-QC-A-20250118-9.jpg"
    )
    assert [group.group_id for group in discover_groups(tmp_path, MISSION).groups] == [group_id]


def test_only_the_first_photo_in_natural_order_names_the_ticket(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/f/QC-A-20250118-10.jpg", f"{MISSION}/{PASS}/f/QC-A-20250118-9.jpg")
    assert discover_groups(tmp_path, MISSION).groups[0].group_id == "QC-A-20250118-9"


def test_a_resubmission_is_two_groups_without_a_warning(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/t/1.jpg", f"{MISSION}/{FAIL}/t/1.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert [group.ticket_key for group in found.groups] == ["t::fail", "t::pass"]
    assert found.warnings == ()


def test_the_same_id_twice_within_a_label_is_two_groups_and_a_warning(tmp_path: Path) -> None:
    for folder in "abc":
        plant(tmp_path, f"{MISSION}/{PASS}/{folder}/QC-A-20250118-1.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert ids(found) == ["pass/a", "pass/b", "pass/c"]
    (warning,) = found.warnings
    assert warning.reason == "duplicate_group_id"
    for named in ("QC-A-20250118-1::pass", "3 groups", f"{PASS}/a", f"{PASS}/b", f"{PASS}/c"):
        assert named in str(warning)


def test_the_same_id_in_two_missions_is_no_duplicate(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/t/1.jpg", f"RRU线缆/{PASS}/t/1.jpg")
    assert discover_groups(tmp_path).warnings == ()


# What is skipped


def test_everything_outside_the_layout_is_skipped_with_its_reason(tmp_path: Path) -> None:
    plant(
        tmp_path,
        f"{MISSION}/{PASS}/good/1.jpg",
        f"{MISSION}/{PASS}/good/more/2.jpg",
        f"{MISSION}/{PASS}/good/looks_like.jpg/",
        f"{MISSION}/{PASS}/empty/",
        f"{MISSION}/{PASS}/nested_only/deep/1.jpg",
        f"{MISSION}/{PASS}/ /1.jpg",
        f"{MISSION}/{PASS}/loose.jpg",
        f"{MISSION}/loose.png",
        f"{MISSION}/readme.txt",
        f"{MISSION}/pass/g/1.jpg",
        "Other mission/x/1.jpg",
        "stray.jpg",
        "reviews.xlsx",
        "truth.jsonl",
        "RRU线缆",
    )
    found = discover_groups(tmp_path)
    assert ids(found) == ["pass/good"]
    assert photos(found) == [["1.jpg"]]
    assert skips(found) == {
        f"{MISSION}/{PASS}/good/more": "nested_folder",
        f"{MISSION}/{PASS}/good/looks_like.jpg": "nested_folder",
        f"{MISSION}/{PASS}/empty": "empty_group",
        f"{MISSION}/{PASS}/nested_only/deep": "nested_folder",
        f"{MISSION}/{PASS}/nested_only": "empty_group",
        f"{MISSION}/{PASS}/ ": "blank_name",
        f"{MISSION}/{PASS}/loose.jpg": "loose_file",
        f"{MISSION}/loose.png": "loose_file",
        f"{MISSION}/readme.txt": "loose_file",
        f"{MISSION}/pass": "unknown_label",
        "Other mission": "unknown_mission",
        "stray.jpg": "loose_file",
        "RRU线缆": "loose_file",
    }
    assert [str(entry.path) for entry in found.skipped] == sorted(str(entry.path) for entry in found.skipped)
    assert all(entry.detail for entry in found.skipped)


def test_a_file_in_place_of_a_label_folder_is_a_loose_file(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}", f"{MISSION}/{FAIL}/g/1.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert (ids(found), skips(found)) == (["fail/g"], {f"{MISSION}/{PASS}": "loose_file"})


def test_names_that_are_not_utf8_are_skipped_and_can_be_printed(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/g/1.jpg")
    label = os.fsencode(tmp_path / MISSION / PASS)
    Path(os.fsdecode(label + b"/g/\xff.jpg")).write_bytes(b"x")
    Path(os.fsdecode(label + b"/\xb0\xa1")).mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xd6\xd0")).mkdir()
    found = discover_groups(tmp_path)
    assert photos(found) == [["1.jpg"]]
    assert skips(found) == {
        f"{MISSION}/{PASS}/g/\\xff.jpg": "undecodable_name",
        f"{MISSION}/{PASS}/\\xb0\\xa1": "undecodable_name",
        "\\xd6\\xd0": "undecodable_name",
    }
    for entry in found.skipped:
        f"{entry.path} {entry.detail}".encode()


def test_pipes_and_sockets_are_no_photos(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/g/1.jpg")
    os.mkfifo(tmp_path / MISSION / PASS / "g" / "2.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert photos(found) == [["1.jpg"]]
    assert skips(found) == {f"{MISSION}/{PASS}/g/2.jpg": "special_file"}


# Symbolic links


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return plant(tmp_path / "elsewhere", f"mission/{PASS}/far/1.jpg", "photo.jpg")


@pytest.mark.parametrize(
    ("link", "target", "gained"),
    [
        (f"{MISSION}/{PASS}/g/2.jpg", "photo.jpg", [["1.jpg", "2.jpg"]]),
        (f"{MISSION}/{PASS}/h", f"mission/{PASS}/far", [["1.jpg"], ["1.jpg"]]),
        (f"{MISSION}/{FAIL}", f"mission/{PASS}", [["1.jpg"], ["1.jpg"]]),
        ("RRU线缆", "mission", [["1.jpg"], ["1.jpg"]]),
    ],
)
def test_links_out_of_the_root_are_refused_unless_allowed(
    tmp_path: Path, elsewhere: Path, link: str, target: str, gained: list[list[str]]
) -> None:
    root = plant(tmp_path / "root", f"{MISSION}/{PASS}/g/1.jpg")
    (root / link).symlink_to(elsewhere / target)
    refused = discover_groups(root)
    assert photos(refused) == [["1.jpg"]]
    assert skips(refused) == {link: "external_link"}
    assert "allow_external_symlinks" in refused.skipped[0].detail
    allowed = discover_groups(root, allow_external_symlinks=True)
    assert (photos(allowed), allowed.skipped) == (gained, ())


def test_a_neighbour_whose_name_begins_like_the_root_is_outside(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", f"{MISSION}/{PASS}/g/1.jpg")
    plant(tmp_path / "root2", "2.jpg")
    (root / MISSION / PASS / "g" / "2.jpg").symlink_to("../../../../root2/2.jpg")
    assert skips(discover_groups(root)) == {f"{MISSION}/{PASS}/g/2.jpg": "external_link"}


def test_links_within_the_root_are_followed(tmp_path: Path) -> None:
    root = plant(tmp_path / "root", f"{MISSION}/{PASS}/g/1.jpg", "store/2.jpg", f"{MISSION}/{FAIL}/")
    (root / MISSION / PASS / "g" / "2.jpg").symlink_to(root / "store" / "2.jpg")
    (root / MISSION / FAIL / "again").symlink_to(f"../{PASS}/g")
    (tmp_path / "alias").symlink_to(root)
    found = discover_groups(tmp_path / "alias", MISSION)
    assert (ids(found), photos(found)) == (["fail/again", "pass/g"], [["1.jpg", "2.jpg"]] * 2)
    assert found.skipped == ()


def test_broken_and_circular_links_are_skipped(tmp_path: Path) -> None:
    root = plant(tmp_path, f"{MISSION}/{PASS}/g/1.jpg", f"{MISSION}/{PASS}/loose.jpg")
    group = root / MISSION / PASS / "g"
    (group / "gone.jpg").symlink_to("nowhere.jpg")
    (group / "self.jpg").symlink_to("self.jpg")
    (group / "up").symlink_to("..")
    (root / MISSION / PASS / "ring").symlink_to("../" + PASS)
    (root / MISSION / "loop").symlink_to("loop")
    found = discover_groups(root, MISSION)
    assert photos(found) == [["1.jpg"]]
    assert skips(found) == {
        f"{MISSION}/{PASS}/g/gone.jpg": "broken_link",
        f"{MISSION}/{PASS}/g/self.jpg": "broken_link",
        f"{MISSION}/{PASS}/g/up": "broken_link",
        f"{MISSION}/{PASS}/loose.jpg": "loose_file",
        f"{MISSION}/{PASS}/ring": "broken_link",
        f"{MISSION}/loop": "broken_link",
    }


def test_a_mission_folder_that_is_a_refused_link_is_named_with_the_remedy(
    tmp_path: Path, elsewhere: Path
) -> None:
    root = plant(tmp_path / "root", "x/")
    (root / MISSION).symlink_to(elsewhere)
    with pytest.raises(
        DiscoveryError, match=r"outside the input root; set discovery\.allow_external_symlinks"
    ):
        discover_groups(root, MISSION)


# Permissions


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """A folder of a user whom permissions bind; root is not bound by them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o755)
            if is_root:
                os.seteuid(0)


def test_a_folder_that_cannot_be_listed_is_skipped(as_ordinary_user: Path) -> None:
    root = plant(
        as_ordinary_user, f"{MISSION}/{PASS}/a/1.jpg", f"{MISSION}/{PASS}/b/1.jpg", f"RRU线缆/{PASS}/c/1.jpg"
    )
    (root / MISSION / PASS / "a").chmod(0)
    (root / "RRU线缆").chmod(0)
    found = discover_groups(root)
    assert ids(found) == ["pass/b"]
    assert skips(found) == {f"{MISSION}/{PASS}/a": "unreadable", "RRU线缆": "unreadable"}
    assert "Permission denied" in found.skipped[0].detail


def test_a_root_that_cannot_be_listed_is_an_error(as_ordinary_user: Path) -> None:
    root = plant(as_ordinary_user, f"in/{MISSION}/{PASS}/a/1.jpg") / "in"
    root.chmod(0)
    with pytest.raises(DiscoveryError, match=r"cannot be listed: Permission denied; check its permissions"):
        discover_groups(root, MISSION)


# Roots and missions


def test_a_missing_root_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    plant(tmp_path, "photos/", "old/")
    with pytest.raises(DiscoveryError) as error:
        discover_groups(tmp_path / "phtoos" / "deep", MISSION)
    for told in (
        str(tmp_path / "phtoos" / "deep"),
        "does not exist",
        f"{tmp_path} holds: old, photos",
        "STAGE_A_INPUT_ROOT",
    ):
        assert told in str(error.value)


@pytest.mark.parametrize("below", ["", "x"])
def test_a_root_that_is_a_file_is_an_error(tmp_path: Path, below: str) -> None:
    plant(tmp_path, "photos.zip")
    with pytest.raises(DiscoveryError, match=r"photos\.zip.* is not a folder; set discovery\.input_root"):
        discover_groups(tmp_path / "photos.zip" / below)


@pytest.mark.parametrize("name", ["a\0b", "\udcff"])
def test_a_root_that_is_no_valid_path_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiscoveryError, match="is not a valid path"):
        discover_groups(tmp_path / name)


def test_a_root_may_be_relative_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, f"in/{MISSION}/{PASS}/g/1.jpg")
    monkeypatch.chdir(tmp_path)
    (group,) = discover_groups("in", MISSION).groups
    assert group.folder == tmp_path / "in" / MISSION / PASS / "g"


def test_an_unknown_mission_is_an_error_that_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown mission 'BBU'.*挡风板安装检查"):
        discover_groups(tmp_path, "BBU")


def test_a_mission_without_folder_is_an_error_that_says_what_is_there(tmp_path: Path) -> None:
    plant(tmp_path, f"RRU线缆/{PASS}/g/1.jpg", "reviews.xlsx", ".hidden/")
    with pytest.raises(DiscoveryError) as error:
        discover_groups(tmp_path, "BBU线缆布放")
    for told in (
        "'BBU线缆布放' or 'BBU线缆布放要求'",
        str(tmp_path),
        "holds: RRU线缆, reviews.xlsx",
        "STAGE_A_INPUT_ROOT",
    ):
        assert told in str(error.value)
    assert ".hidden" not in str(error.value)


def test_a_mission_in_an_empty_root_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match=r"the root is empty"):
        discover_groups(tmp_path, MISSION)


def test_a_file_in_place_of_the_mission_folder_is_named(tmp_path: Path) -> None:
    plant(tmp_path, MISSION)
    with pytest.raises(DiscoveryError, match=f"{MISSION} is a file"):
        discover_groups(tmp_path, MISSION)


def test_a_long_root_is_told_in_short(tmp_path: Path) -> None:
    plant(tmp_path, *(f"folder{n:02d}/" for n in range(40)))
    with pytest.raises(DiscoveryError, match=r"folder11 and 28 more"):
        discover_groups(tmp_path, MISSION)


@pytest.mark.parametrize("mission", [None, MISSION])
@pytest.mark.parametrize("spelling", ["plain", "slash", "link", "relative"])
def test_the_missions_own_folder_as_root_stands_for_its_parent(
    tmp_path: Path, mission: str | None, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, f"in/{MISSION}/{PASS}/g/1.jpg", f"in/RRU线缆/{PASS}/other/1.jpg")
    own = tmp_path / "in" / MISSION
    (tmp_path / "link").symlink_to(own)
    monkeypatch.chdir(own)
    root = {"plain": own, "slash": f"{own}/", "link": tmp_path / "link", "relative": "."}[spelling]
    found = discover_groups(root, mission)
    assert (ids(found), found.root) == (["pass/g"], tmp_path / "in")
    (warning,) = found.warnings
    assert warning.reason == "root_is_mission_folder"
    assert MISSION in str(warning)
    assert str(tmp_path / "in") in discover_groups(root, mission).groups[0].folder.as_posix()


def test_another_missions_own_folder_as_root_is_an_error(tmp_path: Path) -> None:
    plant(tmp_path, f"RRU线缆/{PASS}/g/1.jpg", f"{MISSION}/{PASS}/g/1.jpg")
    with pytest.raises(DiscoveryError, match=f"mission '{MISSION}' has no folder.*holds: {PASS}"):
        discover_groups(tmp_path / "RRU线缆", MISSION)


def test_a_root_that_is_called_like_a_mission_but_holds_missions_is_a_root(tmp_path: Path) -> None:
    root = plant(tmp_path / MISSION, f"{MISSION}/{PASS}/g/1.jpg")
    found = discover_groups(root, MISSION)
    assert (found.root, ids(found), found.warnings) == (root, ["pass/g"], ())


# Folder names of missions


def test_an_alias_folder_is_its_mission(tmp_path: Path) -> None:
    plant(tmp_path, f"BBU线缆布放要求/{PASS}/g/1.jpg")
    for mission in (None, "BBU线缆布放", "BBU线缆布放要求"):
        (group,) = discover_groups(tmp_path, mission).groups
        assert (group.mission, group.folder.parts[-3]) == ("BBU线缆布放", "BBU线缆布放要求")


@pytest.mark.parametrize("mission", [None, "BBU线缆布放"])
def test_name_and_alias_folders_are_read_together_with_a_warning(tmp_path: Path, mission: str | None) -> None:
    plant(tmp_path, f"BBU线缆布放要求/{FAIL}/a/1.jpg", f"BBU线缆布放要求/{PASS}/a/1.jpg")
    plant(tmp_path, f"BBU线缆布放/{PASS}/b/1.jpg", f"BBU线缆布放/{PASS}/a/2.jpg")
    found = discover_groups(tmp_path, mission)
    assert (ids(found), photos(found)) == (
        ["fail/a", "pass/a", "pass/a", "pass/b"],
        [["1.jpg"], ["2.jpg"], ["1.jpg"], ["1.jpg"]],
    )
    assert [warning.reason for warning in found.warnings] == ["several_folders", "duplicate_group_id"]
    assert found.folders == (tmp_path / "BBU线缆布放", tmp_path / "BBU线缆布放要求")


@pytest.fixture
def cafe(tmp_path: Path) -> MissionTable:
    file = tmp_path / "missions.toml"
    file.write_text('[[mission]]\nname = "Café检查"\ndataset = "rru"\nfocus = "f"\n', encoding="utf-8")
    return load_missions(file)


@pytest.mark.parametrize("folder_form", ["NFC", "NFD"])
@pytest.mark.parametrize("asked_form", ["NFC", "NFD"])
def test_names_that_look_the_same_match_the_same_mission(
    tmp_path: Path, cafe: MissionTable, folder_form: str, asked_form: str
) -> None:
    root = plant(tmp_path / "in", f"{unicodedata.normalize(folder_form, 'Café检查')}/{PASS}/g/1.jpg")
    asked = unicodedata.normalize(asked_form, "Café检查")
    for mission in (None, asked):
        (group,) = discover_groups(root, mission, missions=cafe).groups
        assert group.mission == unicodedata.normalize("NFC", "Café检查")
    own = next(root.iterdir())
    assert ids(discover_groups(own, asked, missions=cafe)) == ["pass/g"]


def test_twin_folders_in_both_unicode_forms_are_read_together_with_a_warning(
    tmp_path: Path, cafe: MissionTable
) -> None:
    names = [unicodedata.normalize(form, "Café检查") for form in ("NFC", "NFD")]
    root = plant(tmp_path / "in", *(f"{name}/{PASS}/{number}/1.jpg" for number, name in enumerate(names)))
    found = discover_groups(root, missions=cafe)
    assert ids(found) == ["pass/0", "pass/1"]
    assert [warning.reason for warning in found.warnings] == ["several_folders"]


def test_group_ids_that_look_the_same_are_duplicates_but_keep_their_spelling(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "gé") for form in ("NFD", "NFC")]
    plant(tmp_path, *(f"{MISSION}/{PASS}/{name}/1.jpg" for name in names))
    found = discover_groups(tmp_path, MISSION)
    assert [group.group_id for group in found.groups] == names
    assert [warning.reason for warning in found.warnings] == ["duplicate_group_id"]


# No groups


def test_an_empty_mission_tells_where_and_what_was_skipped(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/a/", f"{MISSION}/{PASS}/b/", f"{MISSION}/passed/c/1.jpg")
    found = discover_groups(tmp_path, MISSION)
    assert found.groups == ()
    with pytest.raises(DiscoveryError) as error:
        found.require_groups()
    for told in (
        str(tmp_path / MISSION),
        "2 empty_group",
        str(tmp_path / MISSION / PASS / "a"),
        "1 unknown_label",
        PASS,
    ):
        assert told in str(error.value)


def test_a_root_without_any_mission_tells_what_was_skipped(tmp_path: Path) -> None:
    plant(tmp_path, "photos/1.jpg")
    with pytest.raises(DiscoveryError, match=r"any mission's folder in .*1 unknown_mission"):
        discover_groups(tmp_path).require_groups()


def test_an_empty_mission_folder_tells_that_it_is_empty(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/")
    with pytest.raises(DiscoveryError, match="there is nothing in it"):
        discover_groups(tmp_path, MISSION).require_groups()


def test_groups_that_are_there_are_enough(tmp_path: Path) -> None:
    plant(tmp_path, f"{MISSION}/{PASS}/g/1.jpg")
    discover_groups(tmp_path, MISSION).require_groups()


# The listing's hash


def hash_of(root: Path) -> str:
    return listing_hash(discover_groups(root, MISSION).groups)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(
        tmp_path / "in", f"{MISSION}/{PASS}/g/1.jpg", f"{MISSION}/{PASS}/g/2.jpg", f"{MISSION}/{FAIL}/h/1.jpg"
    )


def change_content(root: Path) -> None:
    photo = root / MISSION / PASS / "g" / "1.jpg"
    before = photo.stat()
    photo.write_bytes(photo.read_bytes()[::-1])
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


CHANGES = {
    "content": change_content,
    "size": lambda root: (root / MISSION / PASS / "g" / "1.jpg").write_bytes(b"longer than it was before"),
    "photo name": lambda root: (root / MISSION / PASS / "g" / "2.jpg").rename(
        root / MISSION / PASS / "g" / "3.jpg"
    ),
    "photo gone": lambda root: (root / MISSION / PASS / "g" / "2.jpg").unlink(),
    "group name": lambda root: (root / MISSION / PASS / "g").rename(root / MISSION / PASS / "G"),
    "label": lambda root: (root / MISSION / PASS / "g").rename(root / MISSION / FAIL / "g"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_listing_hash_changes_with(tree: Path, change: str) -> None:
    before = hash_of(tree)
    CHANGES[change](tree)
    assert hash_of(tree) != before


def test_the_listing_hash_of_an_unchanged_tree_stays_also_when_it_moves(tree: Path, tmp_path: Path) -> None:
    before = hash_of(tree)
    assert hash_of(tree) == before
    tree.rename(tmp_path / "moved")
    assert hash_of(tmp_path / "moved") == before


def test_a_photo_that_goes_after_discovery_changes_the_listing_hash(tree: Path) -> None:
    groups = discover_groups(tree, MISSION).groups
    before = listing_hash(groups)
    groups[0].images[0].path.unlink()
    assert listing_hash(groups) != before
