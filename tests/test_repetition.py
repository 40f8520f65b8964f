"""Texts that go on and on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.repetition import is_endless, repeats_to_the_end

ENTRY = '{"类别": "BBU安装螺丝", "可见性": {"完整": 1}, "符合性": {"符合": 1}}, '


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("", False),
        ("是" * 40, False),
        ("是" * 63, False),
        ("是" * 64, True),
        ("好。" + "是" * 100, True),
        ("不" * 101 + "是" * 100, False),
        ("螺丝" * 40 + "螺", True),
        ("螺丝" * 40 + "。", False),
        ('{"统计": [' + ENTRY * 31, False),
        ('{"统计": [' + ENTRY * 32, True),
        ('{"统计": [' + ENTRY * 40 + ENTRY[:17], True),
        ('{"统计": [' + ENTRY * 40 + '{"类别": "标', False),
        ("".join(f"{number}、" for number in range(400)), False),
    ],
)
def test_a_text_goes_in_circles_when_half_of_it_or_more_repeats_up_to_its_end(text, repeats):
    assert repeats_to_the_end(text) is repeats


@given(st.text(max_size=30), st.text(min_size=1, max_size=60), st.integers(1, 60), st.text(max_size=8))
def test_what_goes_in_circles_is_endless(beginning, piece, times, end):
    text = beginning + piece * times + end
    if repeats_to_the_end(text):
        assert is_endless(text)
        assert is_endless(text, closed=True)
