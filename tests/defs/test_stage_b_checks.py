"""What Stage-B's checks say of records made by hand."""

from dataclasses import replace

import dagster as dg
import pytest

from stage_a_pipeline.defs.stage_b_checks import check_evaluation, check_frozen_weights, check_tickets
from stage_a_pipeline.defs.stage_b_previews import (
    mission_verdicts_preview,
    survey_preview,
    suspects_preview,
    verdicts_preview,
)
from stage_a_pipeline.settings import GrpoSettings
from stage_a_pipeline.stage_b.summary_quality import PhotoAnswers, compare_summaries
from stage_a_pipeline.stage_b.survey import survey_tickets
from stage_a_pipeline.stage_b.suspects import find_suspects
from tests.stage_b.judged import FAIL, MISSION, PASS, compare, ticket, tickets

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
WIRE = '{"统计": [{"类别": "电线", "捆扎": {"整齐": 1}}]}'
BROKEN = '{"统计": [{"类别": "电线"}]}'


def distinct(labels):
    """Tickets of which no two have the same summaries."""
    return [replace(one, summaries=(f"甲{number}",)) for number, one in enumerate(tickets(labels))]


def found(results):
    return {result.check_name: result for result in results}


def verdict(result):
    return result.passed, result.severity


def judged(labels="ppff", before="ppff", after="ppff", photos=(), **settings):
    summaries = compare_summaries(photos, samples=100, seed=1) if photos is not None else None
    compared = compare(labels, before, after).total
    return found(check_evaluation(compared, summaries, GrpoSettings(**settings)))


def photo(number, adapted, reference=None):
    return PhotoAnswers(f"g{number}", f"{number}.jpg", WIRE, adapted, reference)


@pytest.mark.parametrize(
    ("labels", "passed"), [("p" * 9 + "f", True), ("p" * 10 + "f", False), ("pppp", False), ("fp", True)]
)
def test_a_label_below_a_tenth_of_a_mission_s_tickets_is_a_warning_that_counts_both(labels, passed):
    check = found(check_tickets(survey_tickets(distinct(labels))))["both_labels_are_there"]
    assert verdict(check) == (passed, WARN)
    assert f"{MISSION}: {labels.count('p')} pass, {labels.count('f')} fail" in check.description
    assert check.description.startswith("too few of a label") is not passed


def test_only_missions_that_lack_a_label_are_named():
    both = [*distinct("pf"), *(replace(one, mission="别的") for one in distinct("pp"))]
    check = found(check_tickets(survey_tickets(both)))["both_labels_are_there"]
    assert check.description == (
        "too few of a label: 别的: 2 pass, 0 fail; deliver more groups of it, or set grpo.balance"
    )


def test_tickets_that_contradict_each_other_are_a_warning_that_names_the_pairs():
    survey = survey_tickets([ticket("one"), ticket("two", "fail", line=2), *distinct("pf")])
    check = found(check_tickets(survey))["labels_do_not_contradict"]
    assert verdict(check) == (False, WARN)
    assert check.description == (
        "1 pair of tickets with the same summaries and opposite labels; the best rule over summaries is "
        "right on 75.0%; correct wrong labels among the pairs below"
    )
    (pair,) = check.metadata["pairs"].value
    assert pair.startswith(f"{MISSION}: the same summaries passed as one (")
    clean = found(check_tickets(survey_tickets(distinct("pf"))))["labels_do_not_contradict"]
    assert verdict(clean) == (True, WARN)


@pytest.mark.parametrize(
    ("after", "passed"), [({"vision": "a", "language": "b"}, True), ({"vision": "a", "language": "c"}, False)]
)
def test_a_frozen_weight_that_changed_is_an_error_that_names_its_part(after, passed):
    before = {"vision": "a", "language": "b"}
    check = check_frozen_weights({"frozen_before": before, "frozen_after": after})
    assert verdict(check) == (passed, ERROR)
    told = "the same hashes before and after: vision, language" if passed else "changed: language"
    assert check.description.startswith(told)
    assert ("do not use this adapter" in check.description) is not passed


