import unicodedata
from pathlib import Path

import pytest

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.missions import load_missions


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "missions.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str) -> str:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        load_missions(path)
    assert str(path) in str(error.value)
    return str(error.value)


def mission(**keys: str) -> str:
    lines = {"name": '"新任务"', "dataset": '"rru"', "focus": '"重点"'} | keys
    return "[[mission]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)


def test_the_packaged_table_has_all_seven_missions_by_name() -> None:
    missions = load_missions()
    assert {name: missions[name].dataset for name in missions} == {
        "BBU安装方式检查（正装）": "bbu",
        "BBU接地线检查": "bbu",
        "BBU线缆布放": "bbu",
        "RRU位置检查": "rru",
        "RRU安装检查": "rru",
        "RRU线缆": "rru",
        "挡风板安装检查": "bbu",
    }
    assert list(missions) == sorted(missions)
    assert all(missions[name].focus for name in missions)
    assert missions["BBU线缆布放"].folder_names == ("BBU线缆布放", "BBU线缆布放要求")


def test_a_mission_is_found_by_name_alias_and_any_unicode_form(tmp_path: Path) -> None:
    missions = load_missions(write(tmp_path, mission(name='"Café"', aliases='["Olé"]')))
    for form in ("NFC", "NFD"):
        assert missions.require(unicodedata.normalize(form, "Café")).name == "Café"
        assert missions.require(unicodedata.normalize(form, "Olé")).name == "Café"
        assert unicodedata.normalize(form, "Café") in missions
    assert "Olé" not in missions


def test_an_unknown_mission_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown mission 'RRU'; known missions: BBU.*STAGE_A_MISSIONS"
    ):
        load_missions().require("RRU")


def test_a_users_file_adds_missions(tmp_path: Path) -> None:
    missions = load_missions(write(tmp_path, mission(aliases='["新任务要求"]', focus='"  重点 "')))
    assert len(missions) == 8
    added = missions["新任务"]
    assert (added.dataset, added.focus, added.aliases) == ("rru", "重点", ("新任务要求",))


def test_a_users_file_overrides_key_by_key(tmp_path: Path) -> None:
    packaged = load_missions()["BBU线缆布放"]
    focus_only = load_missions(write(tmp_path, '[[mission]]\nname = "BBU线缆布放"\nfocus = "另"\n'))[
        "BBU线缆布放"
    ]
    assert (focus_only.focus, focus_only.aliases, focus_only.dataset) == ("另", packaged.aliases, "bbu")
    no_alias = load_missions(write(tmp_path, '[[mission]]\nname = "BBU线缆布放"\naliases = []\n'))[
        "BBU线缆布放"
    ]
    assert (no_alias.focus, no_alias.aliases) == (packaged.focus, ())


def test_repeating_the_packaged_dataset_is_no_override(tmp_path: Path) -> None:
    assert (
        load_missions(write(tmp_path, '[[mission]]\nname = "RRU线缆"\ndataset = "rru"\n'))["RRU线缆"].dataset
        == "rru"
    )


@pytest.mark.parametrize(("name", "other"), [("RRU线缆", "bbu"), ("BBU线缆布放", "rru")])
def test_the_other_dataset_for_a_packaged_mission_is_an_error(tmp_path: Path, name: str, other: str) -> None:
    told = refusal(tmp_path, f'[[mission]]\nname = "{name}"\ndataset = "{other}"\n')
    assert name in told
    assert f"cannot be run with the prompts of {other!r}; remove the dataset line" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('title = "x"\n', "unknown key 'title'"),
        ('[mission]\nname = "x"\n', "must be a list of tables, written [[mission]]"),
        ('mission = ["x"]\n', "must be a list of tables"),
        (mission(name=""), "every mission name must be text that is not blank, not None"),
        (mission(name="3"), "not 3"),
        (mission(name='"  "'), "not '  '"),
        (
            mission(focu='"x"'),
            "mission '新任务': unknown key 'focu'; known keys: name, dataset, aliases, focus",
        ),
        (mission(dataset=""), "dataset must be one of bbu, rru, not None"),
        (mission(dataset='"lte"'), "dataset must be one of bbu, rru, not 'lte'"),
        (mission(dataset='["bbu"]'), "dataset must be one of"),
        (mission(focus=""), "focus must be text"),
        (mission(focus='" "'), "focus must be text"),
        (mission(focus="1"), "focus must be text"),
        (mission(aliases='"x"'), "aliases must be a list of folder names"),
        (mission(aliases="[3]"), "every alias must be text that is not blank, not 3"),
        (mission(aliases='["a/b"]'), "alias 'a/b' cannot be a folder"),
        (mission() + mission(), "mission '新任务' is given twice"),
        (mission(name='"Café"') + mission(name='"Cafe\\u0301"'), "is given twice"),
        (mission(aliases='["RRU线缆"]'), "folder 'RRU线缆' is claimed by both"),
        (mission(name='"BBU线缆布放要求"'), "folder 'BBU线缆布放要求' is claimed by both"),
        (mission(name=f'"{"长" * 67}"'), "is longer than 200 bytes"),
        ("[[mission]\n", "is not valid TOML"),
    ],
)
def test_a_faulty_file_is_an_error_that_names_the_place(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "a\\\\b", ".hidden", "..", " x", "x ", "a\\nb", "a:b", "a*", "a...b", "a?b", "\\u0000"],
)
def test_a_name_that_cannot_be_a_folder_and_partition_is_refused(tmp_path: Path, name: str) -> None:
    assert "cannot be a folder and partition name" in refusal(tmp_path, mission(name=f'"{name}"'))


@pytest.mark.parametrize("name", ["长" * 66, "BBU安装方式检查（正装）2", "a.b", "x-1_2 3"])
def test_ordinary_names_are_taken(tmp_path: Path, name: str) -> None:
    assert name in load_missions(write(tmp_path, mission(name=f'"{name}"')))


def test_a_file_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "missions.toml"
    path.write_bytes(mission().encode("gb18030"))
    with pytest.raises(ConfigurationError, match="is not valid TOML"):
        load_missions(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "missions.toml"
    path.write_text(mission(), encoding="utf-8-sig")
    assert "新任务" in load_missions(path)


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_file_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read.*STAGE_A_MISSIONS"):
        load_missions(tmp_path / name)
