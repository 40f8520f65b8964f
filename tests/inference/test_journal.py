import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from stage_a_pipeline.errors import JournalError, OutputError
from stage_a_pipeline.inference.journal import Answer, Journal, count_answers, run_fingerprint

ANSWER = Answer("标签/1\n第二行", "stop", 120, 7, 1)


def write(folder, shard, shas, fingerprint="f"):
    with Journal(folder, shard) as journal:
        for sha in shas:
            journal.append_answer(f"g/{sha}.jpg", sha, fingerprint, ANSWER)


def test_an_answer_is_found_again_by_the_next_process(tmp_path):
    write(tmp_path, "cpu", ["a"])
    with Journal(tmp_path, "cpu") as journal:
        assert journal.find("a", "f") == ANSWER
        assert journal.knows("a", "f")
        assert len(journal) == 1


def test_an_answer_is_found_right_after_it_was_appended(tmp_path):
    with Journal(tmp_path, "cpu") as journal:
        journal.append_answer("g/a.jpg", "a", "f", ANSWER)
        assert journal.find("a", "f") == ANSWER


@pytest.mark.parametrize(("sha", "fingerprint"), [("b", "f"), ("a", "other")])
def test_other_bytes_or_another_fingerprint_find_nothing(tmp_path, sha, fingerprint):
    write(tmp_path, "cpu", ["a"])
    with Journal(tmp_path, "cpu") as journal:
        assert journal.find(sha, fingerprint) is None
        assert not journal.knows(sha, fingerprint)


def test_answers_of_other_shards_are_found(tmp_path):
    write(tmp_path, "cuda_0", ["a"])
    write(tmp_path, "cuda_1", ["b"])
    with Journal(tmp_path, "cpu") as journal:
        assert journal.find("a", "f") == ANSWER
        assert journal.find("b", "f") == ANSWER
    assert count_answers(tmp_path) == 2


@pytest.mark.parametrize("shard", ["cpu", "cuda_0"])
def test_the_answer_of_the_own_shard_wins_over_that_of_another(tmp_path, shard):
    for name in ("cpu", "cuda_0"):
        with Journal(tmp_path / name, name) as journal:
            journal.append_answer("g/a.jpg", "a", "f", replace(ANSWER, raw_text=name))
    for name in ("cpu", "cuda_0"):
        (tmp_path / name / f"{name}.jsonl").rename(tmp_path / f"{name}.jsonl")
    with Journal(tmp_path, shard) as journal:
        answer = journal.find("a", "f")
    assert answer is not None
    assert answer.raw_text == shard


def test_answers_are_counted_for_one_fingerprint_or_for_all(tmp_path):
    write(tmp_path, "cpu", ["a", "b"], fingerprint="f")
    write(tmp_path, "cuda_0", ["b", "c"], fingerprint="f")
    write(tmp_path, "cuda_1", ["a", "d"], fingerprint="other")
    write(tmp_path, "cuda_2", ["e"], fingerprint="f:place/of/a.jpg")
    assert count_answers(tmp_path, "f") == 4
    assert count_answers(tmp_path, "other") == 2
    assert count_answers(tmp_path, "unknown") == 0
    assert count_answers(tmp_path) == 6


def test_a_failure_is_written_but_never_reused(tmp_path):
    with Journal(tmp_path, "cpu") as journal:
        journal.append_failure("g/a.jpg", "a", "f", reason="truncated", attempts=2)
    with Journal(tmp_path, "cpu") as journal:
        assert journal.find("a", "f") is None
    line = json.loads((tmp_path / "cpu.jsonl").read_text("utf-8"))
    assert (line["status"], line["reason"], line["attempts"]) == ("rejected", "truncated", 2)


