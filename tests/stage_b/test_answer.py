"""The form of a verdict."""

import pytest

from stage_a_pipeline.stage_b.answer import read_verdict

FORMS = [
    ("通过\n理由: 检查项均符合", "pass"),
    ("不通过\n理由：螺丝不符合", "fail"),
    ("通过\n理由:好\n", "pass"),
    ("通过", None),
    ("通过\n理由: ", None),
    ("通过\n\n理由: 好", None),
    ("通过\n理由: 好\n再说", None),
    ("通过。\n理由: 好", None),
    ("理由: 好\n通过", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "verdict"), FORMS)
def test_a_verdict_is_exactly_two_lines(text, verdict):
    assert read_verdict(text) == verdict
