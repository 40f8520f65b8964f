import json
import os
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import stage_a_pipeline.inference.journal as journal_module
from stage_a_pipeline.errors import JournalError, OutputError
from stage_a_pipeline.inference import journal_reader
from stage_a_pipeline.inference.journal import (
    Answer,
    Journal,
    Ordeal,
    count_answers,
    record_crash,
    run_fingerprint,
)

ANSWER = Answer("标签/1\n第二行", "stop", 120, 7, 1)
BBU, RRU = "BBU安装", "RRU安装"


def opened(folder, shard="cpu", missions=(BBU,)):
    return Journal(folder, shard, missions)


def file_of(folder, shard="cpu", mission=BBU):
    return folder / mission / f"{shard}.jsonl"


def write(folder, shard, shas, fingerprint="f", mission=BBU):
    with opened(folder, shard, [mission]) as journal:
        for sha in shas:
            journal.append_answer(mission, f"g/{sha}.jpg", sha, fingerprint, ANSWER)


def test_an_answer_is_found_again_by_the_next_process(tmp_path):
    write(tmp_path, "cpu", ["a"])
    with opened(tmp_path) as journal:
        assert journal.find("a", "f") == ANSWER
        assert journal.knows("a", "f")
        assert len(journal) == 1


def test_an_answer_is_found_right_after_it_was_appended(tmp_path):
    with opened(tmp_path) as journal:
        journal.append_answer(BBU, "g/a.jpg", "a", "f", ANSWER)
        assert journal.find("a", "f") == ANSWER


@pytest.mark.parametrize(("sha", "fingerprint"), [("b", "f"), ("a", "other")])
def test_other_bytes_or_another_fingerprint_find_nothing(tmp_path, sha, fingerprint):
    write(tmp_path, "cpu", ["a"])
    with opened(tmp_path) as journal:
        assert journal.find(sha, fingerprint) is None
        assert not journal.knows(sha, fingerprint)


def test_answers_of_other_shards_are_found(tmp_path):
    write(tmp_path, "cuda_0", ["a"])
    write(tmp_path, "cuda_1", ["b"])
    with opened(tmp_path) as journal:
        assert journal.find("a", "f") == ANSWER
        assert journal.find("b", "f") == ANSWER
    assert count_answers(tmp_path / BBU) == 2


@pytest.mark.parametrize("shard", ["cpu", "cuda_0"])
def test_the_answer_of_the_own_shard_wins_over_that_of_another(tmp_path, shard):
    for name in ("cpu", "cuda_0"):
        with opened(tmp_path / name, name) as journal:
            journal.append_answer(BBU, "g/a.jpg", "a", "f", replace(ANSWER, raw_text=name))
    for name in ("cpu", "cuda_0"):
        file_of(tmp_path, name).parent.mkdir(exist_ok=True)
        file_of(tmp_path / name, name).rename(file_of(tmp_path, name))
    with opened(tmp_path, shard) as journal:
        answer = journal.find("a", "f")
    assert answer is not None
    assert answer.raw_text == shard


@pytest.mark.parametrize("look", ["opens", "looks around"])
def test_a_file_that_is_shortened_while_it_is_read_gives_no_photo_the_answer_of_another(
    tmp_path, monkeypatch, look
):
    """Its shard removes what no longer counts, and other lines are where the former ones were."""
    journal_of_another, intact_lines = file_of(tmp_path, "cuda_1"), journal_reader.intact_lines

    def replaced_first(path, **how):
        if path == journal_of_another:
            whole = path.read_bytes()
            kept = tmp_path / "kept"
            kept.write_bytes(whole[whole.find(b"\n") + 1 :])
            kept.replace(path)
        return intact_lines(path, **how)

    with opened(tmp_path) if look == "looks around" else nullcontext() as early:
        for sha in "abc":
            write_text(tmp_path, "cuda_1", sha)
        monkeypatch.setattr(journal_reader, "intact_lines", replaced_first)
        with opened(tmp_path) if early is None else nullcontext(early) as journal:
            if early is not None:
                early.look_around()
            found = {sha: journal.find(sha, "f") for sha in "abc"}
    assert b'"a"' not in journal_of_another.read_bytes()
    assert {sha: answer.raw_text for sha, answer in found.items()} == {"a": "a", "b": "b", "c": "c"}


