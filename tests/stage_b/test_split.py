"""Held-out tickets, and as many of each label."""

from collections import Counter
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.stage_b.split import balance_tickets, split_tickets
from tests.stage_b.conftest import BBU, RRU, ticket

CABLES = "BBU线缆布放"

fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 5)


def tickets_of(missions):
    """Distinct tickets with ids `0` to `29` that may stand in several missions, under both labels."""
    return st.lists(
        st.tuples(st.integers(0, 29).map(str), st.sampled_from(["pass", "fail"]), st.sampled_from(missions)),
        unique=True,
        min_size=2,
        max_size=80,
    ).map(lambda rows: [ticket(group_id, label, mission=mission) for group_id, label, mission in rows])


def ids(tickets):
    return {one.group_id for one in tickets}


@given(tickets_of([BBU, RRU, CABLES]), fractions, seeds)
def test_every_ticket_is_on_one_side_and_no_group_id_on_both(tickets, fraction, seed):
    assume(len(ids(tickets)) > 1)
    try:
        split = split_tickets(tickets, held_out_fraction=fraction, seed=seed)
    except InputError:
        # Only where no mission has two ids of which one could be moved.
        per_mission = [ids(t for t in tickets if t.mission == name) for name in (BBU, RRU, CABLES)]
        assert all(len(found) < 2 for found in per_mission)
        return
    assert split.train
    assert split.held_out
    assert not ids(split.train) & ids(split.held_out)
    for side in (split.train, split.held_out):
        assert list(side) == [one for one in tickets if one in side]
    assert Counter(split.train + split.held_out) == Counter(tickets)


@given(tickets_of([BBU, RRU, CABLES]), fractions, seeds, st.randoms(use_true_random=False))
def test_the_sides_do_not_depend_on_the_order_of_the_tickets(tickets, fraction, seed, rng):
    assume(len(ids(t for t in tickets if t.mission == BBU)) > 1)
    split = split_tickets(tickets, held_out_fraction=fraction, seed=seed)
    again = split_tickets(rng.sample(tickets, len(tickets)), held_out_fraction=fraction, seed=seed)
    assert set(split.held_out) == set(again.held_out)


@given(st.lists(st.sampled_from([BBU, RRU, CABLES]), min_size=2, max_size=30), fractions, seeds)
def test_every_mission_with_two_ids_of_its_own_is_on_both_sides(missions, fraction, seed):
    tickets = [ticket(str(number), mission=mission) for number, mission in enumerate(missions)]
    sizes = Counter(missions)
    assume(max(sizes.values()) > 1)
    split = split_tickets(tickets, held_out_fraction=fraction, seed=seed)
    for mission, size in sizes.items():
        if size > 1:
            for side in (split.train, split.held_out):
                assert any(one.mission == mission for one in side)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(2, 60), st.floats(0.1, 0.9), seeds)
def test_missions_and_labels_keep_their_shares_to_within_one_id(passes, fails, others, fraction, seed):
    tickets = [
        *(ticket(f"p{number}", "pass") for number in range(passes)),
        *(ticket(f"f{number}", "fail") for number in range(fails)),
        *(ticket(f"r{number}", "pass", mission=RRU) for number in range(others)),
    ]
    split = split_tickets(tickets, held_out_fraction=fraction, seed=seed)
    held_out = Counter((one.mission, one.label) for one in split.held_out)
    # One more may have been moved for the mission's sake.
    assert abs(held_out[BBU, "pass"] - fraction * passes) < 2
    assert abs(held_out[BBU, "fail"] - fraction * fails) < 2
    assert abs(held_out[RRU, "pass"] - fraction * others) <= 1
    assert abs(len(split.held_out) - fraction * len(tickets)) <= 2.5


def test_shares_of_larger_missions_are_kept_exactly():
    tickets = [ticket(f"{label}{number}", label) for label in ("pass", "fail") for number in range(50)]
    tickets += [ticket(f"r{number}", "fail", mission=RRU) for number in range(20)]
    split = split_tickets(tickets, held_out_fraction=0.2, seed=42)
    assert Counter((one.mission, one.label) for one in split.held_out) == {
        (BBU, "pass"): 10,
        (BBU, "fail"): 10,
        (RRU, "fail"): 4,
    }


def test_a_resubmission_stays_together_across_labels_and_missions():
    tickets = [
        ticket(str(number), label, mission=mission)
        for number in range(20)
        for label, mission in (("fail", BBU), ("pass", BBU), ("fail", RRU))
    ]
    split = split_tickets(tickets, held_out_fraction=0.25, seed=1)
    assert Counter(one.group_id for one in split.held_out) == dict.fromkeys(ids(split.held_out), 3)
    assert len(ids(split.held_out)) == 5


