"""Columns of tables and of the delivered file, as Dagster's catalogue shows them."""

from typing import Final

import dagster as dg
import pyarrow as pa


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    """An Arrow schema in Dagster's terms, with the description of each column."""
    return dg.TableSchema(
        columns=[
            _column(
                field.name,
                str(field.type),
                (field.metadata or {}).get(b"description", b"").decode(),
                nullable=field.nullable,
            )
            for field in schema
        ]
    )


def _column(name: str, kind: str, description: str, *, nullable: bool = False) -> dg.TableColumn:
    return dg.TableColumn(
        name,
        type=kind,
        description=description or None,
        constraints=dg.TableColumnConstraints(nullable=nullable),
    )


JSONL_COLUMNS: Final = dg.TableSchema(
    columns=[
        _column("group_id", "string", "工单编号"),
        _column("mission", "string", "任务名称"),
        _column("label", "string", "pass or fail (审核结果)"),
        _column("images", "list<string>", "file names in natural order"),
        _column("per_image", "object<string>", "summaries under image_1 to image_N, in the order of images"),
        _column("gt_fail_reason_texts", "list<string>", "reviewers' reasons; of fails only", nullable=True),
        _column("gt_fail_reason_text", "string", "the same joined by ` | `, null where none", nullable=True),
    ]
)
"""Of the canonical JSONL, in the order of its keys."""
