"""What one summary says otherwise than another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.run_comparison.content_changes import Difference, Piece, differences, text_pieces
from tests.evaluation.conftest import summary
from tests.run_comparison.runs import board

DEVICE = summary(("BBU设备", {"品牌": {"华为": 1, "中兴": 1}}), 备注=["反光"])


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (board(), board(), []),
        ("一行文字", "另一行", []),
        (board(), board("方向错误"), [("方向正确", 1, 0, "removed"), ("方向错误", 0, 1, "added")]),
        (board(方向正确=1), board(方向正确=3), [("方向正确", 1, 3, "changed")]),
    ],
)
def test_values_are_added_removed_or_counted_otherwise(before, after, found):
    told = [(one.value, one.before, one.after, one.kind) for one in differences(before, after)]
    assert told == found


def test_categories_remarks_and_free_texts_are_differences_too():
    after = summary(("标签", {"文本": {"A1": 1}}), 备注=["遮挡"])
    assert differences(DEVICE, after) == (
        Difference("BBU设备", None, 1, 0),
        Difference("BBU设备.品牌", "华为", 1, 0),
        Difference("BBU设备.品牌", "中兴", 1, 0),
        Difference("标签", None, 0, 1),
        Difference("标签.文本", "A1", 0, 1),
        Difference("备注", "反光", 1, 0),
        Difference("备注", "遮挡", 0, 1),
    )


def test_a_photo_that_becomes_irrelevant_differs_by_a_category_of_that_name():
    assert differences(board(), "无关图片") == (
        Difference("挡风板", None, 1, 0),
        Difference("挡风板.安装方向", "方向正确", 1, 0),
        Difference("无关图片", None, 0, 1),
    )


def test_texts_are_compared_by_characters_and_latin_words():
    assert text_pieces("螺丝 M12 已拧紧", "螺丝 M16 未拧紧。") == (
        Piece("same", "螺丝 M"),
        Piece("removed", "12"),
        Piece("added", "16"),
        Piece("same", " "),
        Piece("removed", "已"),
        Piece("added", "未"),
        Piece("same", "拧紧"),
        Piece("added", "。"),
    )


def test_runaway_texts_are_told_apart_as_wholes():
    before, after = "甲乙" * 3_000, "乙丙" * 3_000
    assert text_pieces(f"开{before}尾", f"开{after}尾") == (
        Piece("same", "开"),
        Piece("removed", before),
        Piece("added", after),
        Piece("same", "尾"),
    )


@given(st.text("甲乙ab 12", max_size=30), st.text("甲乙ab 12", max_size=30))
def test_the_pieces_hold_both_texts(before, after):
    pieces = text_pieces(before, after)
    assert "".join(one.text for one in pieces if one.kind != "added") == before
    assert "".join(one.text for one in pieces if one.kind != "removed") == after
    assert all(one.text for one in pieces)
