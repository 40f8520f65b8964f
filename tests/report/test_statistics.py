"""The overview's figures are those of the groups."""

from __future__ import annotations

import pytest

from stage_a_pipeline.rejected_lines import RejectedLine
from stage_a_pipeline.report.groups import ReportGroup, ReportPhoto
from stage_a_pipeline.report.statistics import LostPhotos, StatisticsCounter, lengths_of


def photo(summary: str | None = None, *, lost: tuple[str, str] | None = None) -> ReportPhoto:
    line = None if lost is None else RejectedLine("m", "g", "pass", "1.jpg", 1, *lost, "detail", None)
    return ReportPhoto("1.jpg", None, summary, line)


def counted(*groups: ReportGroup):
    counter = StatisticsCounter()
    assert list(counter.watch(groups)) == list(groups)
    return counter.result()


def test_groups_photos_rejections_and_reasons_are_counted():
    found = counted(
        ReportGroup("a", "fail", "", (photo("无关图片"), photo("文字")), ("甲", "乙")),
        ReportGroup("b", "fail", "", (photo("文字"),), ("甲",)),
        ReportGroup("c", "pass", "", (photo(lost=("read", "empty")), photo(lost=("read", "empty")), photo())),
        ReportGroup("d", "pass", "", (photo(lost=("clean", "broken_json")),)),
    )
    fail, passed = found.labels["fail"], found.labels["pass"]
    assert (fail.delivered, fail.rejected, fail.photos, fail.irrelevant) == (2, 0, 3, 1)
    assert (passed.delivered, passed.rejected, passed.photos) == (0, 2, 0)
    assert found.lost == (LostPhotos("read", "empty", 2, 1), LostPhotos("clean", "broken_json", 1, 1))
    assert found.fail_reasons == (("甲", 2), ("乙", 1))


def test_frequencies_are_of_groups_not_of_photos():
    one = '{"统计": [{"类别": "BBU设备", "品牌": {"华为": 1}}]}'
    found = counted(
        ReportGroup("a", "fail", "", (photo(one), photo(one))),
        ReportGroup("b", "pass", "", (photo("无关图片"),)),
    )
    (row,) = [row for row in found.frequencies if row.value == "华为"]
    assert (row.counts, row.totals) == ({"pass": 0, "fail": 1}, {"pass": 1, "fail": 1})


@pytest.mark.parametrize("lengths", [{4: 1}, {4: 99, 900: 1}, dict.fromkeys(range(1, 400), 3), {0: 5, 1: 2}])
def test_bars_hold_every_length_once_and_touch(lengths):
    found = lengths_of(lengths)
    assert sum(bar.summaries for bar in found.bars) == sum(lengths.values())
    assert found.bars[0].first == 0
    assert all(left.last + 1 == right.first for left, right in zip(found.bars, found.bars[1:], strict=False))
    assert (found.bars[-1].last, found.longest) == (max(lengths), max(lengths))
    assert len(found.bars) <= 25


def test_no_summary_has_no_lengths():
    assert lengths_of({}) is None
