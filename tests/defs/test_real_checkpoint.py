"""The whole chain on rendered photos with the built-in checkpoint: no fake anywhere."""

import json
from pathlib import Path

import pytest

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.evaluation.document import evaluation_paths
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records, validate_file
from stage_a_pipeline.storage import read_bytes
from tests.conftest import BRACKETS
from tests.defs.conftest import materialiser

REAL = {"engine": "refill", "batch_size": 8, "max_new_tokens": 256, "verify_inputs": True}
PER_IMAGE = {"sharding_mode": "per_image"}
PER_GROUP = {"batching_mode": "per_group"}
UNSORTED = {"sort_window": 0}
TWO = {"devices": ["cpu", "cpu"]}
WORKERS = {"worker_processes": True}
"""Seconds of imports for each device: once, since a shard is computed alike in a process of its own."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "photos"
    write_demo_tree(root, missions=[BRACKETS], groups=8, seed=77, broken=1)
    return root


@pytest.fixture(scope="module")
def reference(tmp_path_factory, root):
    """The folder of an undisturbed run on one device, and what Dagster says of it."""
    folder = tmp_path_factory.mktemp("reference")
    workbook = {"workbook": str(root / "reviews.xlsx")}
    return folder, materialiser(folder)(root, BRACKETS, engine=REAL, fail_reasons=workbook)


def test_rendered_photos_become_a_valid_file(reference):
    folder, result = reference
    assert result.success
    paths = output_paths(folder / "out", BRACKETS)
    assert not validate_file(paths.jsonl).errors
    counts = read_manifest(paths.manifest).counts
    assert counts.discovered == counts.written + counts.rejected
    assert counts.rejected == 1, "the broken photo costs its group and no other"
    records = list(read_records(paths.jsonl))
    assert all(defect(clean_summary(text)) is None for record in records for text in record.summaries)
    summaries = [text for record in records for text in record.summaries if text.startswith("{")]
    assert all(json.loads(text)["统计"] for text in summaries)
    assert len(set(summaries)) > len(summaries) / 2, "answers follow the photos"
    assert any(record.fail_reasons for record in records if record.label == "fail")


@pytest.mark.parametrize(
    ("engine", "inference", "finished_before"),
    [
        ({"engine": "transformers"}, {}, 0.0),
        ({"batch_size": 1}, {}, 0.0),
        ({"batch_size": 3}, UNSORTED, 0.6),
        ({"batch_size": 8, "max_batch_tokens": 700}, {"sort_window": 5}, 0.0),
        ({"batch_size": 8, "max_batch_pixels": 120_000}, UNSORTED, 0.3),
        ({"batch_size": 16}, {}, 0.3),
        ({"batch_size": 32}, {}, 0.0),
        ({"batch_size": 1}, PER_GROUP, 0.9),
        ({"batch_size": 3}, PER_GROUP, 0.0),
        ({"batch_size": 32}, PER_GROUP, 0.3),
        ({"batch_size": 16, **TWO}, {}, 0.0),
        ({"batch_size": 3, **TWO}, PER_IMAGE, 0.0),
        ({"batch_size": 32, **TWO}, PER_IMAGE | WORKERS, 0.6),
        ({"batch_size": 3, "devices": ["cpu"] * 3}, PER_GROUP, 0.3),
    ],
)
def test_engine_batches_modes_order_devices_and_resume_point_never_change_the_bytes(
    tmp_path, reference, root, engine, inference, finished_before
):
    folder, _ = reference
    if finished_before:
        journal = Path("out", "work", "journal", BRACKETS, "cpu.jsonl")
        lines = (folder / journal).read_bytes()
        (tmp_path / journal).parent.mkdir(parents=True)
        # Cut where a killed run may have left it: seldom at the end of a line.
        (tmp_path / journal).write_bytes(lines[: int(len(lines) * finished_before)])
    result = materialiser(tmp_path)(
        root,
        BRACKETS,
        engine=REAL | engine,
        inference=inference,
        fail_reasons={"workbook": str(root / "reviews.xlsx")},
    )
    files = [
        [path.read_bytes() for path in (paths.jsonl, paths.rejected)]
        for paths in (output_paths(place / "out", BRACKETS) for place in (folder, tmp_path))
    ]
    assert files[0] == files[1]
    metadata = result.asset_materializations_for_node("stage_a_summaries.merge_shards")[0].metadata
    share_reused = metadata["reused"].value / metadata["photos"].value
    assert share_reused == pytest.approx(finished_before, abs=0.15)


def test_photos_workbook_truth_and_results_in_s3_give_the_same_bytes(tmp_path, reference, root, store):
    folder, _ = reference
    store.put_tree(root, "in")
    result = materialiser(tmp_path)(
        store.place("in"),
        BRACKETS,
        engine=REAL,
        fail_reasons={"workbook": f"{store.url}/in/reviews.xlsx"},
        output={"output_dir": f"{store.url}/out", "local_work_dir": str(tmp_path / "work")},
    )
    here, there = output_paths(folder / "out", BRACKETS), output_paths(store.place("out"), BRACKETS)
    assert read_bytes(there.jsonl) == here.jsonl.read_bytes()
    told = here.rejected.read_bytes().replace(str(root).encode(), f"{store.url}/in".encode())
    assert read_bytes(there.rejected) == told
    scores = []
    for root_given, out in ((root, folder / "out"), (store.place("in"), store.place("out"))):
        score = json.loads(read_bytes(evaluation_paths(out, BRACKETS).document))
        assert (score.pop("root"), score.pop("truth")) == (str(root_given), f"{root_given}/truth.jsonl")
        del score["rejected"]
        scores.append(score)
    assert scores[0] == scores[1]
    delivered = result.asset_materializations_for_node("stage_a_jsonl")[0].metadata
    assert delivered["jsonl"].value == str(there.jsonl)
    groups = result.asset_materializations_for_node("image_groups")[0].metadata
    assert "data:image/jpeg;base64" in groups["preview"].value
    assert "(unreadable)" not in groups["preview"].value
