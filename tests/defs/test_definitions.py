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
BESIDE = ["stage_a_report", "stage_a_evaluation"]
REASSEMBLY = ["reassembled_object", "model_comparison"]
STAGE_B = ["stage_b_dataset", "stage_b_adapter", "stage_b_evaluation"]


def test_definitions_load_and_validate():
    dg.Definitions.validate_loadable(defs)


def test_the_assets_and_their_order():
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *CHAIN, *STAGE_B, *REASSEMBLY, "fail_reasons", *BESIDE,
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
    for key in (*CHAIN, *BESIDE):
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


def test_sensors_and_schedules_are_off_unless_the_settings_say_otherwise():
    """All but the one that writes down failures."""
    sensors = {sensor.name: sensor.default_status.value for sensor in defs.sensors}
    assert sensors == {
        "new_or_changed_groups": "STOPPED",
        "automation_conditions": "STOPPED",
        "new_data_sets": "STOPPED",
        "incidents": "RUNNING",
    }
    assert {schedule.name: schedule.default_status.value for schedule in defs.schedules} == {
        "nightly": "STOPPED"
    }


def test_the_missions_job_trains_nothing_and_nothing_trains_by_itself():
    jobs = {
        name: {key.to_user_string() for key in defs.resolve_job_def(name).asset_layer.executable_asset_keys}
        for name in ("stage_a_mission", "stage_a_all", "stage_b", "reassembly")
    }
    assert jobs == {
        "stage_a_mission": {*CHAIN, "fail_reasons", *BESIDE},
        "stage_a_all": {*CHAIN, "fail_reasons", *BESIDE},
        "stage_b": set(STAGE_B),
        "reassembly": set(REASSEMBLY),
    }
    graph = defs.resolve_asset_graph()
    by_themselves = [key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition]
    assert {key.to_user_string() for key in by_themselves} == {*CHAIN[1:], *BESIDE}


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


def test_every_page_says_what_it_holds_where_it_lies_and_what_to_do():
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        for said in ("**Where:** `", "**When it fails:**"):
            assert said in (node.description or ""), key
        assert node.owners == ["team:quality"]
        assert node.kinds
        assert {"domain", "step"} <= set(node.tags)
        assert node.code_version
        assert node.group_name == node.tags["domain"]


def test_pages_of_tables_and_of_the_delivered_file_list_their_columns():
    graph = defs.resolve_asset_graph()
    for key in (*CHAIN, "fail_reasons"):
        schema = schema_of(graph, key)
        assert all(column.name and column.type for column in schema.columns), key
    written = ["group_id", "mission", "label", "images", "per_image"]
    assert [column.name for column in schema_of(graph, "stage_a_jsonl").columns][:5] == written


def schema_of(graph, name):
    return graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