def write_text(folder, shard, sha):
    with opened(folder, shard) as journal:
        journal.append_answer(BBU, f"g/{sha}.jpg", sha, "f", replace(ANSWER, raw_text=sha))


def test_a_file_that_somebody_writes_over_under_a_run_gives_no_photo_the_answer_of_another(tmp_path):
    write_text(tmp_path, "cuda_1", "a")
    write_text(tmp_path, "cuda_2", "b")
    with opened(tmp_path) as journal:
        file_of(tmp_path, "cuda_1").write_bytes(file_of(tmp_path, "cuda_2").read_bytes())
        with pytest.raises(JournalError, match=r"cuda_1.jsonl was changed while it was read; run again"):
            journal.find("a", "f")


def test_answers_are_counted_for_one_fingerprint_or_for_all(tmp_path):
    write(tmp_path, "cpu", ["a", "b"], fingerprint="f")
    write(tmp_path, "cuda_0", ["b", "c"], fingerprint="f")
    write(tmp_path, "cuda_1", ["a", "d"], fingerprint="other")
    write(tmp_path, "cuda_2", ["e"], fingerprint="f:place/of/a.jpg")
    assert count_answers(tmp_path / BBU, "f") == 4
    assert count_answers(tmp_path / BBU, "other") == 2
    assert count_answers(tmp_path / BBU, "unknown") == 0
    assert count_answers(tmp_path / BBU) == 6


def test_a_failure_is_written_but_never_reused(tmp_path):
    with opened(tmp_path) as journal:
        journal.append_failure(BBU, "g/a.jpg", "a", "f", reason="truncated", attempts=2)
    with opened(tmp_path) as journal:
        assert journal.find("a", "f") is None
    line = json.loads(file_of(tmp_path).read_text("utf-8"))
    assert (line["status"], line["reason"], line["attempts"]) == ("rejected", "truncated", 2)


@pytest.mark.parametrize("cut", [1, 2, 12, 40])
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path, cut):
    write(tmp_path, "cpu", ["a", "b"])
    path = file_of(tmp_path)
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut)
    with opened(tmp_path) as journal:
        assert journal.notices == [
            f"cut a torn last line of {len(whole) // 2 - cut} bytes off {file_of(tmp_path)}"
        ]
        assert journal.find("a", "f") == ANSWER
        assert journal.find("b", "f") is None
        journal.append_answer(BBU, "g/b.jpg", "b", "f", ANSWER)
    assert path.read_bytes() == whole


def test_a_file_without_any_whole_line_is_emptied(tmp_path):
    file_of(tmp_path).parent.mkdir()
    file_of(tmp_path).write_bytes(b'{"photo":"g/a')
    with opened(tmp_path) as journal:
        assert len(journal) == 0
    assert file_of(tmp_path).read_bytes() == b""


@pytest.mark.parametrize("damage", ["标".encode(), b"\x00", b"x"])
def test_damage_in_the_middle_is_refused_with_file_and_line(tmp_path, damage):
    write(tmp_path, "cpu", ["a", "b", "c"])
    path = file_of(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:30] + damage + lines[1][30 + len(damage) :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"cpu\.jsonl, line 2 is damaged"):
        opened(tmp_path)
    assert path.read_bytes() == b"".join(lines)


