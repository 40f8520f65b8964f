"""Trainings on CUDA: bf16 on one GPU, and one process each on two."""

import pytest
import torch

from stage_a_pipeline.stage_b.run_folder import read_record
from tests.stage_b.trained import STEPS, make_place

ON_GPUS = [
    pytest.param(
        count,
        marks=pytest.mark.skipif(torch.cuda.device_count() < count, reason=f"{count} CUDA devices needed"),
    )
    for count in (1, 2)
]


@pytest.mark.gpu
@pytest.mark.parametrize("count", ON_GPUS)
def test_a_training_in_bf16_leaves_the_checkpoint_s_own_weights_alone(tmp_path, count):
    place = make_place(tmp_path / "place")
    place.configure(engine={"devices": [f"cuda:{number}" for number in range(count)]})
    ended = place.grpo("train")
    assert ended.code == 0, ended.output
    record = read_record(place.adapter)
    assert record["frozen_before"] == record["frozen_after"]
    assert [line["step"] for line in place.metrics()] == list(range(1, STEPS + 1))
    judged = place.grpo("evaluate")
    assert judged.code == 0, judged.output
