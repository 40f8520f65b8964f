"""What a training has written, read while it runs, after a kill, and damaged."""

import json

import pytest

from stage_a_pipeline.errors import InputError
from stage_a_pipeline.stage_b.metrics_file import StepMetrics, read_metrics


def line(step, **more):
    return json.dumps({"step": step, "reward": step / 10, **more}) + "\n"


@pytest.fixture
def written(tmp_path):
    def read(text):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_metrics(path)

    return read


def test_rewards_are_by_component_and_other_numbers_by_name(written):
    row = {"rewards/label/mean": 0.5, "rewards/label/std": 0.1, "rewards/format/mean": 1, "loss": -0.02}
    (step,) = written(line(3, **row))
    assert step == StepMetrics(
        3, 0.3, {"label": 0.5, "format": 1.0}, {"rewards/label/std": 0.1, "loss": -0.02}
    )


def test_an_empty_file_has_no_steps(written):
    assert written("") == ()


@pytest.mark.parametrize("end", ['{"step": 3, "rew', '{"step": 3}', b'{"step": 3, "a": "\xe9\x80', "{"])
def test_a_torn_last_line_is_left_out(written, end):
    text = (line(1) + line(2)).encode() + (end if isinstance(end, bytes) else end.encode())
    assert [step.step for step in written(text)] == [1, 2]


def test_a_last_line_that_only_lacks_its_end_counts(written):
    assert [step.step for step in written(line(1) + line(2).rstrip())] == [1, 2]


def test_a_training_that_went_back_to_its_checkpoint_replaces_what_it_did_before(written):
    first = "".join(line(step, run=1) for step in (1, 2, 3, 4))
    second = "".join(line(step, run=2) for step in (3,))
    steps = written(first + second)
    assert [(step.step, step.others["run"]) for step in steps] == [(1, 1), (2, 1), (3, 2)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_numbers_that_could_not_be_measured_are_left_out(written, value):
    (step,) = written(line(1, kl=value, **{"rewards/label/mean": value}))
    assert (dict(step.components), dict(step.others)) == ({}, {})


DAMAGE = [
    ('{"step": 1, "rew\n', "is not valid JSON"),
    ("\n", "is a blank line"),
    ("[]\n", "must be a JSON object"),
    ('{"reward": 1}\n', "step: must be a whole number from 0 on, not None"),
    ('{"step": true, "reward": 1}\n', "step: must be a whole number"),
    ('{"step": -1, "reward": 1}\n', "step: must be a whole number"),
    ('{"step": 1}\n', "reward: must be a number, not None"),
    ('{"step": 1, "reward": NaN}\n', "reward: must be a number, not nan"),
    ('{"step": 1, "reward": 1, "loss": "low"}\n', "loss: must be a number, not 'low'"),
    ('{"step": 1, "reward": 1, "loss": true}\n', "loss: must be a number, not True"),
    ('{"step": 1, "reward": 1, "loss": 1' + "0" * 400 + "}\n", "loss: is a number too large"),
    ('{"step": 1, "step": 2, "reward": 1}\n', "stands in one object twice"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_other_damage_is_told_with_file_and_line(written, damage, message):
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2: .*remove that line") as error:
        written(line(1) + damage + line(2))
    assert message in str(error.value)


def test_a_missing_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"metrics .*none\.jsonl cannot be read: .*train first"):
        read_metrics(tmp_path / "none.jsonl")
