"""Disks that are full or cannot be written: named with file, cause and remedy, and nothing is lost."""

from __future__ import annotations

from tests.conftest import MISSION
from tests.faults.conftest import PHOTOS, mounted, remount

FULL = "cannot be written: No space left on device"


def test_a_disk_that_fills_up_under_the_journal_is_named_and_loses_nothing(workplace, undisturbed):
    with mounted(workplace.out / "work" / "journal", "size=8k") as disk:
        ended = workplace.run_here(workers=True)
        assert ended.code == 1
        told = f"work/journal/{MISSION}/cpu.jsonl {FULL}; free space or check the folder, then run again"
        assert told in ended.output
        assert not workplace.jsonl.exists()
        kept = workplace.answers().total()
        assert 0 < kept < PHOTOS

        remount(disk, "size=8m")
        asked = len(workplace.asked())
        assert workplace.run_here().code == 0
        assert len(workplace.asked()) - asked == PHOTOS - kept
        assert workplace.published() == undisturbed.published()


def test_a_disk_that_is_too_small_for_the_file_is_named_and_no_answer_is_lost(workplace, undisturbed):
    with mounted(workplace.out, "size=4k") as disk, mounted(workplace.out / "work", "size=8m"):
        ended = workplace.run_here(workers=True)
        assert ended.code == 1
        assert f"{workplace.jsonl.name} {FULL}; free some space or choose a folder on another disk" in (
            ended.output
        )
        assert not workplace.jsonl.exists()
        assert not list(workplace.out.glob(".stage-a-*")), "no half of a file stays behind"

        remount(disk, "size=8m")
        assert workplace.run_here().code == 0
        assert len(workplace.asked()) == PHOTOS
        assert workplace.published() == undisturbed.published()


def test_a_disk_that_is_full_from_the_start_is_named(workplace):
    with mounted(workplace.out, "size=64k") as disk:
        (disk / "filler").write_bytes(b"x" * 60_000)
        ended = workplace.run_here(workers=True)
        assert ended.code == 1
        assert f"{disk}/work/" in ended.output
        assert FULL in ended.output
        assert not workplace.asked()


def test_a_folder_that_is_mounted_read_only_is_named_before_any_photo_is_asked(workplace):
    with mounted(workplace.out, "ro"):
        ended = workplace.run_here()
        assert ended.code == 1
        assert f"{workplace.out}/" in ended.output
        assert "Read-only file system; choose a folder that is not mounted read-only" in ended.output
        assert not workplace.asked()


def test_a_folder_that_becomes_read_only_between_two_runs_keeps_its_files(workplace, undisturbed):
    with mounted(workplace.out, "size=8m") as disk:
        # In a process of its own, which leaves no file open.
        assert workplace.run().code == 0
        remount(disk, "ro")
        ended = workplace.run_here()
        assert ended.code == 1
        assert "choose a folder that is not mounted read-only" in ended.output
        assert workplace.published() == undisturbed.published()
