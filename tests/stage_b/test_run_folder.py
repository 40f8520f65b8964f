"""The folder of a training after kills, torn writes and other trainings."""

import json

import pytest

from stage_a_pipeline.errors import InputError, OutputError
from stage_a_pipeline.stage_b.run_folder import RunFolder, read_record, trained_ids, write_record


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path, "0123")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_checkpoint(folder, step, *, whole=True):
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"x" * step)
    if whole:
        folder.mark_whole(step)
    return path


def test_without_checkpoints_there_is_none_to_go_on_from(folder):
    assert folder.last_checkpoint() is None
    folder.checkpoints.mkdir(parents=True)
    assert folder.last_checkpoint() is None


def test_the_last_checkpoint_is_the_one_of_the_latest_step(folder):
    paths = {step: write_checkpoint(folder, step) for step in (9, 100, 20)}
    (folder.checkpoints / "README.md").touch()
    assert folder.last_checkpoint() == paths[100]
    assert all(path.exists() for path in paths.values())


def test_checkpoints_that_a_kill_has_cut_are_removed_and_the_one_before_is_taken(folder):
    older, newest_whole = write_checkpoint(folder, 1), write_checkpoint(folder, 2)
    cut = [write_checkpoint(folder, step, whole=False) for step in (3, 10)]
    assert folder.last_checkpoint() == newest_whole
    assert not any(path.exists() for path in cut)
    assert older.exists()


def test_where_every_checkpoint_is_cut_the_training_begins_again(folder):
    cut = write_checkpoint(folder, 1, whole=False)
    assert folder.last_checkpoint() is None
    assert not cut.exists()


@pytest.mark.parametrize(
    ("text", "step", "kept"),
    [
        ('{"step": 1}\n{"step": 2}\n{"step": 3}\n', 2, '{"step": 1}\n{"step": 2}\n'),
        ('{"step": 1}\n{"step": 2}\n', 0, ""),
        ('{"step": 1}\n{"step": 2}\n', 9, '{"step": 1}\n{"step": 2}\n'),
        ('{"step": 1}\n{"ste', 9, '{"step": 1}\n'),
        ('{"step": 1}\n{"step": 2}', 9, '{"step": 1}\n'),
        ('{"step": 1}\n[]\n{}\n{"step": "x"}\n{"step": 2}\n', 9, '{"step": 1}\n{"step": 2}\n'),
    ],
)
def test_metrics_of_steps_that_are_taken_again_are_forgotten_and_so_is_a_torn_line(folder, text, step, kept):
    folder.path.mkdir(parents=True)
    folder.metrics.write_text(text)
    folder.forget_steps_after(step)
    assert folder.metrics.read_text() == kept


def test_where_there_are_no_metrics_there_is_nothing_to_forget(folder):
    folder.forget_steps_after(3)
    assert not folder.metrics.exists()


def test_a_new_adapter_is_there_once_its_block_has_ended(folder):
    with folder.new_adapter() as path:
        (path / "weights").write_text("new")
        assert not folder.adapter.exists()
    assert (folder.adapter / "weights").read_text() == "new"
    assert names(folder.path) == ["adapter"]


def test_an_adapter_that_cannot_be_finished_leaves_nothing(folder):
    def fail():
        with folder.new_adapter() as path:
            (path / "weights").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(folder.path) == []


def test_what_a_kill_has_left_of_an_adapter_is_in_nobody_s_way(folder):
    for leftover in (folder.path / ".adapter", folder.adapter):
        leftover.mkdir(parents=True)
        (leftover / "adapter_config.json").write_text("old")
    with folder.new_adapter() as path:
        assert names(path) == []
        (path / "weights").write_text("new")
    assert names(folder.adapter) == ["weights"]


def make_adapter(folder):
    with folder.new_adapter() as path:
        (path / "weights").write_text(folder.key)
    return folder


def test_the_adapter_trained_last_is_offered_in_place_of_an_older_one(tmp_path):
    for key in ("one", "two", "two"):
        offered = make_adapter(RunFolder(tmp_path, key)).offer()
        assert offered == tmp_path / "adapter"
        assert (offered / "weights").read_text() == key
        assert names(tmp_path) == ["adapter", "runs"]


def test_the_offered_adapter_moves_with_its_folder(tmp_path):
    make_adapter(RunFolder(tmp_path / "here", "one")).offer()
    (tmp_path / "here").rename(tmp_path / "there")
    assert (tmp_path / "there" / "adapter" / "weights").read_text() == "one"


def test_a_folder_in_the_place_of_the_offered_adapter_is_told_and_kept(tmp_path):
    folder = make_adapter(RunFolder(tmp_path, "one"))
    (tmp_path / "adapter").mkdir()
    with pytest.raises(OutputError, match=r"adapter cannot be written: Is a directory; .*move it away"):
        folder.offer()
    assert names(tmp_path) == ["adapter", "runs"]


IDS = ["QC-1", "带空格 的", 'quote"\\', "line\nbreak\r\x85\u2028", "\ud800", ""]


def test_the_ids_of_tickets_come_back_as_they_were_whatever_they_hold(tmp_path):
    write_record(tmp_path, {"steps": 1}, [*IDS, *IDS])
    assert trained_ids(tmp_path) == frozenset(IDS)
    assert len((tmp_path / "trained_on.txt").read_text("ascii").splitlines()) == len(IDS)
    assert read_record(tmp_path) == {"steps": 1}


@pytest.mark.parametrize("damage", [None, "QC-1\n", '"QC-1', b"\xff\n", '["QC-1"]\n'])
def test_without_its_ids_an_adapter_is_told_to_be_trained_again(tmp_path, damage):
    if damage is not None:
        data = damage if isinstance(damage, bytes) else damage.encode()
        (tmp_path / "trained_on.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"trained_on\.txt cannot be read .*; remove its folder and train"):
        trained_ids(tmp_path)


def test_a_folder_without_a_record_is_told_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"stage_b\.json cannot be read: No such file.*; train an adapter"):
        read_record(tmp_path)


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\xff", b""])
def test_a_damaged_record_is_told_with_the_remedy(tmp_path, damage):
    (tmp_path / "stage_b.json").write_bytes(damage)
    with pytest.raises(InputError, match=r"stage_b\.json is damaged .*; remove its folder and train"):
        read_record(tmp_path)


def test_what_is_trained_on_what_is_written_down(folder):
    folder.describe({"checkpoint": "abc", "settings": {"seed": 1}})
    told = json.loads((folder.path / "training.json").read_text("utf-8"))
    assert told == {"checkpoint": "abc", "settings": {"seed": 1}}
