"""The whole chain on rendered photos with the built-in checkpoint: no fake anywhere."""

import json

import pytest

from stage_a_pipeline.cleaning import clean_summary, defect
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records, validate_file
from tests.conftest import BRACKETS

REAL = {"engine": "refill", "batch_size": 8, "max_new_tokens": 256, "verify_inputs": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("rendered") / "photos"
    write_demo_tree(root, missions=[BRACKETS], groups=8, seed=77, broken=1)
    return root


@pytest.fixture
def result(tmp_path, materialise, root):
    return materialise(root, BRACKETS, engine=REAL, fail_reasons={"workbook": str(root / "reviews.xlsx")})


def test_rendered_photos_become_a_valid_file(tmp_path, result, root):
    assert result.success
    paths = output_paths(tmp_path / "out", BRACKETS)
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
    "variant",
    [
        {"engine": {"engine": "transformers"}},
        {"engine": {"batch_size": 1}},
        {"engine": {"batch_size": 3}},
        {"engine": {"batch_size": 16}},
        {"inference": {"batching_mode": "per_group"}},
        {"engine": {"devices": ["cpu", "cpu"]}, "inference": {"sharding_mode": "per_image"}},
    ],
)
def test_greedy_output_is_the_same_for_every_engine_batch_size_and_mode(
    tmp_path, materialise, result, root, variant
):
    expected = output_paths(tmp_path / "out", BRACKETS).jsonl.read_bytes()
    materialise(
        root,
        BRACKETS,
        engine=REAL | variant.get("engine", {}),
        inference=variant.get("inference", {}),
        fail_reasons={"workbook": str(root / "reviews.xlsx")},
        output={"output_dir": str(tmp_path / "variant")},
    )
    assert output_paths(tmp_path / "variant", BRACKETS).jsonl.read_bytes() == expected
