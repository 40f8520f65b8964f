"""What stands for what: pairs within one photo and attribute."""

from collections import Counter

import pytest

from stage_a_pipeline.evaluation.confusion import confuse, pair_values
from tests.evaluation.conftest import read, summary, wire

CASES = [
    ({"a": 2}, {"a": 2}, {("a", "a"): 2}),
    ({"a": 1}, {"b": 1}, {("a", "b"): 1}),
    ({"a": 2, "b": 1}, {"a": 1, "c": 1}, {("a", "a"): 1, ("a", "c"): 1, ("b", None): 1}),
    ({"a": 1}, {}, {("a", None): 1}),
    ({}, {"a": 3}, {(None, "a"): 3}),
    ({"a": 3}, {"b": 1, "c": 1}, {("a", "b"): 1, ("a", "c"): 1, ("a", None): 1}),
    # The most alike first, whatever the order of their names.
    ({"ODF2": 1, "GND": 1}, {"0DF2": 1, "GNO": 1}, {("ODF2", "0DF2"): 1, ("GND", "GNO"): 1}),
    ({}, {}, {}),
]


@pytest.mark.parametrize(("true", "said", "pairs"), CASES)
def test_left_over_values_are_paired(true, said, pairs):
    assert pair_values(Counter(true), Counter(said)) == pairs


def test_large_counts_cost_nothing():
    pairs = pair_values(Counter(a=10**8), Counter(b=10**8 + 1))
    assert pairs == {("a", "b"): 10**8, (None, "b"): 1}


def test_confusions_are_summed_over_photos_per_attribute_and_among_categories():
    readings = [
        read(wire(整齐=1), wire(散乱=1)),
        read(wire(整齐=1), wire(散乱=1)),
        read(wire(整齐=1), summary(("光纤", {"保护措施": {"有保护": 1}}))),
    ]
    categories, fibre, wires = confuse(readings)
    assert (categories.name, fibre.name, wires.name) == ("类别", "光纤.保护措施", "电线.捆扎")
    assert categories.cells == {("电线", "电线"): 2, ("电线", "光纤"): 1}
    assert fibre.wrong == {(None, "有保护"): 1}
    assert list(wires.wrong.items()) == [(("整齐", "散乱"), 2), (("整齐", None), 1)]
    assert (categories.right, wires.right) == (2, 0)


def test_the_order_of_photos_does_not_matter():
    readings = [read(wire(整齐=1), wire(散乱=2)), read(wire(散乱=1), wire(整齐=1)), read("无关图片", "x")]
    (one,) = {str([(c.name, list(c.wrong.items())) for c in confuse(order)])
              for order in (readings, readings[::-1])}  # fmt: skip
    assert one
