"""The arithmetic of the roofline gives the figures that were worked out by hand for a 4B model."""

import pytest

from stage_a_pipeline.bench.device_rates import measure_rates
from stage_a_pipeline.bench.roofline import (
    DeviceRates,
    PhotoWork,
    cache_bytes,
    head_weights,
    ideal_seconds,
    layer_weights,
    photo_work,
)
from stage_a_pipeline.bench.shapes import SHAPES
from stage_a_pipeline.bench.workload import PlannedPhoto

H200 = DeviceRates(operations=790e12, bytes=4.3e12)
TEXT = SHAPES["4b"].model.text
WORK = PhotoWork(
    SHAPES["4b"].model, patches=4096, image_tokens=1024, prefix_tokens=600, text_tokens=600, answer_tokens=150
)


def milliseconds(**options):
    phases = ideal_seconds(WORK, H200, **options)
    return [1000 * seconds for seconds in (phases.vision, phases.prefill, phases.decode)]


def test_a_megapixel_photo_on_an_h200_takes_what_was_worked_out_by_hand():
    assert milliseconds(batch_size=32) == pytest.approx([5.5, 10.3, 17.5], rel=0.05)
    assert milliseconds(batch_size=128)[2] == pytest.approx(10.9, rel=0.05)
    assert milliseconds(batch_size=32, prefix_reuse=False)[1] == pytest.approx(15.9, rel=0.05)


def test_all_phases_together_allow_so_many_photos_a_second():
    assert 1 / ideal_seconds(WORK, H200, batch_size=32).total == pytest.approx(30, rel=0.05)
    whole_prompt = ideal_seconds(WORK, H200, batch_size=32, prefix_reuse=False)
    assert 1 / whole_prompt.total == pytest.approx(26, rel=0.05)


def test_weights_and_cache_have_the_size_of_qwen3_vl_4b():
    assert layer_weights(TEXT) + head_weights(TEXT) == pytest.approx(4.02e9, rel=0.01)
    assert cache_bytes(TEXT) == 147_456


def test_a_large_batch_is_bound_by_arithmetic_rather_than_by_memory():
    slow = DeviceRates(operations=1e12, bytes=1e15)
    one, many = (ideal_seconds(WORK, slow, batch_size=rows).decode for rows in (1, 64))
    assert one == pytest.approx(many)
    assert milliseconds(batch_size=1)[2] > 8 * milliseconds(batch_size=32)[2]


def test_the_mean_photo_counts():
    photos = [PlannedPhoto(1, 1, (512, 512), 100), PlannedPhoto(1, 2, (1024, 512), 50)]
    work = photo_work(SHAPES["4b"].model, photos, prefix_tokens=600, text_tokens=630)
    assert (work.patches, work.image_tokens, work.answer_tokens) == (1536, 384, 75)


def test_rates_are_measured_and_read_back():
    rates = measure_rates("cpu", side=128, copied=1 << 20)
    assert rates.operations > 1e6
    assert rates.bytes > 1e8
    assert DeviceRates.parse('noise\n{"operations": 2.0, "bytes": 3.0}\n') == DeviceRates(2.0, 3.0)