@pytest.mark.parametrize(("min_format", "passed"), [(0.75, True), (0.76, False)])
def test_answers_without_the_form_are_an_error_below_the_bar(min_format, passed):
    check = judged(after="ppf?", min_format=min_format)["verdicts_have_their_form"]
    assert verdict(check) == (passed, ERROR)
    assert check.description.startswith(f"75.0% of the answers; at least {min_format:.1%} should be")
    assert ("grpo.max_steps" in check.description) is not passed


@pytest.mark.parametrize(
    ("before", "after", "passed", "points"),
    [
        ("ppfp", "ppff", True, "+25.0"),
        ("ppff", "ppff", True, "+0.0"),
        ("pppf", "fpff", True, "+0.0"),
        ("ppff", "ppfp", False, "-25.0"),
        ("ppff", "ppf?", False, "-25.0"),
    ],
)
def test_fewer_right_verdicts_than_before_are_an_error(before, after, passed, points):
    check = judged(before=before, after=after)["accuracy_not_below_the_start"]
    assert verdict(check) == (passed, ERROR)
    assert check.description.startswith(f"accuracy changed by {points} (")


@pytest.mark.parametrize(
    ("photos", "passed"),
    [
        ([photo(1, WIRE), photo(2, WIRE)], True),
        ([photo(1, WIRE), photo(2, BROKEN)], False),
        ([photo(1, WIRE, WIRE), photo(2, BROKEN, BROKEN)], True),
        ([photo(1, WIRE, WIRE), photo(2, BROKEN, WIRE)], False),
    ],
)
def test_summaries_that_became_worse_are_an_error(photos, passed):
    check = judged(photos=photos)["stage_a_quality_kept"]
    assert verdict(check) == (passed, ERROR)
    assert check.description.startswith("Stage-A with the adapter, 2 photos: ")
    assert judged(photos=photos, max_stage_a_drop=1.0)["stage_a_quality_kept"].passed


def test_summaries_that_nobody_compared_have_not_passed_and_are_a_warning():
    check = judged(photos=None)["stage_a_quality_kept"]
    assert verdict(check) == (False, WARN)
    assert check.description.startswith("not compared: no photos")


def rows(preview):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in preview.value.splitlines()[2:]]


def test_tables_show_shares_as_percentages_and_a_dash_for_those_of_nothing():
    compared = compare("pp", "pf", "pp")
    assert [row[:1] + row[3:] for row in rows(verdicts_preview(compared.total))] == [
        ["accuracy", "+50.0 (+0.0 to +100.0)"],
        ["format", "+0.0 (+0.0 to +0.0)"],
        ["false pass", "–"],
        ["false fail", "-50.0 (-100.0 to +0.0)"],
    ]
    assert rows(mission_verdicts_preview(compared)) == [
        [MISSION, "2", "50.0% →\xa0100.0%", "100.0% →\xa0100.0%", "–", "50.0% →\xa00.0%"]
    ]


def test_a_mission_s_tickets_are_a_row_of_counts_and_percentages():
    (row,) = rows(survey_preview(survey_tickets(tickets("ppf"))))
    assert row == [MISSION, "3", "2", "1", "0", "2", "66.7%", "1"]


def test_suspects_are_listed_with_their_reason_as_text_and_none_are_told_in_words():
    some = tickets("pf")
    found = find_suspects(some, [PASS, "通过\n理由: **粗** | <b>"])
    assert rows(suspects_preview(found))[0][:4] == [MISSION, f"{MISSION}-2", "fail", "pass"]
    assert r"\*\*粗\*\* \| &lt;b&gt;" in suspects_preview(found).value
    nobody = suspects_preview(find_suspects(some, [PASS, FAIL]))
    assert nobody.value == "no ticket is judged against its label"
