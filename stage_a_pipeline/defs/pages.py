"""What the page of each asset says: what it holds, where its file lies, what to do when it fails."""

from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, Final

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.column_schemas import JSONL_COLUMNS, column_schema
from stage_a_pipeline.defs.partitions import SETTINGS_AT_LOAD
from stage_a_pipeline.table_schemas import FAIL_REASONS, GROUPS, OUTCOMES, RECORDS

STAGE_A, EVALUATION, STAGE_B, REASSEMBLY = "stage_a", "evaluation", "stage_b", "reassembly"
_OUTPUT: Final = SETTINGS_AT_LOAD.output
_TABLES: Final = _OUTPUT.work_dir / "tables"


@dataclass(frozen=True, slots=True)
class Page:
    """The page of one asset. `kinds` are at most three; `columns` are those of its file."""

    group: str
    text: str
    kinds: frozenset[str]
    tags: dict[str, str]
    columns: dg.TableSchema | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


def page(name: str, *, code_version: str = "1") -> dict[str, Any]:
    """The arguments of an asset's decorator that fill its page, with the owners of the settings."""
    told = PAGES[name]
    columns = {} if told.columns is None else {"dagster/column_schema": told.columns}
    return {
        "description": told.text,
        "group_name": told.group,
        "kinds": set(told.kinds),
        "tags": told.tags,
        "owners": list(SETTINGS_AT_LOAD.automation.owners),
        "code_version": code_version,
        "metadata": {**columns, **told.metadata},
    }


def _page(
    group: str,
    step: str,
    kinds: set[str],
    text: str,
    *,
    lies: str,
    schema: pa.Schema | dg.TableSchema | None = None,
) -> Page:
    columns = column_schema(schema) if isinstance(schema, pa.Schema) else schema
    return Page(
        group=group,
        text=dedent(text).strip() + f"\n\n**Where:** `{lies}`",
        kinds=frozenset(kinds),
        tags={"domain": group, "step": step},
        columns=columns,
        metadata={"where": dg.MetadataValue.path(lies)},
    )


def _table(name: str, *, of_missions: bool = True) -> str:
    return str(_TABLES / name / "<mission>.parquet" if of_missions else _TABLES / f"{name}.parquet")


def _delivered(suffix: str) -> str:
    return f"{_OUTPUT.output_dir}/<mission>_stage_a{suffix}"


