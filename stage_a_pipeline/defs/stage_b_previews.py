"""Stage-B's tables for the asset pages."""

from collections.abc import Iterator, Sequence
from typing import Final

import dagster as dg

from stage_a_pipeline.defs.previews import markdown_table, plain_text
from stage_a_pipeline.stage_b.scores import MEASURES, Compared, Comparison
from stage_a_pipeline.stage_b.survey import MissionSurvey, Survey
from stage_a_pipeline.stage_b.suspects import Suspects
from stage_a_pipeline.stage_b.wording import percent, percent_with_interval, points

NOT_COMPARED: Final = (
    "not compared: no photos; the run's log says why (grpo.stage_a_photos, discovery.input_root)"
)
"""Of Stage-A with an adapter and without it."""
_SUSPECTS_SHOWN = 12
# Few and short: a wider table is cut off on the asset's page.
_SURVEY_COLUMNS = (
    "mission", "tickets", "pass", "fail", "both labels", "opposite pairs", "best accuracy", "photos, median",
)  # fmt: skip
_NAMES = tuple(name.replace("_", " ") for name in MEASURES)


def survey_preview(survey: Survey) -> dg.MarkdownMetadataValue:
    """The tickets of each mission, and what is odd about them."""
    return markdown_table(_SURVEY_COLUMNS, map(_survey_row, survey.missions))


def verdicts_preview(total: Compared) -> dg.MarkdownMetadataValue:
    """Each share before and after, and the difference, with their intervals."""
    sides = (total.before.shares, total.after.shares, total.difference)
    rows = (
        (
            name.replace("_", " "),
            percent_with_interval(getattr(sides[0], name)),
            percent_with_interval(getattr(sides[1], name)),
            points(getattr(sides[2], name)),
        )
        for name in MEASURES
    )
    return markdown_table(("share, 95% interval", "before", "after", "difference in points"), rows)


def mission_verdicts_preview(comparison: Comparison) -> dg.MarkdownMetadataValue:
    """The shares of each mission, before → after."""
    rows = ((plain_text(name), *_mission_cells(one)) for name, one in comparison.per_mission.items())
    return markdown_table(("mission", "tickets", *_NAMES), rows)


def suspects_preview(suspects: Suspects) -> dg.MarkdownMetadataValue:
    """The first tickets that are judged against their label."""
    rows: Sequence[Sequence[str]] = [
        (
            plain_text(one.mission),
            plain_text(one.group_id),
            one.label,
            one.said,
            plain_text(one.reason),
        )
        for one in suspects.listed[:_SUSPECTS_SHOWN]
    ]
    if not rows:
        return dg.MetadataValue.md("no ticket is judged against its label")
    return markdown_table(("mission", "group", "label", "said", "reason"), rows)


def _survey_row(one: MissionSurvey) -> Sequence[str]:
    counts = (one.tickets, one.passes, one.fails, one.resubmissions, one.contradictions)
    figures = f"{one.best_accuracy:.1%}", f"{one.group_median:g}"
    return plain_text(one.mission), *(f"{count:,}" for count in counts), *figures


def _mission_cells(compared: Compared) -> Iterator[str]:
    yield f"{compared.after.tickets:,}"
    for name in MEASURES:
        before, after = (getattr(side.shares, name) for side in (compared.before, compared.after))
        # A line breaks before the arrow, not behind it.
        yield percent(after) if after is None else f"{percent(before)} →\N{NO-BREAK SPACE}{percent(after)}"