def open_files():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_a_refused_journal_leaves_no_file_open(tmp_path):
    write(tmp_path, "cpu", ["a"])
    file_of(tmp_path, "cuda_0").write_bytes(b"damage\n")
    before = open_files()
    with pytest.raises(JournalError) as refused:
        opened(tmp_path)
    # Counted while the traceback still holds the half-made journal.
    assert open_files() == before
    del refused


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_cannot_be_read_as_a_journal_is_named(tmp_path, make):
    write(tmp_path, "cpu", ["a"])
    make(file_of(tmp_path, "cuda_0"))
    with pytest.raises(JournalError, match=r"cuda_0\.jsonl cannot be read: .*; .* move it away"):
        opened(tmp_path)
    with pytest.raises(JournalError, match=r"cuda_0\.jsonl cannot be read"):
        count_answers(tmp_path / BBU)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_tells_the_remedy_at_every_call(tmp_path):
    journal = opened(tmp_path)
    own = journal._own[BBU]
    own.stream.close()
    own.stream = open("/dev/full", "ab")  # noqa: SIM115, PTH123
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.append_answer(BBU, "g/a.jpg", "a", "f", ANSWER)
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.commit()
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.close()
    assert own.stream.closed
    opened_files = [Path(file.path) for file in psutil.Process().open_files()]
    assert [path for path in opened_files if path.is_relative_to(tmp_path)] == []


def test_a_torn_line_of_another_shard_is_left_alone(tmp_path):
    write(tmp_path, "cpu", ["a"])
    with file_of(tmp_path, "cuda_0").open("wb") as file:
        file.write(b'{"photo":"still being writ')
    with opened(tmp_path) as journal:
        assert len(journal) == 1
    assert file_of(tmp_path, "cuda_0").read_bytes().endswith(b"writ")


def test_the_journal_reads_like_a_log(tmp_path):
    write(tmp_path, "cpu", ["a"])
    line = json.loads(file_of(tmp_path).read_text("utf-8"))
    assert line["photo"] == "g/a.jpg"
    assert line["text"] == ANSWER.raw_text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError, match="file"):
        opened(blocked / "journal")


