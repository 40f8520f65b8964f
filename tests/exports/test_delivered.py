"""Only what was delivered as a whole is exported, and every error names the file and the remedy."""

import pytest

from stage_a_pipeline.errors import ConfigurationError, InputError
from stage_a_pipeline.exports.delivered import find_deliveries
from tests.conftest import MISSION
from tests.exports.conftest import ODD, RRU, Workplace


def test_all_delivered_missions_are_found_or_those_that_are_named(hostile):
    assert [found.mission.name for found in find_deliveries(hostile.settings)] == [RRU, ODD]
    assert [found.mission.name for found in find_deliveries(hostile.settings, [ODD])] == [ODD]


def test_nothing_delivered_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match=r"no mission was delivered to .*/out; run one first \(stage-a mat"):
        find_deliveries(Workplace(tmp_path).settings)


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        (MISSION, InputError, "was not delivered"),
        ("nothing", ConfigurationError, "unknown mission 'nothing'"),
    ],
)
def test_a_named_mission_must_have_been_delivered(hostile, name, error, told):
    with pytest.raises(error, match=told):
        find_deliveries(hostile.settings, [RRU, name])


def test_a_file_that_is_not_the_manifest_s_is_refused(plain):
    with (plain.base / "out" / f"{MISSION}_stage_a.jsonl").open("ab") as file:
        file.write(b"\n")
    (delivery,) = find_deliveries(plain.settings)
    with pytest.raises(InputError, match="is not the file that the manifest beside it describes"):
        list(delivery.records())


def test_a_file_that_is_replaced_while_it_is_read_is_refused(plain):
    (delivery,) = find_deliveries(plain.settings)
    records = delivery.records()
    next(records)
    plain.deliver(MISSION, ["无关图片"])
    with pytest.raises(InputError, match="a later run failed or is under way"):
        list(records)


def test_rejected_lines_of_a_later_failed_run_are_refused(plain):
    (plain.base / "out" / f"{MISSION}_stage_a.rejected.jsonl").write_bytes(b"{}\n")
    (delivery,) = find_deliveries(plain.settings)
    assert len(list(delivery.records())) == 2
    with pytest.raises(InputError, match=r"rejected\.jsonl is not the file"):
        list(delivery.rejections())


def test_the_model_is_named_without_the_path_of_a_machine(plain):
    (delivery,) = find_deliveries(plain.settings)
    assert delivery.model == "站 4b-ffffffffffff"
