import itertools

import dagster as dg

from stage_a_pipeline.definitions import defs
from stage_a_pipeline.missions import load_missions

CHAIN = [
    "image_groups",
    "sampled_groups",
    "stage_a_summaries",
    "clean_summaries",
    "enriched_records",
    "stage_a_jsonl",
]
REASSEMBLY = ["reassembled_object", "model_comparison"]
STAGE_B = ["stage_b_dataset", "stage_b_adapter", "stage_b_evaluation"]


def test_definitions_load_and_validate():
    dg.Definitions.validate_loadable(defs)


def test_the_assets_and_their_order():
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *CHAIN, *STAGE_B, *REASSEMBLY, "fail_reasons", "stage_a_evaluation",
    }  # fmt: skip
    for upstream, downstream in itertools.pairwise([*CHAIN, *STAGE_B]):
        assert dg.AssetKey(upstream) in graph.get(dg.AssetKey(downstream)).parent_keys
    assert graph.get(dg.AssetKey("model_comparison")).parent_keys == {dg.AssetKey("reassembled_object")}
    assert dg.AssetKey("fail_reasons") in graph.get(dg.AssetKey("enriched_records")).parent_keys
    assert graph.get(dg.AssetKey("stage_a_evaluation")).parent_keys == {
        dg.AssetKey("sampled_groups"),
        dg.AssetKey("clean_summaries"),
    }


def test_missions_are_the_partitions():
    graph = defs.resolve_asset_graph()
    for key in (*CHAIN, "stage_a_evaluation"):
        partitions = graph.get(dg.AssetKey(key)).partitions_def
        assert partitions is not None
        assert partitions.get_partition_keys() == list(load_missions())
    for key in ("fail_reasons", *STAGE_B):
        assert graph.get(dg.AssetKey(key)).partitions_def is None


def test_data_sets_are_partitions_that_come_and_go():
    graph = defs.resolve_asset_graph()
    for key in REASSEMBLY:
        partitions = graph.get(dg.AssetKey(key)).partitions_def
        assert isinstance(partitions, dg.DynamicPartitionsDefinition)
        assert partitions.name == "data_sets"
    assert [sensor.name for sensor in defs.sensors] == ["new_data_sets"]


def test_the_missions_job_trains_nothing_and_nothing_trains_by_itself():
    jobs = {
        name: {key.to_user_string() for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys}
        for name in ("stage_a_mission", "stage_b", "reassembly")
    }
    assert jobs == {
        "stage_a_mission": {*CHAIN, "fail_reasons", "stage_a_evaluation"},
        "stage_b": set(STAGE_B),
        "reassembly": set(REASSEMBLY),
    }
    graph = defs.resolve_asset_graph()
    assert not any(graph.get(key).automation_condition for key in graph.get_all_asset_keys())


def test_contract_checks_block_and_warnings_do_not():
    graph = defs.resolve_asset_graph()
    blocking = {
        key.name: graph.get_check_spec(key).blocking if hasattr(graph, "get_check_spec") else None
        for key in graph.asset_check_keys
    }
    assert {name for name, blocks in blocking.items() if blocks} == {
        "every_photo_has_one_outcome",
        "records_cover_their_images",
        "jsonl_keeps_the_contract",
        "counts_agree",
        "frozen_weights_unchanged",
        "values_are_finite",
        "objects_fit_their_plans",
    }
    assert {name for name, blocks in blocking.items() if not blocks} == {
        "no_duplicate_tickets", "labels_are_balanced", "few_groups_are_rejected", "fail_reasons_match",
        "answers_are_valid", "answers_match_exactly", "attributes_are_told", "weakest_attribute_is_told",
        "irrelevant_photos_are_told", "both_labels_are_there", "labels_do_not_contradict",
        "verdicts_have_their_form", "accuracy_not_below_the_start", "stage_a_quality_kept",
        "patches_cover_the_scan",
    }  # fmt: skip


def test_every_asset_says_what_it_is():
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert (graph.get(key).description or "").strip(), key
