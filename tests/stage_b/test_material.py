"""What a training works with: which files it reads, what it tells of them, and what its hash covers."""

import pytest

from stage_a_pipeline.errors import ConfigurationError, InputError
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.stage_b.material import gather_material
from tests.stage_b.conftest import BBU, RRU, line, write_lines


def settings(tmp_path, *files, **grpo):
    given = {"files": files} | grpo
    return Settings.model_validate({"grpo": given, "output": {"output_dir": tmp_path / "out"}})


def tickets(count, *, mission=BBU, fails=0, start=0):
    return [
        line(group_id=f"QC-{start + number}", mission=mission, label="fail" if number < fails else "pass")
        for number in range(count)
    ]


@pytest.fixture
def file(tmp_path):
    return write_lines(tmp_path / "a.jsonl", *tickets(10, fails=2))


def test_the_files_of_the_settings_are_read_and_split(tmp_path, file):
    material = gather_material(settings(tmp_path, file))
    assert material.files == (file,)
    assert [len(material.split.train), len(material.split.held_out)] == [8, 2]
    assert material.train == material.split.train
    mapping = material.to_mapping()
    assert [mapping[key] for key in ("files", "train", "train_repeated", "held_out")] == [
        [str(file)],
        8,
        0,
        2,
    ]


def test_without_files_those_that_stage_a_delivered_are_read(tmp_path):
    (tmp_path / "out").mkdir()
    delivered = [
        write_lines(output_paths(tmp_path / "out", name).jsonl, *tickets(4, mission=name, start=start))
        for name, start in ((RRU, 0), (BBU, 10))
    ]
    (tmp_path / "out" / "别的_stage_a.jsonl").write_text(line(mission="别的"))
    material = gather_material(settings(tmp_path))
    assert set(material.files) == set(delivered)
    assert len(material.found.tickets) == 8


def test_an_output_folder_without_files_is_told_with_the_remedy(tmp_path):
    with pytest.raises(
        InputError, match=r"out holds no canonical JSONL .*; run Stage-A first, or name files"
    ):
        gather_material(settings(tmp_path))


def test_only_the_missions_of_the_settings_are_kept(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", *tickets(4), *tickets(4, mission=RRU, start=10))
    material = gather_material(settings(tmp_path, file, missions=[RRU]))
    assert {ticket.mission for ticket in material.found.tickets} == {RRU}
    with pytest.raises(ConfigurationError, match="没有的"):
        gather_material(settings(tmp_path, file, missions=["没有的"]))


def test_balance_repeats_the_rarer_label_for_training_alone(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", *tickets(20, fails=5))
    plain = gather_material(settings(tmp_path, file))
    balanced = gather_material(settings(tmp_path, file, balance="label"))
    assert balanced.split == plain.split
    assert balanced.train[: len(plain.train)] == plain.train
    labels = [ticket.label for ticket in balanced.train]
    assert labels.count("fail") == labels.count("pass")
    assert any("repeats of tickets with the rarer label" in remark for remark in balanced.remarks)
    assert balanced.to_mapping()["train_repeated"] == len(balanced.train) - len(plain.train) > 0


def test_skipped_lines_are_among_the_remarks(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", *tickets(10), "{", line(mission="没有的"))
    material = gather_material(settings(tmp_path, file))
    assert material.remarks[0].startswith("skipped 2 of 12 lines: ")
    assert set(material.to_mapping()["skipped"].values()) == {1}


REST = tickets(10, fails=2)[1:]
CHANGES = {
    "a label": {"lines": tickets(10, fails=3)},
    "a summary": {"lines": [line(group_id="QC-0", label="fail", per_image={"image_1": "丙"}), *REST]},
    "an id": {"lines": [line(group_id="QC-x", label="fail"), *REST]},
    "the order": {"lines": tickets(10, fails=2)[::-1]},
    "the split": {"held_out_fraction": 0.4},
    "repeats": {"balance": "label"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_hash_covers_what_training_and_judging_see(tmp_path, file, change):
    other = dict(change)
    changed = write_lines(tmp_path / "b.jsonl", *other.pop("lines", tickets(10, fails=2)))
    hashes = {
        gather_material(settings(tmp_path, one, **more)).content_hash()
        for one, more in ((file, {}), (changed, other))
    }
    assert len(hashes) == 2


def test_the_hash_covers_the_texts_of_the_prompts(tmp_path, file):
    from importlib.resources import files

    texts = files("stage_a_pipeline.prompts").joinpath("stage_b.toml").read_text("utf-8")
    own = tmp_path / "own.toml"
    own.write_text(texts, "utf-8")
    base = gather_material(settings(tmp_path, file)).content_hash()
    assert gather_material(settings(tmp_path, file, prompts_file=own)).content_hash() == base
    own.write_text(texts.replace("理由", "原因说明"), "utf-8")
    assert gather_material(settings(tmp_path, file, prompts_file=own)).content_hash() != base


def test_where_the_same_tickets_stand_does_not_change_the_hash(tmp_path, file):
    (tmp_path / "elsewhere").mkdir()
    moved = write_lines(tmp_path / "elsewhere" / "b.jsonl", "{", *tickets(10, fails=2))
    hashes = {gather_material(settings(tmp_path, one)).content_hash() for one in (file, moved)}
    assert len(hashes) == 1
