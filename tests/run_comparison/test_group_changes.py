"""Groups of two runs beside each other."""

from stage_a_pipeline.run_comparison.group_changes import GroupPairs, PairedGroup, group_change
from tests.evaluation.conftest import summary
from tests.run_comparison.runs import board, record

A, B, C = record("A", "甲"), record("B", "乙"), record("C", "丙")


def paired(before, after):
    pairs = GroupPairs(before)
    found = [(one.before, one.after) for one in pairs.pair(after)]
    return found, pairs.lost, pairs.gained


def change(before, after):
    return group_change(PairedGroup(before, after))


def test_groups_are_lost_and_gained_in_the_order_of_their_run():
    found, lost, gained = paired([C, B, A], [record("D", "x"), B, record("E", "y")])
    assert found == [(B, B)]
    assert lost == [C, A]
    assert [one.group_id for one in gained] == ["D", "E"]


def test_a_group_whose_label_changed_is_neither_lost_nor_gained():
    other = record("A", "甲", label="fail")
    assert paired([A], [other]) == ([(A, other)], [], [])
    found = change(A, other)
    assert (found.label_before, found.label_after, found.label_changed) == ("pass", "fail", True)


def test_a_resubmission_is_two_groups_and_keeps_its_labels():
    resubmitted = record("A", "新", label="fail")
    assert paired([A], [resubmitted, A]) == ([(A, A)], [], [resubmitted])
    assert paired([resubmitted, A], [A]) == ([(A, A)], [resubmitted], [])
    swapped, lost, gained = paired([A, resubmitted], [resubmitted, A])
    assert (set(swapped), lost, gained) == ({(A, A), (resubmitted, resubmitted)}, [], [])


def test_of_two_groups_with_one_id_the_one_with_the_same_photos_is_the_partner():
    first = record("A", "甲", images=("x.jpg",))
    second = record("A", "乙", images=("y.jpg",))
    found, _, _ = paired([first, second], [second, first])
    assert found == [(second, second), (first, first)]
    assert paired([first, second], [second])[1] == [first]


def test_equal_groups_are_no_change_whatever_the_order_of_photos():
    turned = record("A", "乙", "甲", images=("2.jpg", "1.jpg"))
    assert change(record("A", "甲", "乙"), turned) is None


def test_photos_are_paired_by_name_and_others_gained_or_lost():
    before = record("A", "甲", "乙", images=("1.jpg", "2.jpg"))
    after = record("A", "丙", "乙乙", images=("0.jpg", "2.jpg"))
    found = change(before, after)
    assert (found.photos_gained, found.photos_lost) == (("0.jpg",), ("1.jpg",))
    assert [(one.image, one.before, one.after) for one in found.summaries] == [("2.jpg", "乙", "乙乙")]


def test_the_nth_photo_of_a_name_is_the_nth():
    before = record("A", "甲", "乙", images=("1.jpg", "1.jpg"))
    found = change(before, record("A", "甲", "丙", images=("1.jpg", "1.jpg")))
    assert [(one.before, one.after) for one in found.summaries] == [("乙", "丙")]
    assert not found.photos_gained + found.photos_lost


def test_fail_reasons_that_differ_are_a_change_of_their_own():
    none, empty, some = (
        record("A", "甲", label="fail", fail_reasons=one) for one in (None, (), ("方向错误",))
    )
    assert change(some, some) is None
    assert change(none, empty) is None, "a workbook that knows nothing of the group tells nothing new"
    for before, after in ((empty, some), (some, none)):
        found = change(before, after)
        assert (found.fail_reasons_changed, found.label_changed, found.summaries) == (True, False, ())


def test_a_change_is_of_content_wording_or_text():
    first, second = ("电线", {"捆扎": {"整齐": 1}}), ("标签", {"文本": {"A1": 1}})
    kinds = {
        "content": (board(), board("方向错误")),
        "wording": (summary(first, second), summary(second, first)),
        "text": ("一行文字", "另一行文字"),
    }
    for kind, texts in kinds.items():
        (found,) = change(*(record("A", text) for text in texts)).summaries
        assert found.kind == kind
        assert bool(found.differences) == (kind == "content")
