"""The form of a verdict."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.stage_b.answer import first_line, read_reason, read_verdict

FORMS = [
    ("通过\n理由: 检查项均符合", "pass"),
    ("不通过\n理由：螺丝不符合", "fail"),
    ("通过\n理由:好\n", "pass"),
    ("通过\r\n理由: 好\r\n", "pass"),
    ("通过\n理由:\u3000\t好 \u3000\n \n", "pass"),
    ("通过\n理由: 理由: 好", "pass"),
    ("通过\n理由: 好<|im_end|>", "pass"),
    ("通过", None),
    ("通过\n理由: ", None),
    ("通过\n理由:\u3000\u00a0", None),
    ("通过\n理由 : 好", None),
    ("通过\n\n理由: 好", None),
    ("通过\n理由:\n好", None),
    ("通过\n理由: 好\n再说", None),
    ("通过\n理由: 好\r再说", None),
    ("通过。\n理由: 好", None),
    ("通过 \n理由: 好", None),
    (" 通过\n理由: 好", None),
    ("\n通过\n理由: 好", None),
    ("\ufeff通过\n理由: 好", None),
    ("通过\n 理由: 好", None),
    ("通过不通过\n理由: 好", None),
    ("理由: 好\n通过", None),
    ("通过\r\r\n理由: 好", None),
    ("", None),
    (" \n ", None),
]


@pytest.mark.parametrize(("text", "verdict"), FORMS)
def test_a_verdict_is_exactly_two_lines(text, verdict):
    assert read_verdict(text) == verdict


OTHER_LINE_ENDS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("end", OTHER_LINE_ENDS)
def test_a_line_end_to_some_readers_is_in_neither_line(end):
    for text in (
        f"通过{end}理由: 好",
        f"通过\n理由:{end}好",
        f"通过\n理由: 好{end}再说",
        f"通{end}过\n理由: 好",
    ):
        assert read_verdict(text) is None
    assert read_verdict(f"通过\n理由: 好{end}") == "pass"


@given(st.text(st.sampled_from("通过不\n\r理由:： 好\u3000\u2028\v\x1f")))
def test_what_has_the_form_is_two_lines_to_every_reader(text):
    if read_verdict(text) is not None:
        assert len(text.rstrip().splitlines()) == len(text.rstrip().split("\n")) == 2
        assert first_line(text) in ("通过", "不通过")
        assert read_reason(text).strip()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("通过\n理由: 好", "通过"),
        (" 通过\u3000\r\n", "通过"),
        ("不通过", "不通过"),
        ("\n通过", ""),
        ("通过\u2028理由: 好", "通过\u2028理由: 好"),
        ("", ""),
    ],
)
def test_the_first_line_is_stripped(text, line):
    assert first_line(text) == line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("通过\n理由: 好", " 好"),
        ("通过\n理由：好\n再说", "好\n再说"),
        ("想一想，理由:好 理由:坏", "好 理由:坏"),
        ("不通过\n螺丝不符合\n电线散乱", "螺丝不符合\n电线散乱"),
        ("螺丝不符合", ""),
        ("", ""),
    ],
)
def test_the_reason_is_read_whatever_the_form(text, reason):
    assert read_reason(text) == reason


@pytest.mark.parametrize("filling", ["a", " ", "\u3000", " a", "理由:", "\r"])
def test_the_form_is_read_in_linear_time(filling):
    started = time.process_time()
    assert read_verdict("通过\n理由:" + filling * 200_000 + "\nb") is None
    assert time.process_time() - started < 1
