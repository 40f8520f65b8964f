"""Which positions are drawn, and which of them are kept."""

import numpy as np
import pytest

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.selection import Selection, chosen_rows


def test_nothing_asked_is_everything():
    assert Selection().rows(5, source="x").all()
    assert not Selection().asked


def test_a_draw_is_that_of_its_seed_and_without_repeats():
    rows = Selection(subsample=10, seed=3).rows(100, source="x")
    drawn = np.random.default_rng(3).choice(100, 10, replace=False)
    assert np.flatnonzero(rows).tolist() == sorted(drawn)


def test_the_first_of_the_drawn_are_kept():
    drawn = np.flatnonzero(Selection(subsample=10, seed=3).rows(100, source="x"))
    kept = np.flatnonzero(Selection(subsample=10, groups=4, seed=3).rows(100, source="x"))
    assert kept.tolist() == drawn[:4].tolist()
    assert np.flatnonzero(Selection(groups=4).rows(100, source="x")).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_rows_are_chosen_whatever_the_batches(size):
    rows = Selection(subsample=9, seed=1).rows(20, source="x")
    whole = np.arange(20)
    batches = [whole[first : first + size] for first in range(0, 20, size)]
    found = list(chosen_rows(batches, rows))
    assert np.concatenate(found).tolist() == np.flatnonzero(rows).tolist()
    assert all(len(batch) for batch in found)


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        (
            Selection(subsample=6),
            "--n-test-subsample 6: scan.npz has 5 positions to choose from; ask for 1 to 5",
        ),
        (Selection(groups=6), "--n-test-groups 6: scan.npz has 5 positions"),
        (Selection(subsample=3, groups=4), "--n-test-groups 4: scan.npz has 3 positions"),
        (Selection(subsample=0), "--n-test-subsample 0"),
    ],
)
def test_more_than_there_are_is_told_with_the_flag(selection, told):
    with pytest.raises(ReassemblyError, match=told):
        selection.rows(5, source="scan.npz")
