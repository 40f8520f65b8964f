"""Journals that are torn or damaged: cut where a crash tore them, refused with file and line elsewhere."""

from __future__ import annotations

import pytest

from tests.faults.conftest import HERE, PHOTOS


@pytest.fixture
def finished(workplace):
    """A finished run whose file is gone, so that the next run has to write it again."""
    workplace.configure(inference=HERE)
    assert workplace.run_here().code == 0
    workplace.jsonl.unlink()
    return workplace


@pytest.mark.parametrize("kept", [1, 0.5, -1], ids=["its first byte", "half of it", "all but its end"])
def test_a_torn_last_line_costs_its_photo_alone(finished, kept, undisturbed):
    journal = finished.journal / "cpu.jsonl"
    *lines, last = journal.read_bytes().splitlines(keepends=True)
    length = int(len(last) * kept) if isinstance(kept, float) else kept % len(last)
    journal.write_bytes(b"".join(lines) + last[:length])
    asked = len(finished.asked())
    ended = finished.run_here()
    assert ended.code == 0
    assert f"cut a torn last line of {length} bytes off {journal}" in ended.output
    assert len(finished.asked()) - asked == 1
    assert finished.published() == undisturbed.published()


def flip_a_bit(line: bytes) -> bytes:
    middle = len(line) // 2
    return line[:middle] + bytes([line[middle] ^ 1]) + line[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, lambda line: b"garbage\n", lambda line: bytes(200) + b"\n"],
    ids=["a flipped bit", "text", "zeros"],
)
def test_garbage_in_the_middle_is_refused_with_file_and_line_and_nothing_is_lost(
    finished, damage, undisturbed
):
    journal = finished.journal / "cpu.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[6] = damage(lines[6])
    journal.write_bytes(damaged := b"".join(lines))
    ended = finished.run_here()
    assert ended.code == 1
    assert f"journal {journal}, line 7 is damaged; restore the file, or remove it" in ended.output
    assert not finished.jsonl.exists()
    assert journal.read_bytes() == damaged

    journal.write_bytes(whole)
    assert finished.run_here().code == 0
    assert finished.published() == undisturbed.published()
    assert len(finished.asked()) == PHOTOS


def test_a_removed_journal_has_its_photos_summarised_again(finished, undisturbed):
    (finished.journal / "cpu.jsonl").unlink()
    assert finished.run_here().code == 0
    assert len(finished.asked()) == 2 * PHOTOS
    assert finished.published() == undisturbed.published()
