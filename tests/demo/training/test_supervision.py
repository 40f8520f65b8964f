"""The truth per cell of the picture."""

import pytest

from stage_a_pipeline.demo.rendering.viewpoint import Viewpoint
from stage_a_pipeline.demo.scenes import Scene, SceneObject
from stage_a_pipeline.demo.training.supervision import all_states, cell_truth, channel_count, rival_states

STATES = all_states()
FRONTAL = Viewpoint(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))


@pytest.fixture(autouse=True)
def seen_from_the_front(monkeypatch):
    monkeypatch.setattr(Viewpoint, "of", lambda scene: FRONTAL)


def test_an_object_covers_its_cells_and_has_one_centre():
    wire = SceneObject("电线", {"捆扎": "散乱"}, (0.25, 0.5, 0.75, 1.0))
    truth = cell_truth(Scene("bbu", 1, (wire,)), columns=8, rows=6)
    covered = STATES["电线", "捆扎", "散乱"]
    assert truth.shape == (6, 8, channel_count())
    assert truth[..., covered].nonzero()[0].tolist() == [3] * 4 + [4] * 4 + [5] * 4
    assert truth[..., covered].nonzero()[1].tolist() == [2, 3, 4, 5] * 3
    assert list(zip(*truth[..., len(STATES) + covered].nonzero(), strict=True)) == [(4, 4)]
    assert truth.sum() == 13


def test_an_object_that_is_cut_covers_the_cells_in_view():
    plug = SceneObject("BBU端光纤插头", {"可见性": "部分", "符合性": "符合"}, (-0.25, 0.0, 0.25, 0.5))
    truth = cell_truth(Scene("bbu", 1, (plug,)), columns=8, rows=6)
    for state in (("BBU端光纤插头", "可见性", "部分"), ("BBU端光纤插头", "符合性", "符合")):
        assert sorted(set(truth[..., STATES[state]].nonzero()[1].tolist())) == [0, 1]


def test_a_remark_covers_the_whole_photo():
    truth = cell_truth(Scene("bbu", 1, remarks=("光线昏暗",)), columns=3, rows=2)
    assert truth[..., STATES["备注", "", "光线昏暗"]].all()
    assert truth.sum() == 6


def test_rivals_are_the_values_of_one_attribute():
    names = {number: state for state, number in STATES.items()}
    rivals = [[names[number] for number in numbers] for numbers in rival_states()]
    assert all(len({state[:2] for state in states}) == 1 and len(states) > 1 for states in rivals)
    assert [("电线", "捆扎", "整齐"), ("电线", "捆扎", "散乱")] in rivals
    shown = {state for state in STATES if state[1] and sum(other[:2] == state[:2] for other in STATES) > 1}
    assert {state for states in rivals for state in states} == shown