@pytest.mark.parametrize("cut", [1, 2, 12, 40])
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(tmp_path, cut):
    write(tmp_path, "cpu", ["a", "b"])
    path = tmp_path / "cpu.jsonl"
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut)
    with Journal(tmp_path, "cpu") as journal:
        assert journal.torn_bytes > 0
        assert journal.find("a", "f") == ANSWER
        assert journal.find("b", "f") is None
        journal.append_answer("g/b.jpg", "b", "f", ANSWER)
    assert path.read_bytes() == whole


def test_a_file_without_any_whole_line_is_emptied(tmp_path):
    (tmp_path / "cpu.jsonl").write_bytes(b'{"photo":"g/a')
    with Journal(tmp_path, "cpu") as journal:
        assert len(journal) == 0
    assert (tmp_path / "cpu.jsonl").read_bytes() == b""


@pytest.mark.parametrize("damage", ["标".encode(), b"\x00", b"x"])
def test_damage_in_the_middle_is_refused_with_file_and_line(tmp_path, damage):
    write(tmp_path, "cpu", ["a", "b", "c"])
    path = tmp_path / "cpu.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:30] + damage + lines[1][30 + len(damage) :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"cpu\.jsonl, line 2 is damaged"):
        Journal(tmp_path, "cpu")
    assert path.read_bytes() == b"".join(lines)


def open_files():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_a_refused_journal_leaves_no_file_open(tmp_path):
    write(tmp_path, "cpu", ["a"])
    (tmp_path / "cuda_0.jsonl").write_bytes(b"damage\n")
    before = open_files()
    with pytest.raises(JournalError) as refused:
        Journal(tmp_path, "cpu")
    # Counted while the traceback still holds the half-made journal.
    assert open_files() == before
    del refused


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_cannot_be_read_as_a_journal_is_named(tmp_path, make):
    write(tmp_path, "cpu", ["a"])
    make(tmp_path / "cuda_0.jsonl")
    with pytest.raises(JournalError, match=r"cuda_0\.jsonl cannot be read: .*; .* move it away"):
        Journal(tmp_path, "cpu")
    with pytest.raises(JournalError, match=r"cuda_0\.jsonl cannot be read"):
        count_answers(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_tells_the_remedy_at_every_call(tmp_path):
    journal = Journal(tmp_path, "cpu")
    journal._out.close()
    journal._out = open("/dev/full", "ab")  # noqa: SIM115, PTH123
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.append_answer("g/a.jpg", "a", "f", ANSWER)
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.commit()
    with pytest.raises(OutputError, match=r"cpu\.jsonl cannot be written: No space left.*run again"):
        journal.close()
    assert all(file.closed for file in (journal._out, *journal._files))


def test_a_torn_line_of_another_shard_is_left_alone(tmp_path):
    write(tmp_path, "cpu", ["a"])
    with (tmp_path / "cuda_0.jsonl").open("wb") as file:
        file.write(b'{"photo":"still being writ')
    with Journal(tmp_path, "cpu") as journal:
        assert len(journal) == 1
    assert (tmp_path / "cuda_0.jsonl").read_bytes().endswith(b"writ")


def test_the_journal_reads_like_a_log(tmp_path):
    write(tmp_path, "cpu", ["a"])
    line = json.loads((tmp_path / "cpu.jsonl").read_text("utf-8"))
    assert line["photo"] == "g/a.jpg"
    assert line["text"] == ANSWER.raw_text


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError, match="file"):
        Journal(blocked / "journal", "cpu")


def test_committed_answers_survive_a_kill(tmp_path):
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from stage_a_pipeline.inference.journal import Answer, Journal
        journal = Journal(Path(sys.argv[1]), "cpu")
        for name in "ab":
            journal.append_answer(name, name, "f", Answer("t", "stop", 1, 1, 1))
        journal.commit()
        journal.append_answer("c", "c", "f", Answer("t", "stop", 1, 1, 1))
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    with Journal(tmp_path, "cpu") as journal:
        assert journal.knows("a", "f")
        assert journal.knows("b", "f")


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
