"""What a delivered photo is, and what its summary says."""

import pytest

from stage_a_pipeline.exports.delivered import find_deliveries
from stage_a_pipeline.exports.photo_places import find_photos
from stage_a_pipeline.exports.photos import (
    DeliveredPhoto,
    PartCount,
    Said,
    ValueCount,
    delivered_photos,
    said_by,
)
from tests.conftest import MISSION
from tests.exports.conftest import HOSTILE, ODD, RRU, SCRIPT, STATISTICS, Workplace


def photos_of(workplace: Workplace, *, with_rejected: bool = False) -> list[DeliveredPhoto]:
    deliveries = find_deliveries(workplace.settings)
    found = [(delivery, find_photos(delivery, workplace.settings)) for delivery in deliveries]
    return list(delivered_photos(found, with_rejected=with_rejected))


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ("无关图片", Said("irrelevant")),
        ("一台华为BBU", Said("text")),
        (SCRIPT, Said("text")),
        ('{"统计": []}', Said("text")),
        (
            STATISTICS,
            Said(
                "statistics",
                ("BBU设备", "标签"),
                (
                    ValueCount("BBU设备", "品牌", "华为", 2),
                    ValueCount("BBU设备", "品牌", "中兴", 1),
                    ValueCount("标签", "文本", "5G<script>", 1),
                ),
                (PartCount("1", "标签", 1),),
                ("无法判断",),
            ),
        ),
        ('{"统计": [{"类别": "a.b"}]}', Said("statistics", ("a.b",))),
    ],
)
def test_a_summary_says(summary, said):
    assert said_by(summary) == said


def test_photos_come_in_the_order_of_the_files_with_their_group(hostile):
    photos = photos_of(hostile)
    assert [(photo.mission, photo.group_number, photo.image_index) for photo in photos] == [
        (RRU, 0, 1),
        (RRU, 1, 1),
        *((ODD, 2, index) for index in range(1, len(HOSTILE) + 1)),
        (ODD, 3, 1),
        (ODD, 3, 2),
    ]
    assert {photo.model for photo in photos} == {"站 4b-ffffffffffff"}
    assert {photo.fail_reasons for photo in photos if photo.mission == ODD} == {("螺丝 <松动>", "b"), None}


def test_rejected_photos_come_after_their_mission_without_a_summary(hostile):
    (rejected,) = [photo for photo in photos_of(hostile, with_rejected=True) if photo.summary is None]
    assert (rejected.group_id, rejected.image, rejected.rejected_reason) == ("broken", "1.jpg", "truncated")
    assert rejected.path == f"{RRU}/审核通过/broken/1.jpg"
    assert rejected.group_number == 2


def test_two_groups_of_one_id_are_told_apart_by_their_order(hostile):
    first, second = (photo.path for photo in photos_of(hostile)[:2])
    assert first == f"{RRU}/审核不通过/first/QC-RRU-20241028-0000002_1.jpg"
    assert second == f"{RRU}/审核不通过/second/QC-RRU-20241028-0000002_1.jpg"


def test_of_two_equal_groups_none_is_taken_where_one_was_sampled_out(tmp_path):
    place = Workplace(tmp_path)
    for folder in ("first", "second"):
        place.add_group(RRU, "fail", folder, ["QC-RRU-20241028-0000002_1.jpg"])
    place.deliver(RRU, sampled_out=["first"])
    (photo,) = photos_of(place)
    assert (photo.place, photo.path) == (None, None)


def test_photos_that_were_removed_are_gone_and_the_others_are_not(plain):
    (plain.root / MISSION / "审核不通过" / "g1" / "1.jpg").unlink()
    assert [photo.path and photo.path[-8:] for photo in photos_of(plain)] == [None, "g1/2.jpg", "g2/1.jpg"]


@pytest.mark.parametrize("change", ["no root", "no folder"])
def test_without_a_root_or_the_mission_s_folder_all_photos_are_gone(plain, change):
    if change == "no root":
        plain.overrides["discovery"] = {"input_root": None}
    else:
        (plain.root / MISSION).rename(plain.root / "elsewhere")
    assert {photo.path for photo in photos_of(plain)} == {None}


def test_a_name_that_is_not_utf8_is_spelled_out(tmp_path):
    place = Workplace(tmp_path)
    place.add_group(MISSION, "pass", "g1", ["1.jpg"])
    place.add_group(MISSION, "pass", "g2", ["1.jpg"])
    place.deliver(MISSION, rejected=["g2"])
    path = place.base / "out" / f"{MISSION}_stage_a.rejected.jsonl"
    text = path.read_text("utf-8").replace('"image": "1.jpg"', r'"image": "\udcff.jpg"')
    path.write_text(text, "utf-8")
    mend_manifest(place)
    assert photos_of(place, with_rejected=True)[-1].image == r"\udcff.jpg"


def mend_manifest(place: Workplace) -> None:
    """Let the manifest describe the rejected lines as they are now."""
    import hashlib
    import json

    manifest = place.base / "out" / f"{MISSION}_stage_a.manifest.json"
    rejected = place.base / "out" / f"{MISSION}_stage_a.rejected.jsonl"
    document = json.loads(manifest.read_bytes())
    document["files"][rejected.name]["sha256"] = hashlib.sha256(rejected.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(document), "utf-8")