PAGES: Final = {
    "image_groups": _page(
        STAGE_A,
        "read",
        {"file", "parquet"},
        """
        The mission's **photo groups as they lie in the input root**: one row per group with its
        label, ticket and file names, in the order that everything after it keeps. Photos are listed
        here, not opened.

        **Look at:** *preview* (a photo of the first groups), *skipped_entries* (files and folders
        that are no part of a group, and why), *listing* (changes with any photo's name, size or
        time).

        **When it fails:** the input root or the mission's folder is not there, or holds no group.
        The message names the place; put the photos into `<mission>/{审核通过|审核不通过}/<group>/`, or
        correct `discovery.input_root`, and materialise again.
        """,
        lies=_table("image_groups"),
        schema=GROUPS,
    ),
    "sampled_groups": _page(
        STAGE_A,
        "sample",
        {"parquet"},
        """
        The **groups that are summarised**: all of them, or a reproducible sample per label, where
        `sampling.pass_count` or `sampling.fail_count` is set.

        **When it fails:** nothing is left to summarise, or the settings ask for a negative number.
        Raise or remove `sampling.*`, and materialise again.
        """,
        lies=_table("sampled_groups"),
        schema=GROUPS,
    ),
    "stage_a_summaries": _page(
        STAGE_A,
        "infer",
        {"huggingface", "pytorch", "parquet"},
        """
        **One outcome per photo**: the model's raw answer, or a rejection with its reason. Photos
        are asked in batches across groups on every device of `engine.devices`; what was answered
        before is not asked again.

        **Look at:** *outcomes* (photos with what became of them, rejected ones first),
        *what_became* and *time_spent* (pictures), *images_per_second*; while it runs, the lines
        `photos, photos/s, left` in the run's log.

        **When it fails:** finished photos are kept: *Re-execute from failure*, or materialise
        again, goes on where it stopped. A checkpoint or device that cannot be used is named in the
        message. Too many rejected groups: `<mission>_stage_a.rejected.jsonl` lists each photo with
        its reason.
        """,
        lies=_table("stage_a_summaries"),
        schema=OUTCOMES,
    ),
    "clean_summaries": _page(
        STAGE_A,
        "clean",
        {"parquet"},
        """
        Every answer as **one canonical line**: `无关图片`, or a JSON object that begins with 统计. An
        answer that cannot be one becomes a rejection; nothing else is changed.

        **When it fails:** it belongs to other groups than `sampled_groups`. Materialise
        `stage_a_summaries` again.
        """,
        lies=_table("clean_summaries"),
        schema=OUTCOMES,
    ),
    "fail_reasons": _page(
        STAGE_A,
        "read",
        {"excel", "parquet"},
        """
        The **reviewers' reasons** by ticket and mission, from the workbook of
        `fail_reasons.workbook`; empty where none is set. It has no partitions: one workbook serves
        all missions.

        **When it fails:** the workbook is missing, open elsewhere, or has other columns. The
        message names the sheet and the column; correct the file or `fail_reasons.*_column`, and
        materialise again.
        """,
        lies=_table("fail_reasons", of_missions=False),
        schema=FAIL_REASONS,
    ),
    "enriched_records": _page(
        STAGE_A,
        "join",
        {"parquet"},
        """
        **Whole groups**: one row per group whose photos all have a summary, each fail with the
        reviewers' reasons where the workbook covers the mission. A group with a rejected photo is
        left out, whole.

        **Look at:** *first_records*, and the check `fail_reasons_match`.

        **When it fails:** it belongs to other answers than `clean_summaries`. Materialise that one
        again.
        """,
        lies=_table("enriched_records"),
        schema=RECORDS,
    ),
    "stage_a_jsonl": _page(
        STAGE_A,
        "deliver",
        {"json"},
        """
        The **delivered files** of the mission: canonical JSONL (one record per group), rejected
        lines, and the manifest with hashes and counts. They are put in place whole, or not at all.

        **Look at:** *jsonl*, *rejected_lines* and *manifest* (paths to copy), *counts*.

        **When it fails:** the last good file stands as it was. Too many rejected groups
        (`inference.max_failed_fraction`): mend the photos that the rejected lines name. A file that
        cannot be written: make room, or give the rights. Then materialise again.
        """,
        lies=_delivered(".jsonl"),
        schema=JSONL_COLUMNS,
    ),
    "stage_a_report": _page(
        STAGE_A,
        "show",
        {"html"},
        """
        The delivered file **as pages to look at**: an overview, and every group with its photos and
        summaries. It is a folder that needs no server.

        **Look at:** *report* (open the path in a browser).

        **When it fails:** the delivered file is there all the same. The folder cannot be written, or the
        input root is away: mend what the message names, and materialise this asset alone.
        """,
        lies=str(SETTINGS_AT_LOAD.report_dir / "<mission>" / "index.html"),
    ),
    "stage_a_evaluation": _page(
        EVALUATION,
        "evaluate",
        {"json", "svg"},
        """
        **How well the answers agree with the truth**, where the input root has a `truth.jsonl`;
        nothing without one. Recall and precision per attribute, and a picture of what was said
        instead.

        **When it fails:** a line of the truth sidecar is wrong: correct the line that the message
        names, or move the file away. The delivered file is there all the same.
        """,
        lies=_delivered(".evaluation.json"),
    ),
    "stage_b_dataset": _page(
        STAGE_B,
        "survey",
        {"json"},
        """
        The **tickets of all delivered files**: which teach, which judge, and what is odd about
        them. A mission's run leaves it out: photos that are summarised start no training.

        **When it fails:** no delivered file, or too few tickets. Materialise `stage_a_jsonl` of
        some missions.
        """,
        lies=_delivered(".jsonl"),
    ),
    "stage_b_adapter": _page(
        STAGE_B,
        "train",
        {"pytorch", "huggingface"},
        """
        A **LoRA adapter for verdicts**, trained by GRPO on the delivered tickets. A stopped
        training goes on from its last checkpoint when it is materialised again.

        **Look at:** *rewards* (a picture of the training), *adapter*, *tensorboard*.

        **When it fails:** the message names the process and its last words; where memory ran out,
        lower `grpo.num_generations`. Materialise again to go on.
        """,
        lies=str(SETTINGS_AT_LOAD.stage_b_dir / "runs" / "<key>" / "adapter"),
    ),
    "stage_b_evaluation": _page(
        STAGE_B,
        "evaluate",
        {"json", "svg"},
        """
        **Verdicts on tickets that the adapter has not seen**, before and after the training, and
        Stage-A's summaries with and without the adapter.

        **When it fails:** there is no adapter yet, or the tickets have changed since: materialise
        `stage_b_adapter` first.
        """,
        lies=str(SETTINGS_AT_LOAD.stage_b_dir / "runs" / "<key>"),
    ),
    "reassembled_object": _page(
        REASSEMBLY,
        "stitch",
        {"numpy"},
        """
        **One object per model** of a data set, stitched from its overlapping patches in bounded
        memory.

        **When it fails:** the message names the file of patches or positions that does not fit:
        correct it in `reassembly.data_dir`, and materialise again. What was stitched before stands.
        """,
        lies=str(SETTINGS_AT_LOAD.reassembly_dir / "<data set>"),
    ),
    "model_comparison": _page(
        REASSEMBLY,
        "compare",
        {"csv", "numpy"},
        """
        **How near two models' objects are to the true one**: phase and amplitude errors, structural
        similarity, and Fourier ring correlation.

        **When it fails:** the data set has no true object, or not two models. The message names
        what is missing.
        """,
        lies=str(SETTINGS_AT_LOAD.reassembly_dir / "<data set>"),
    ),
}
