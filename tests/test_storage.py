"""Atomic writes and locks, with real files, real processes and a real user without rights."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier

import pytest

from stage_a_pipeline.errors import LockedError, OutputError
from stage_a_pipeline.storage import (
    atomic_write,
    child_path,
    claim_output,
    device_lease,
    ensure_folder,
    prune_folders,
    prune_leftovers,
    stage_file,
)

MISSION = "BBU安装方式检查（正装）"
NOBODY = 65534


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root may write anywhere, so become an ordinary user for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_and_raise(path: Path, error: BaseException) -> None:
    with atomic_write(path) as file:
        file.write("half")
        raise error


class TestAtomicWrite:
    def test_text_is_utf8_with_lf_and_nothing_else_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / f"{MISSION}_stage_a.jsonl"
        with atomic_write(path) as file:
            file.write("无关图片\n")
        assert path.read_bytes() == "无关图片\n".encode()
        assert entries(tmp_path) == [path.name]

    def test_binary_mode_keeps_the_bytes(self, tmp_path: Path) -> None:
        with atomic_write(tmp_path / "t.parquet", "wb") as file:
            file.write(b"\x00\r\n\xff")
        assert (tmp_path / "t.parquet").read_bytes() == b"\x00\r\n\xff"

    def test_the_old_file_stands_until_the_block_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("old")
        with atomic_write(path) as file:
            file.write("new")
            file.flush()
            assert path.read_text() == "old"
            assert all(name.startswith(".") for name in entries(tmp_path) if name != "out")
        assert path.read_text() == "new"

    @pytest.mark.parametrize(
        "error", [ValueError("x"), KeyboardInterrupt(), OSError(2, "no such photo", "photo.jpg")]
    )
    def test_any_exception_keeps_the_old_file_and_drops_the_new(
        self, tmp_path: Path, error: BaseException
    ) -> None:
        path = tmp_path / "out"
        path.write_text("old")
        with pytest.raises(type(error)) as caught:
            write_and_raise(path, error)
        assert caught.value is error
        assert path.read_text() == "old"
        assert entries(tmp_path) == ["out"]

    @pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
    def test_the_mode_follows_the_umask(self, tmp_path: Path, mask: int, mode: int) -> None:
        before = os.umask(mask)
        try:
            with atomic_write(tmp_path / "out") as file:
                file.write("x")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode

    def test_a_symbolic_link_stays_and_its_target_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "disk" / "real")
        with atomic_write(tmp_path / "link") as file:
            file.write("x")
        assert (tmp_path / "link").is_symlink()
        assert entries(tmp_path / "disk") == ["real"]

    def test_a_name_as_long_as_a_name_can_be_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / ("装" * 85)
        with atomic_write(path) as file:
            file.write("x")
        assert entries(tmp_path) == [path.name]

    def test_a_handle_closed_by_its_user_is_still_put_in_place(self, tmp_path: Path) -> None:
        with atomic_write(tmp_path / "out", "wb") as file:
            file.write(b"x")
            file.close()
        assert (tmp_path / "out").read_bytes() == b"x"

    @pytest.mark.parametrize(
        ("make", "cause"),
        [
            (lambda folder: folder / "missing" / "out", "No such file or directory; create the folder"),
            (lambda folder: folder / "file" / "out", "Not a directory"),
            (lambda folder: folder / "folder", "Is a directory; a folder stands"),
            (lambda folder: folder / ("x" * 256), "File name too long; choose a shorter name"),
        ],
    )
    def test_an_impossible_place_is_an_output_error(self, tmp_path: Path, make, cause: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        path = make(tmp_path)
        with pytest.raises(OutputError) as caught, atomic_write(path) as file:
            file.write("x")
        assert str(path) in str(caught.value)
        assert cause in str(caught.value)
        assert entries(tmp_path) == ["file", "folder"]

    def test_a_read_only_folder_is_an_output_error_with_a_remedy(self, read_only_folder: Path) -> None:
        path = read_only_folder / "old.jsonl"
        with (
            without_privileges(),
            pytest.raises(OutputError, match="Permission denied; make the folder writable"),
            atomic_write(path) as file,
        ):
            file.write("new")
        assert path.read_text() == "old"

    def test_a_full_disk_is_an_output_error_and_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        path.write_text("old")
        with (
            file_size_limit(100_000),
            pytest.raises(OutputError, match=r"out cannot be written: File too large; raise"),
            atomic_write(path, "wb") as file,
        ):
            file.writelines([b"x" * 10_000] * 100)
        assert path.read_text() == "old"
        assert entries(tmp_path) == ["out"]

    def test_a_full_disk_noticed_only_at_the_end_is_an_output_error(self, tmp_path: Path) -> None:
        with file_size_limit(10), pytest.raises(OutputError), atomic_write(tmp_path / "out") as file:
            file.write("x" * 100)
        assert entries(tmp_path) == []

    def test_a_killed_writer_leaves_the_old_file_and_a_hidden_rest_that_harms_nobody(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "out"
        path.write_text("old")
        script = (
            "import os, signal, sys\n"
            "from pathlib import Path\n"
            "from stage_a_pipeline.storage import atomic_write\n"
            "with atomic_write(Path(sys.argv[1])) as file:\n"
            "    file.write('x' * 100_000)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        assert (
            subprocess.run([sys.executable, "-c", script, str(path)], check=False).returncode
            == -signal.SIGKILL
        )
        assert path.read_text() == "old"
        assert [name for name in entries(tmp_path) if not name.startswith(".")] == ["out"]
        with atomic_write(path) as file:
            file.write("new")
        assert path.read_text() == "new"


class TestStagedFile:
    def test_unchanged_content_is_recognised_byte_by_byte(self, tmp_path: Path) -> None:
        (tmp_path / "same").write_bytes(b"abc")
        (tmp_path / "other").write_bytes(b"abd")
        for name, expected in (("same", True), ("other", False), ("missing", False)):
            with stage_file(tmp_path / name) as staged:
                staged.handle.write(b"abc")
                staged.close()
                for entry in tmp_path.iterdir():
                    os.utime(entry, (1, 1))
                assert staged.is_unchanged() is expected

    def test_what_is_not_committed_is_dropped(self, tmp_path: Path) -> None:
        with stage_file(tmp_path / "out") as staged:
            staged.handle.write(b"abc")
            staged.close()
        assert entries(tmp_path) == []


class TestPaths:
    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b"])
    def test_a_name_that_leads_elsewhere_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match="cannot be a file name"):
            child_path(tmp_path, name)

    def test_both_unicode_forms_of_a_name_are_one_file(self, tmp_path: Path) -> None:
        assert child_path(tmp_path, "é") == child_path(tmp_path, unicodedata.normalize("NFD", "é"))

    def test_missing_parents_are_created(self, tmp_path: Path) -> None:
        assert ensure_folder(tmp_path / "a" / "b").is_dir()
        assert ensure_folder(tmp_path / "a" / "b").is_dir()

    def test_a_file_in_the_way_of_a_folder_is_an_output_error(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        with pytest.raises(OutputError, match="cannot be written"):
            ensure_folder(tmp_path / "a" / "b")

    def test_only_old_files_of_killed_processes_are_pruned(self, tmp_path: Path) -> None:
        script = (
            "import os, sys; from pathlib import Path; from stage_a_pipeline.storage import StagedFile;"
            "StagedFile(Path(sys.argv[1], 'file')); os._exit(9)"
        )
        for _ in range(2):
            subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
        (tmp_path / "own.tmp").touch()
        old, new, _ = sorted(tmp_path.iterdir())
        for path in (old, tmp_path / "own.tmp"):
            os.utime(path, (0, 0))
        assert list(prune_leftovers(tmp_path, older_than_days=7)) == [old]
        assert sorted(tmp_path.iterdir()) == [new, tmp_path / "own.tmp"]
        assert list(prune_leftovers(tmp_path / "missing", older_than_days=7)) == []

    def test_only_old_folders_are_pruned(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        for name, days in (("new", 1), ("old", 8)):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "table").touch()
            changed = time.time() - days * 86_400
            os.utime(folder / "table", (changed, changed))
            os.utime(folder, (changed, changed))
        (tmp_path / "file").touch()
        os.utime(tmp_path / "file", (0, 0))
        (elsewhere := tmp_path_factory.mktemp("elsewhere")).joinpath("kept").touch()
        os.utime(elsewhere, (0, 0))
        (tmp_path / "link").symlink_to(elsewhere)
        assert [path.name for path in prune_folders(tmp_path, older_than_days=7)] == ["old"]
        assert entries(tmp_path) == ["file", "link", "new"]
        assert entries(elsewhere) == ["kept"]

    def test_a_folder_is_as_young_as_the_youngest_file_below_it(self, tmp_path: Path) -> None:
        tables = tmp_path / "run" / "tables"
        tables.mkdir(parents=True)
        (tables / "young").touch()
        for folder in (tables, tables.parent):
            os.utime(folder, (0, 0))
        assert list(prune_folders(tmp_path, older_than_days=7)) == []
        os.utime(tables / "young", (0, 0))
        assert list(prune_folders(tmp_path, older_than_days=7)) == [tmp_path / "run"]

    def test_pruning_a_missing_folder_is_nothing(self, tmp_path: Path) -> None:
        assert list(prune_folders(tmp_path / "missing", older_than_days=1)) == []


HOLD_CLAIM = """
import sys
from pathlib import Path
from stage_a_pipeline.storage import claim_output
with claim_output(Path(sys.argv[1]), sys.argv[2], run_id=sys.argv[3], purpose="summarise on cuda_0"):
    print("held", flush=True)
    sys.stdin.readline()
