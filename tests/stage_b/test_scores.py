"""The scores of verdicts, counted by hand."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stage_a_pipeline.stage_b.scores import Shares, compare_answers, score_answers
from tests.stage_b.judged import LABELS, MISSION, OTHER, WORDS, answers, compare, ticket, tickets


def values(shares: Shares):
    found = (shares.accuracy, shares.format, shares.false_pass, shares.false_fail)
    return tuple(None if share is None else share.value for share in found)


# Labels, answers; then accuracy, format, false pass, false fail.
CASES = [
    ("pf", "pf", (1.0, 1.0, 0.0, 0.0)),
    ("pf", "fp", (0.0, 1.0, 1.0, 1.0)),
    ("pf", "??", (0.0, 0.0, 0.0, 0.0)),
    ("ppff", "pf?p", (0.25, 0.75, 0.5, 0.5)),
    ("fffff", "fffpp", (0.6, 1.0, 0.4, None)),
    ("pppp", "ppp?", (0.75, 0.75, None, 0.0)),
    ("", "", (None, None, None, None)),
]


@pytest.mark.parametrize(("labels", "said", "expected"), CASES)
def test_shares_of_verdicts(labels, said, expected):
    scores = score_answers(tickets(labels), answers(said), samples=100, seed=1)
    assert values(scores.total.shares) == pytest.approx(expected)
    assert scores.total.tickets == len(labels)


def test_every_cell_of_the_confusion_is_counted():
    scores = score_answers(tickets("pppff"), answers("pf?fp"), samples=100, seed=1).total
    assert scores.confusion == {
        "pass": {"pass": 1, "fail": 1, "unreadable": 1},
        "fail": {"pass": 1, "fail": 1, "unreadable": 0},
    }


def test_a_missions_scores_are_those_it_has_alone():
    one, other = tickets("ppf"), tickets("ff", mission=OTHER)
    mixed = [one[0], other[0], one[1], other[1], one[2]]
    scores = score_answers(mixed, answers("ppffp"), samples=100, seed=1)
    assert list(scores.per_mission) == [OTHER, MISSION]
    assert (
        scores.per_mission[MISSION]
        == score_answers(one, answers("pfp"), samples=100, seed=1).per_mission[MISSION]
    )
    assert scores.total.tickets == 5


def test_a_resubmitted_group_is_resampled_as_one():
    twice = [ticket("a", "pass"), ticket("a", "fail"), ticket("b", "pass"), ticket("b", "fail")]
    scores = score_answers(twice, answers("pppp"), samples=100, seed=1).total
    assert (scores.tickets, scores.groups) == (4, 2)
    # Every group is right once and wrong once, whichever are drawn.
    accuracy = scores.shares.accuracy
    assert (accuracy.low, accuracy.high) == (0.5, 0.5)


def test_differences_are_after_less_before():
    total = compare("ppff", "f?pp", "ppfp").total
    assert values(total.before.shares) == (0.0, 0.75, 1.0, 0.5)
    assert values(total.after.shares) == (0.75, 1.0, 0.5, 0.0)
    assert values(total.difference) == (0.75, 0.25, -0.5, -0.5)


def test_equal_answers_differ_by_nothing_in_every_resample():
    difference = compare("ppffpfpf", "pfpfpfp?", "pfpfpfp?").total.difference
    assert {
        (share.value, share.low, share.high) for share in (difference.accuracy, difference.false_pass)
    } == {(0.0, 0.0, 0.0)}


def test_one_more_right_answer_in_every_group_has_a_paired_interval_of_no_width():
    pairs = [ticket(f"{group}", label) for group in range(6) for label in ("pass", "fail")]
    after = compare_answers(pairs, answers("?f" * 6), answers("pf" * 6), samples=100, seed=1).total
    assert (after.difference.accuracy.low, after.difference.accuracy.high) == (0.5, 0.5)


ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("pf"), st.sampled_from((MISSION, OTHER)),
              st.sampled_from("pf?"), st.sampled_from("pf?")),
    max_size=12,
)  # fmt: skip


@given(rows=ROWS, seed=st.integers(0, 3), order=st.randoms(use_true_random=False))
def test_a_comparison_holds_together(rows, seed, order):
    def compared(rows):
        found = [ticket(group, LABELS[label], mission=mission) for group, label, mission, _, _ in rows]
        before, after = ([WORDS[row[side]] for row in rows] for side in (3, 4))
        alone = score_answers(found, after, samples=100, seed=seed)
        return compare_answers(found, before, after, samples=100, seed=seed), alone

    comparison, alone = compared(rows)
    assert comparison.total.after == alone.total
    assert {name: one.after for name, one in comparison.per_mission.items()} == alone.per_mission
    assert sum(one.after.tickets for one in comparison.per_mission.values()) == len(rows)
    for one in (comparison.total, *comparison.per_mission.values()):
        assert sum(sum(row.values()) for row in one.after.confusion.values()) == one.after.tickets
        sides = map(values, (one.before.shares, one.after.shares, one.difference))
        for before, after, difference in zip(*sides, strict=True):
            assert (before is None) == (after is None) == (difference is None)
            assert before is None or difference == pytest.approx(after - before)
        for share in (one.after.shares.accuracy, one.after.shares.false_pass, one.after.shares.false_fail):
            assert share is None or 0 <= share.low <= share.high <= 1
    shuffled = order.sample(rows, len(rows))
    assert compared(shuffled)[0] == comparison


def test_the_document_is_plain_json_without_nan():
    mapping = compare("pp", "pf", "p?").to_mapping()
    assert json.loads(json.dumps(mapping, allow_nan=False)) == mapping
    assert list(mapping) == ["before", "after", "difference", "per_mission"]
    assert mapping["after"]["false_pass"] is None
    assert mapping["after"]["accuracy"]["value"] == 0.5
    assert mapping["per_mission"][MISSION]["after"] == mapping["after"]
    alone = score_answers(tickets("pp"), answers("p?"), samples=200, seed=1).to_mapping()
    assert {key: alone[key] for key in mapping["after"]} == mapping["after"]
    assert list(alone["per_mission"]) == [MISSION]


def test_answers_of_another_number_than_tickets_are_refused():
    with pytest.raises(ValueError, match="1 answers to 2 tickets"):
        compare_answers(tickets("pf"), answers("pf"), answers("p"), samples=100, seed=1)