def test_committed_answers_survive_a_kill(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from stage_a_pipeline.inference.journal import Answer, Journal
        journal = Journal(Path(sys.argv[1]), "cpu", ["BBU安装"])
        for name in "ab":
            journal.append_answer("BBU安装", name, name, "f", Answer("t", "stop", 1, 1, 1))
        journal.commit()
        journal.append_answer("BBU安装", "c", "c", "f", Answer("t", "stop", 1, 1, 1))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    with opened(tmp_path) as journal:
        assert journal.knows("a", "f")
        assert journal.knows("b", "f")


def test_answers_of_other_missions_are_found_and_new_ones_go_to_their_own(tmp_path):
    write(tmp_path, "cpu", ["a"], mission=RRU)
    with opened(tmp_path, missions=[BBU, RRU]) as journal:
        assert journal.find("a", "f") == ANSWER
        journal.append_answer(BBU, "g/b.jpg", "b", "f", ANSWER)
        journal.append_failure(RRU, "g/c.jpg", "c", "f", reason="empty", attempts=2)
    with opened(tmp_path) as journal:
        assert len(journal) == 2
    assert len(file_of(tmp_path).read_bytes().splitlines()) == 1
    assert len(file_of(tmp_path, mission=RRU).read_bytes().splitlines()) == 2


def test_damage_in_another_mission_s_file_costs_only_the_reuse_and_is_told(tmp_path):
    write(tmp_path, "cpu", ["a", "b", "c"], mission=RRU)
    path = file_of(tmp_path, mission=RRU)
    path.write_bytes(path.read_bytes().replace(b"g/b.jpg", b"g/x.jpg"))
    with opened(tmp_path) as journal:
        assert journal.knows("a", "f")
        assert not journal.knows("b", "f")
        (notice,) = journal.notices
    assert "not reused" in notice
    assert "line 2 is damaged" in notice
    with pytest.raises(JournalError, match="line 2 is damaged"):
        opened(tmp_path, missions=[BBU, RRU])


@pytest.mark.parametrize("place", ['组"一"/甲.jpg', "back\\slash.jpg", "\udcff.jpg"])
def test_any_place_may_stand_in_a_fingerprint(tmp_path, place):
    write(tmp_path, "cpu", ["a"], fingerprint=f"f:{place}".encode("utf-8", "replace").decode())
    with opened(tmp_path) as journal:
        assert journal.knows("a", f"f:{place}".encode("utf-8", "replace").decode())


def rejected_nightly(folder, nights):
    """The same photo fails every night, others were answered once."""
    write(folder, "cpu", ["a", "b"])
    with opened(folder) as journal:
        for night in range(nights):
            journal.append_failure(BBU, "g/x.jpg", "x", "f", reason="empty", attempts=night + 1)


def test_lines_that_no_longer_count_are_removed_once_they_are_most(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_WORTH_COMPACTING", 10)
    rejected_nightly(tmp_path, nights=30)
    reader = file_of(tmp_path).open("rb")
    before = file_of(tmp_path).stat().st_size
    with opened(tmp_path) as journal:
        removed = before - file_of(tmp_path).stat().st_size
        assert removed > before * 0.8
        assert journal.notices == [
            f"removed {removed} bytes of lines that no longer count from {file_of(tmp_path)}"
        ]
        assert (journal.find("a", "f"), journal.find("b", "f")) == (ANSWER, ANSWER)
        assert not journal.knows("x", "f")
        journal.append_answer(BBU, "g/c.jpg", "c", "f", ANSWER)
    lines = [json.loads(line) for line in file_of(tmp_path).read_text("utf-8").splitlines()]
    assert [line["photo"] for line in lines] == ["g/a.jpg", "g/b.jpg", "g/x.jpg", "g/c.jpg"]
    assert lines[2]["attempts"] == 30
    # Who had the former file open reads it to its end.
    assert len(reader.read().splitlines()) == 32
    reader.close()
    with opened(tmp_path) as journal:
        assert journal.notices == []
        assert journal.find("c", "f") == ANSWER


def test_few_dead_lines_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_WORTH_COMPACTING", 10)
    rejected_nightly(tmp_path, nights=9)
    before = file_of(tmp_path).read_bytes()
    with opened(tmp_path) as journal:
        assert journal.notices == []
    assert file_of(tmp_path).read_bytes() == before


def test_many_failures_of_different_photos_all_count(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "_WORTH_COMPACTING", 10)
    with opened(tmp_path) as journal:
        for number in range(30):
            journal.append_failure(BBU, "g/x.jpg", str(number), "f", reason="empty", attempts=2)
    before = file_of(tmp_path).stat()
    with opened(tmp_path) as journal:
        assert journal.notices == []
    assert file_of(tmp_path).stat().st_ino == before.st_ino


def test_the_fingerprint_depends_on_every_part_and_its_place():
    assert (
        len(
            {
                run_fingerprint("a", "b"),
                run_fingerprint("b", "a"),
                run_fingerprint("ab"),
                run_fingerprint("a"),
            }
        )
        == 4
    )


def test_deaths_over_a_photo_are_counted_by_all_shards_and_outlive_compaction(tmp_path):
    suspect = Ordeal("a", BBU, "1" * 64, "f", crashes=1)
    with Journal(tmp_path, "cpu_1", [BBU]) as other:
        record_crash(tmp_path, "cpu", suspect)
        assert other.crashes("1" * 64, "f") == 0
        other.look_around()
        assert other.crashes("1" * 64, "f") == 1
    with Journal(tmp_path, "cpu", [BBU]) as journal:
        for _ in range(1500):
            journal.append_failure(BBU, "a", "1" * 64, "f", reason="empty", attempts=2)
    size = (tmp_path / BBU / "cpu.jsonl").stat().st_size
    with Journal(tmp_path, "cpu", [BBU]) as journal:
        assert (tmp_path / BBU / "cpu.jsonl").stat().st_size < size / 100
        assert journal.crashes("1" * 64, "f") == 1
        record_crash(tmp_path, "cpu_1", replace(suspect, crashes=2))
        journal.look_around()
        assert journal.crashes("1" * 64, "f") == 2