"""
HOLD_LEASE = """
import sys
from pathlib import Path
from stage_a_pipeline.storage import device_lease
with device_lease(Path(sys.argv[1]), "cuda_0", on_wait=print):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def holder(folder: Path, run_id: str = "run-1", mission: str = MISSION) -> Iterator[subprocess.Popen[str]]:
    with process(HOLD_CLAIM, folder, mission, run_id) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child


def claim(folder: Path, run_id: str, mission: str = MISSION) -> None:
    with claim_output(folder, mission, run_id=run_id, purpose="test"):
        pass


class TestClaimOutput:
    def test_another_run_is_refused_at_once_and_told_who_holds_it(self, tmp_path: Path) -> None:
        with holder(tmp_path / "locks") as child:
            with pytest.raises(LockedError) as caught:
                claim(tmp_path / "locks", "run-2")
            message = str(caught.value)
            for part in (
                MISSION,
                f"pid {child.pid}",
                os.uname().nodename,
                "since 20",
                "run run-1",
                "on cuda_0",
            ):
                assert part in message

    def test_processes_of_one_run_hold_it_together(self, tmp_path: Path) -> None:
        with holder(tmp_path), holder(tmp_path):
            claim(tmp_path, "run-1")

    def test_the_claim_lasts_until_the_last_process_of_the_run_leaves(self, tmp_path: Path) -> None:
        with holder(tmp_path) as second:
            with holder(tmp_path) as first:
                first.communicate("\n")
                with pytest.raises(LockedError, match=f"pid {second.pid} "):
                    claim(tmp_path, "run-2")
            second.communicate("\n")
            claim(tmp_path, "run-2")

    def test_a_first_holder_that_died_is_not_named_for_the_one_that_lives(self, tmp_path: Path) -> None:
        with holder(tmp_path) as first, holder(tmp_path) as second:
            first.kill()
            first.wait()
            with pytest.raises(LockedError, match=f"pid {second.pid} "):
                claim(tmp_path, "run-2")

    def test_a_killed_holder_is_taken_over(self, tmp_path: Path) -> None:
        with holder(tmp_path) as child:
            child.send_signal(signal.SIGKILL)
            child.wait()
            claim(tmp_path, "run-2")

    def test_a_forked_child_does_not_keep_the_claim_of_its_dead_parent(self, tmp_path: Path) -> None:
        script = HOLD_CLAIM.replace(
            '    print("held", flush=True)\n',
            # The child tells its number: by then it has done what a child does first.
            "    import os, time\n    pid = os.fork()\n"
            "    if not pid: print(os.getpid(), flush=True)\n    time.sleep(60)\n",
        )
        with process(script, tmp_path, MISSION, "run-1") as parent:
            assert parent.stdout is not None
            orphan = int(parent.stdout.readline())
            try:
                parent.kill()
                parent.wait()
                claim(tmp_path, "run-2")
            finally:
                os.kill(orphan, signal.SIGKILL)

    def test_a_forked_child_that_ends_does_not_free_the_claim_of_its_parent(self, tmp_path: Path) -> None:
        with claim_output(tmp_path, MISSION, run_id="run-1", purpose="test"):
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
            with pytest.raises(LockedError):
                claim(tmp_path, "run-2")

    def test_a_forked_child_may_leave_the_block_of_its_parent(self, tmp_path: Path) -> None:
        with ExitStack() as stack:
            stack.enter_context(claim_output(tmp_path, MISSION, run_id="run-1", purpose="test"))
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    stack.close()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0

    def test_threads_of_one_run_that_start_together_all_get_in(self, tmp_path: Path) -> None:
        barrier = Barrier(8, timeout=10)

        def join(number: int) -> None:
            for _ in range(20):
                barrier.wait()
                claim(tmp_path, "run-1")

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(join, range(8))) == [None] * 8

    def test_a_second_run_in_the_same_process_is_refused_too(self, tmp_path: Path) -> None:
        with claim_output(tmp_path, MISSION, run_id="run-1", purpose="test"):
            with pytest.raises(LockedError, match=f"pid {os.getpid()} "):
                claim(tmp_path, "run-2")
            claim(tmp_path, "run-1")
        claim(tmp_path, "run-2")

    def test_an_exception_inside_frees_the_claim(self, tmp_path: Path) -> None:
        with (
            pytest.raises(ZeroDivisionError),
            claim_output(tmp_path, MISSION, run_id="run-1", purpose="test"),
        ):
            1 / 0  # noqa: B018
        claim(tmp_path, "run-2")

    def test_missions_do_not_hinder_each_other_and_both_forms_of_a_name_do(self, tmp_path: Path) -> None:
        with claim_output(tmp_path, "é", run_id="run-1", purpose="test"):
            claim(tmp_path, "e", mission="e")
            with pytest.raises(LockedError):
                claim(tmp_path, "run-2", mission=unicodedata.normalize("NFD", "é"))

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]\n", b"\xff\n", b'{"pid": 1}\n', b"x" * 999])
    def test_an_unreadable_note_of_a_dead_holder_does_not_matter(
        self, tmp_path: Path, content: bytes
    ) -> None:
        (tmp_path / f"{MISSION}.lock").write_bytes(content)
        claim(tmp_path, "run-2")
        (note,) = (tmp_path / f"{MISSION}.lock").read_text().splitlines()
        assert json.loads(note)["run_id"] == "run-2"

    def test_an_unreadable_note_of_a_living_holder_still_refuses(self, tmp_path: Path) -> None:
        with holder(tmp_path):
            (tmp_path / f"{MISSION}.lock").write_bytes(b"")
            with pytest.raises(LockedError, match="another run"):
                claim(tmp_path, "run-2")

    def test_of_many_runs_that_start_together_exactly_one_wins(self, tmp_path: Path) -> None:
        script = HOLD_CLAIM.replace(
            "import sys\n", "import sys\nfrom stage_a_pipeline.errors import LockedError\n", 1
        )
        script = "import sys\n" + "try:\n" + "".join(f"    {line}\n" for line in script.splitlines())
        script += "except LockedError:\n    print('refused', flush=True)\n"
        commands = [[sys.executable, "-c", script, str(tmp_path), MISSION, f"run-{i}"] for i in range(6)]
        pipe = subprocess.PIPE
        children = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for command in commands]
        said = [child.stdout.readline() for child in children if child.stdout]
        for child in children:
            child.communicate("\n")
        assert sorted(said) == ["held\n"] + ["refused\n"] * 5

    def test_a_folder_that_cannot_hold_locks_is_an_output_error(self, read_only_folder: Path) -> None:
        with without_privileges(), pytest.raises(OutputError, match="cannot be written"):
            claim(read_only_folder, "run-1")


