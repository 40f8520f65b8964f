"""Engines that run out of memory, fail, babble or break their contract, through the whole pipeline."""

from __future__ import annotations

import pytest

from stage_a_pipeline.inference.journal import count_answers
from tests.faults.conftest import BATCH, PHOTOS

ALL_MAY_FAIL = {"max_failed_fraction": 1.0}
KINDS = {
    "fail001": ("error", "engine_error", None),
    "fail002": ("out_of_memory", "out_of_memory", None),
    "fail003": ("empty", "empty", " "),
    "fail004": ("truncated", "truncated", '{"统计": ['),
    "pass001": ("repetition", "repetition", '{"统计": [{"类别": "电线"}, '),
    "pass002": ("invalid", "not_a_number", '{"统计": [{"类别": "电线", "捆扎": {"整齐": NaN}}]}'),
}
"""By group: the fault of its first photo, the reason of the rejection, how the kept raw text begins."""


def faults(times: int) -> str:
    return "".join(
        f'[[fault]]\nmatch = "*-{group}/IMG_1.jpg*"\nkind = "{kind}"\ntimes = {times}\n'
        for group, (kind, _, _) in KINDS.items()
    )


@pytest.mark.parametrize("refill", ["false", "true"])
def test_a_photo_that_never_succeeds_costs_its_group_and_keeps_its_raw_text(workplace, refill, undisturbed):
    workplace.configure(
        f"refill = {refill}\n{faults(times=0)}", engine={"batch_size": 8}, inference=ALL_MAY_FAIL
    )
    assert workplace.run_here().code == 0
    rejected = {group[-7:]: row for (group, _), row in workplace.rejected().items()}
    assert {group: row["reason"] for group, row in rejected.items()} == {
        group: reason for group, (_, reason, _) in KINDS.items()
    }
    for group, (_, _, text) in KINDS.items():
        assert (rejected[group]["raw_text"] or "").startswith(text or "")
        assert (rejected[group]["raw_text"] is None) == (text is None)
    given_up = [row for row in workplace.lines() if row["status"] == "rejected"]
    attempts = {row["photo"].partition("/")[0][-7:]: row["attempts"] for row in given_up}
    assert attempts == {group: 1 if text is None else 2 for group, (_, _, text) in KINDS.items()}
    written, expected = workplace.records(), undisturbed.records()
    assert written == {group: record for group, record in expected.items() if group[-7:] not in KINDS}


def test_what_goes_wrong_once_leaves_no_trace_in_the_file(workplace, undisturbed):
    workplace.configure(faults(times=1), engine={"batch_size": 8})
    assert workplace.run_here().code == 0
    assert set(workplace.answers().values()) == {1}
    assert workplace.published() == undisturbed.published()


def test_a_batch_that_has_no_room_is_asked_in_parts_and_the_size_is_told(workplace, undisturbed):
    workplace.configure("max_batch = 3\n", engine={"batch_size": 16})
    ended = workplace.run_here(workers=True)
    assert ended.code == 0
    assert "out of memory with 16 of 16 places taken; the batch size is 2 from here on" in ended.output
    assert workplace.published() == undisturbed.published()


@pytest.mark.parametrize(
    ("kind", "refill", "workers"),
    [
        ("too_few", "false", False),
        ("too_many", "false", False),
        ("reordered", "false", True),
        ("too_few", "true", True),
        ("too_many", "true", False),
    ],
)
def test_answers_that_do_not_match_stop_the_run_before_anything_is_mixed_up(
    workplace, kind, refill, workers, undisturbed
):
    match = "QC-20241028-pass001/IMG_2.jpg*"
    workplace.configure(f'refill = {refill}\n[[fault]]\nmatch = "{match}"\nkind = "{kind}"\n')
    ended = workplace.run_here(workers=workers)
    assert ended.code == 1
    assert "the engine broke its contract" in ended.output
    assert not workplace.jsonl.exists()
    kept = workplace.answers()
    assert set(kept.values()) == {1}
    assert count_answers(workplace.journal) == len(kept) >= 15 - BATCH, "what came before is kept"

    workplace.configure(f"refill = {refill}\n")
    asked = len(workplace.asked())
    assert workplace.run_here().code == 0
    assert len(workplace.asked()) - asked == PHOTOS - len(kept)
    assert workplace.published() == undisturbed.published()
