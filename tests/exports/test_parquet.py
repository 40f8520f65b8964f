"""The two Parquet files, opened by pyarrow and pandas."""

import datasets
import pandas as pd
import pyarrow.parquet as pq
import pytest

from stage_a_pipeline.exports import table_writer
from tests.exports.conftest import HOSTILE, ODD, RRU, SCRIPT, STATISTICS


@pytest.fixture(scope="module")
def folder(hostile):
    return hostile.exported("parquet", "--with-rejected", to="parquet")


def test_a_row_per_photo_says_where_it_belongs_and_what_it_shows(folder):
    rows = pq.read_table(folder / "photos.parquet").to_pylist()
    assert len(rows) == 2 + len(HOSTILE) + 2 + 1
    names = [row["image"] for row in rows if row["group_id"].startswith("g <b>")]
    assert sorted(names) == sorted(HOSTILE)
    (first,) = [
        row for row in rows if row["mission"] == ODD and row["group_number"] == 3 and row["image_index"] == 1
    ]
    assert first == {
        "mission": ODD,
        "dataset": "bbu",
        "group_number": 3,
        "group_id": 'g <b>"&..',
        "label": "fail",
        "image": first["image"],
        "image_index": 1,
        "image_count": len(HOSTILE),
        "summary": STATISTICS,
        "kind": "statistics",
        "categories": ["BBU设备", "标签"],
        "attributes": [
            {"category": "BBU设备", "attribute": "品牌", "value": "华为", "count": 2},
            {"category": "BBU设备", "attribute": "品牌", "value": "中兴", "count": 1},
            {"category": "标签", "attribute": "文本", "value": "5G<script>", "count": 1},
        ],
        "parts": [{"part": "1", "category": "标签", "count": 1}],
        "remarks": ["无法判断"],
        "fail_reasons": ["螺丝 <松动>", "b"],
        "rejected_stage": None,
        "rejected_reason": None,
        "model": "站 4b-ffffffffffff",
        "path": f'{ODD}/审核不通过/g <b>"&../{first["image"]}',
    }
    assert rows[3]["summary"] in (STATISTICS, SCRIPT)


def test_every_column_is_described(folder):
    for name in ("photos.parquet", "groups.parquet"):
        for column in pq.read_schema(folder / name):
            assert column.metadata[b"description"].strip(), column.name


def test_a_row_per_written_group_repeats_names_and_summaries_in_order(folder):
    groups = pd.read_parquet(folder / "groups.parquet")
    assert list(groups["group_number"]) == [0, 1, 3, 4]
    assert list(groups["mission"]) == [RRU, RRU, ODD, ODD]
    assert [len(names) for names in groups["images"]] == [1, 1, len(HOSTILE), 2]
    assert [len(texts) for texts in groups["summaries"]] == [1, 1, len(HOSTILE), 2]


def test_photos_and_groups_are_joined_by_number(folder):
    photos, groups = (pd.read_parquet(folder / f"{name}.parquet") for name in ("photos", "groups"))
    both = photos.merge(groups, on="group_number")
    assert (both["group_id_x"] == both["group_id_y"]).all()
    assert len(both) == len(photos) - 1


def test_embedded_photos_are_the_files_byte_for_byte(hostile, monkeypatch):
    # Each row group ends with the photo that fills it.
    monkeypatch.setattr(table_writer, "_MAX_BYTES", 1)
    folder = hostile.exported("parquet", "--images", "embed", to="parquet-embed")
    with pq.ParquetFile(folder / "photos.parquet") as parquet:
        assert parquet.num_row_groups == 11
        rows = parquet.read().to_pylist()
    for row in rows:
        assert row["photo"] == {"bytes": (hostile.root / row["path"]).read_bytes(), "path": row["image"]}


def test_photos_that_are_gone_keep_their_rows_and_are_counted(plain):
    (plain.root / "挡风板安装检查" / "审核不通过" / "g1" / "1.jpg").unlink()
    done = plain.export("parquet", "--images", "embed")
    assert "3 photos of 2 groups of 1 missions" in done.output
    assert (
        "the files of 1 photos are gone or cannot be read, the first of them 挡风板安装检查/g1 (fail)/1.jpg"
        in (done.output)
    )
    rows = pq.read_table(plain.base / "export" / "photos.parquet").to_pylist()
    assert [(row["path"] is None, row["photo"] is None) for row in rows] == [(True, True)] + [
        (False, False)
    ] * 2


def test_the_same_delivery_gives_the_same_bytes(hostile, folder):
    again = hostile.exported("parquet", "--with-rejected", to="parquet-again")
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_embedded_photos_are_pictures_for_datasets_without_a_card(plain, tmp_path):
    files = str(plain.exported("parquet", "--images", "embed") / "photos.parquet")
    rows = datasets.load_dataset(
        "parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert rows[0]["photo"].size == (96, 64)