class TestDeviceLease:
    def test_a_taken_device_is_waited_for_and_its_holder_named(self, tmp_path: Path) -> None:
        said: list[str] = []
        with process(HOLD_LEASE, tmp_path) as child:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == "held\n"

            def release_on_second_report(sentence: str) -> None:
                said.append(sentence)
                if len(said) == 2:
                    child.communicate("\n")

            with device_lease(
                tmp_path, "cuda_0", on_wait=release_on_second_report, poll_seconds=0.01, report_seconds=0.05
            ):
                pass
        assert len(said) >= 2
        assert (
            f"device cuda_0 is taken; waiting for pid {child.pid} on {os.uname().nodename} since 20"
            in said[0]
        )

    def test_a_killed_holder_frees_its_device(self, tmp_path: Path) -> None:
        with process(HOLD_LEASE, tmp_path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            child.kill()
            child.wait()
            with device_lease(tmp_path, "cuda_0", on_wait=pytest.fail):
                pass

    def test_devices_are_leased_apart_and_one_after_the_other(self, tmp_path: Path) -> None:
        with (
            device_lease(tmp_path, "cuda_0", on_wait=pytest.fail),
            device_lease(tmp_path, "cuda_1", on_wait=pytest.fail),
        ):
            pass
        with device_lease(tmp_path, "cuda_0", on_wait=pytest.fail):
            pass

    def test_an_error_while_holding_frees_the_device(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), device_lease(tmp_path, "cpu", on_wait=pytest.fail):
            1 / 0  # noqa: B018
        with device_lease(tmp_path, "cpu", on_wait=pytest.fail):
            pass

    def test_a_missing_note_is_waited_for_without_a_name(self, tmp_path: Path) -> None:
        with process(HOLD_LEASE, tmp_path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            (tmp_path / "cuda_0.holder.json").unlink()
            said: list[str] = []

            def release(sentence: str) -> None:
                said.append(sentence)
                child.kill()

            with device_lease(tmp_path, "cuda_0", on_wait=release, poll_seconds=0.01):
                pass
        assert said == ["device cuda_0 is taken; waiting for another process"]

    def test_a_lease_folder_that_cannot_be_written_is_an_output_error(self, read_only_folder: Path) -> None:
        with (
            without_privileges(),
            pytest.raises(OutputError, match="Permission denied"),
            device_lease(read_only_folder, "cpu", on_wait=pytest.fail),
        ):
            pass