@pytest.mark.parametrize("fraction", [0.1, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("seed", range(10))
def test_a_mission_gets_its_second_side_without_taking_another_missions(fraction, seed):
    tickets = [ticket(group_id, mission=BBU) for group_id in ("both", "bbu")]
    tickets += [ticket(group_id, mission=RRU) for group_id in ("both", "rru")]
    split = split_tickets(tickets, held_out_fraction=fraction, seed=seed)
    for side in (split.train, split.held_out):
        assert {one.mission for one in side} == {BBU, RRU}


def test_an_id_may_leave_a_mission_that_has_no_other():
    tickets = [ticket("1", mission=BBU), ticket("1", mission=RRU)]
    tickets += [ticket("2", mission=BBU), ticket("2", mission=CABLES)]
    split = split_tickets(tickets, held_out_fraction=0.1, seed=42)
    assert len(ids(split.train)) == len(ids(split.held_out)) == 1


@pytest.mark.parametrize(
    ("count", "fraction", "held_out"), [(7, 0.2, 1), (8, 0.2, 2), (5, 0.5, 3), (3, 0.01, 1), (3, 0.99, 2)]
)
def test_the_share_is_rounded_and_both_sides_have_some(count, fraction, held_out):
    tickets = [ticket(str(number)) for number in range(count)]
    split = split_tickets(tickets, held_out_fraction=fraction, seed=42)
    assert len(split.held_out) == held_out


def test_another_seed_holds_out_other_ids():
    tickets = [ticket(str(number)) for number in range(40)]
    drawn = [
        frozenset(ids(split_tickets(tickets, held_out_fraction=0.25, seed=seed).held_out))
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "tickets",
    [
        [],
        [ticket("1", "pass"), ticket("1", "fail")],
        [ticket("1", mission=BBU), ticket("2", mission=RRU)],
    ],
)
def test_a_side_that_would_be_empty_is_an_error_with_a_remedy(tickets):
    with pytest.raises(InputError, match=r"one side would be empty; give more files, or set grpo\.held_out"):
        split_tickets(tickets, held_out_fraction=0.1, seed=42)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_is_none_is_a_wrong_argument(fraction):
    with pytest.raises(ValueError, match="held_out_fraction must be between 0 and 1"):
        split_tickets([ticket("1"), ticket("2")], held_out_fraction=fraction, seed=42)


@pytest.mark.parametrize(
    ("passes", "fails", "repeats", "most_of_one"),
    [(7, 3, 4, 3), (3, 7, 4, 3), (6, 3, 3, 2), (3, 3, 0, 1), (9, 1, 8, 9), (5, 4, 1, 2)],
)
def test_the_rarer_label_is_repeated_in_whole_rounds_and_a_sample(passes, fails, repeats, most_of_one):
    tickets = [ticket(f"p{number}", "pass") for number in range(passes)]
    tickets += [ticket(f"f{number}", "fail") for number in range(fails)]
    balanced = balance_tickets(tickets, seed=42)
    assert balanced.tickets[: len(tickets)] == tuple(tickets)
    assert balanced.repeats == {BBU: repeats}
    assert len(balanced.tickets) == len(tickets) + repeats == 2 * max(passes, fails)
    times = Counter(balanced.tickets)
    rarer = "pass" if passes < fails else "fail"
    assert {times[one] for one in tickets if one.label != rarer} == {1}
    of_rarer = [times[one] for one in tickets if one.label == rarer]
    assert max(of_rarer) == most_of_one
    assert max(of_rarer) - min(of_rarer) <= 1


def test_each_mission_is_balanced_by_itself_and_one_of_one_label_stays():
    tickets = [ticket("1", "pass"), ticket("2", "pass"), ticket("3", "fail")]
    tickets += [ticket(str(number), "fail", mission=RRU) for number in range(4)]
    balanced = balance_tickets(tickets, seed=42)
    assert balanced.tickets == (*tickets, tickets[2])
    assert balanced.repeats == {BBU: 1}
    assert balanced.one_label == (RRU,)
    assert balanced.sentences() == (
        f"{BBU}: repeats of tickets with the rarer label: 1",
        f"{RRU}: all tickets have one label, and stay as they are",
    )


def test_what_is_repeated_depends_on_the_seed_and_not_on_the_order():
    tickets = [ticket(f"p{number}", "pass") for number in range(30)]
    tickets += [ticket(f"f{number}", "fail") for number in range(20)]
    shuffled = Random(1).sample(tickets, len(tickets))
    repeated = [
        balance_tickets(given, seed=seed).tickets[len(tickets) :]
        for given, seed in ((tickets, 1), (shuffled, 1), (tickets, 2))
    ]
    assert repeated[0] == repeated[1] != repeated[2]
