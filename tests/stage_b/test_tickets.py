"""Which lines give a ticket, and what is told of the others."""

import json

import pytest

from stage_a_pipeline.errors import ConfigurationError, InputError
from stage_a_pipeline.jsonl import write_records
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.records import GroupRecord
from stage_a_pipeline.stage_b.tickets import SkippedLine, Ticket, Tickets, read_tickets
from tests.stage_b.conftest import BBU, MISSIONS, RRU, line, write_lines

GOOD = line(group_id="QC-good")


def read(path, *more, only=()):
    return read_tickets([path, *more], missions=MISSIONS, only=only)


def per_image(*keys):
    return line(per_image={key: f"summary of {key}" for key in keys})


def test_records_that_stage_a_delivers_are_tickets_in_the_order_of_files_and_lines(tmp_path):
    first = write_lines(tmp_path / "none.jsonl")
    records = [
        GroupRecord("QC-2", RRU, "fail", ("a.jpg",), ('{"统计": []}',), ("松动",)),
        GroupRecord("QC-1", BBU, "pass", ("1.jpg", "2.jpg"), ("甲", "无关图片")),
    ]
    second = tmp_path / "records.jsonl"
    write_records(second, records)
    found = read(first, second)
    assert found == Tickets(
        (
            Ticket("QC-2", RRU, "fail", ('{"统计": []}',), second, 1),
            Ticket("QC-1", BBU, "pass", ("甲", "无关图片"), second, 2),
        )
    )
    assert [ticket.ticket_key for ticket in found.tickets] == ["QC-2::fail", "QC-1::pass"]
    assert found.sentences() == ()


@pytest.mark.parametrize(
    ("faulty", "reason", "detail"),
    [
        ("", "blank line", "holds nothing"),
        (" \t\r", "blank line", "holds nothing"),
        (GOOD[:-9], "broken JSON", "not valid JSON"),
        ("\0" * 40, "broken JSON", "not valid JSON"),
        (GOOD.encode("gb18030"), "broken JSON", "not UTF-8 from byte"),
        ("\ufeff" + GOOD, "broken JSON", "byte-order mark"),
        ("[" * 100_000, "broken JSON", "nested too deeply"),
        ('{"label": ' + "1" * 10_000 + "}", "broken JSON", "a number too long"),
        (GOOD[:-1] + ', "label": "fail"}', "key given twice", "label"),
        ('{"\\ud800": 1, "\\ud800": 2}', "key given twice", r"\ud800: stands in one object twice"),
        ("[1]", "bad value", "must be a JSON object"),
        (line(group_id=None), "missing key", "group_id is missing"),
        (line(mission=None), "missing key", "mission is missing"),
        (line(label=None), "missing key", "label is missing"),
        (line(per_image=None), "missing key", "per_image is missing"),
        (line(group_id=3), "bad value", "group_id: must be text, not int"),
        (line(group_id=" "), "bad value", "group_id: must not be blank"),
        (line(mission=["x"]), "bad value", "mission: must be text, not list"),
        (GOOD.replace("QC-good", "QC-\\ud800"), "bad value", "half of a surrogate pair"),
        (line(label="Pass"), "unknown label", "must be one of pass, fail, not 'Pass'"),
        (line(label=["pass"]), "unknown label", "not ['pass']"),
        (line(label="通过"), "unknown label", "not '通过'"),
        (line(mission="x" * 5_000), "unknown mission", "the mission table does not have 'xxx"),
        (line(mission="不存在"), "unknown mission", "the mission table does not have '不存在'"),
        (line(per_image={}), "no images", "per_image is empty"),
        (line(per_image=["甲"]), "bad value", "per_image must be an object"),
        (per_image("image_1", "image_3"), "gap in image keys", "image_2 is missing; the last is 3"),
        (per_image("image_2", "image_3"), "gap in image keys", "image_1 is missing; the last is 3"),
        (per_image("图片_2"), "gap in image keys", "image_1 is missing; the last is 2"),
        (per_image("image_1", "图片_1"), "clash of image keys", "image_1 and 图片_1 are one photo's"),
        (per_image("image_0", "image_1"), "odd image key", "image_2, ..., not 'image_0'"),
        (per_image("image_01"), "odd image key", "image_2, ..., not 'image_01'"),
        (per_image("image_1", "Image_2"), "odd image key", "image_2, ..., not 'Image_2'"),
        (per_image("image_１"), "odd image key", "image_2, ..., not 'image_１'"),
        (per_image("image_1", "image_1 "), "odd image key", "image_2, ..., not 'image_1 '"),
        (per_image("image_" + "9" * 5_000), "odd image key", "image_2, ..., not 'image_999"),
        (per_image("image_\ud800").encode("utf-8", "backslashreplace"), "odd image key", r"\ud800"),
        (line(per_image={"image_1": None}), "bad summary", "image_1: must be text, not null"),
        (line(per_image={"图片_1": " "}), "bad summary", "图片_1: must not be blank"),
        (line(per_image={"image_1": "甲\n乙"}), "bad summary", "image_1: must be a single line"),
        (GOOD, "duplicate ticket", "QC-good::pass stands at"),
    ],
)  # fmt: skip
def test_a_line_that_gives_no_ticket_is_skipped_with_its_reason_and_place(tmp_path, faulty, reason, detail):
    path = write_lines(tmp_path / "a.jsonl", GOOD, faulty, line(group_id="QC-last"))
    found = read(path)
    assert [ticket.line for ticket in found.tickets] == [1, 3]
    (skipped,) = found.skipped
    assert (skipped.source, skipped.line, skipped.reason) == (path, 2, reason)
    assert detail in skipped.detail
    assert len(skipped.detail) < 250
    skipped.detail.encode()
    assert found.sentences() == (f"skipped 1 of 3 lines: 1 {reason}", skipped.sentence())


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["image_2", "image_1"], [1, 0]),
        (["图片_1", "图片_2"], [0, 1]),
        (["图片_2", "image_1"], [1, 0]),
        ([f"image_{number}" for number in range(11, 0, -1)], range(10, -1, -1)),
    ],
)
def test_summaries_stand_in_the_order_of_their_numbers(tmp_path, keys, order):
    found = read(write_lines(tmp_path / "a.jsonl", per_image(*keys)))
    assert found.tickets[0].summaries == tuple(f"summary of {keys[place]}" for place in order)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode(),
        GOOD.encode() + b"\r\n",
        b"\xef\xbb\xbf" + GOOD.encode() + b"\n",
        line(group_id="QC-good", images=None, engine="other", gt_fail_reason_text=3).encode(),
        json.dumps(json.loads(GOOD)).encode(),
        line(group_id="QC-good", note="x" * 3_000_000).encode(),
    ],
    ids=["no line end", "CR LF", "byte-order mark", "other keys", "escapes", "a huge line"],
)
def test_what_says_nothing_about_the_ticket_does_not_matter(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert read(path) == Tickets((Ticket("QC-good", BBU, "pass", ("甲", "乙"), path, 1),))


def test_an_alias_in_any_unicode_form_is_its_mission(tmp_path):
    own = tmp_path / "missions.toml"
    own.write_text(f'[[mission]]\nname = "{BBU}"\naliases = ["caf\u00e9"]\n', "utf-8")
    path = write_lines(
        tmp_path / "a.jsonl", line(mission="BBU线缆布放要求"), line(mission="cafe\u0301", group_id="QC-2")
    )
    found = read_tickets([path], missions=load_missions(own))
    assert [ticket.mission for ticket in found.tickets] == ["BBU线缆布放", BBU]


def test_the_first_of_two_tickets_with_one_mission_and_key_is_kept_across_files(tmp_path):
    first = write_lines(tmp_path / "a.jsonl", GOOD)
    again = line(group_id="QC-good", per_image={"image_1": "other"})
    others = [line(group_id="QC-good", label="fail"), line(group_id="QC-good", mission=RRU)]
    second = write_lines(tmp_path / "b.jsonl", again, GOOD, *others)
    found = read(first, second)
    assert [(ticket.source, ticket.line) for ticket in found.tickets] == [
        (first, 1),
        (second, 3),
        (second, 4),
    ]
    place = f"QC-good::pass stands at {first}, line 1 with"
    assert found.skipped == (
        SkippedLine(second, 1, "duplicate ticket", f"{place} other summaries"),
        SkippedLine(second, 2, "duplicate ticket", f"{place} the same summaries"),
    )


def test_a_file_given_twice_is_read_once(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.jsonl", GOOD)
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    found = read(path, path, link, path.relative_to(tmp_path))
    assert (len(found.tickets), found.skipped) == (1, ())


def test_lines_of_missions_that_were_not_asked_for_are_counted_and_not_listed(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", GOOD, line(mission=RRU), line(mission="BBU线缆布放"), "{")
    found = read(path, only=["BBU线缆布放要求", BBU])
    assert [ticket.mission for ticket in found.tickets] == [BBU, "BBU线缆布放"]
    assert found.skipped_counts() == {"other mission": 1, "broken JSON": 1}
    told = found.sentences()
    assert told[0] == "skipped 2 of 4 lines: 1 other mission, 1 broken JSON"
    assert told[1:] == (found.skipped[1].sentence(),)


def test_the_first_lines_of_each_reason_are_told_one_by_one(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", GOOD, *["{"] * 7, line(label="x"))
    told = read(path).sentences()
    assert told[0] == "skipped 8 of 9 lines: 7 broken JSON, 1 unknown label"
    assert [text.partition(": ")[0] for text in told[1:-1]] == [
        f"{path}, line {number}" for number in (2, 3, 4, 5, 6, 9)
    ]
    assert told[-1] == "and 2 more"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "no lines at all"),
        (["{", line(label="x"), "{"], "no ticket can be used, of 3 lines: 2 broken JSON, 1 unknown label"),
        (["{"], "a.jsonl, line 1: broken JSON: "),
        ([line(mission=RRU)], "1 other mission"),
    ],
)
def test_files_without_any_ticket_are_an_error_with_counts_lines_and_remedy(tmp_path, lines, told):
    path = write_lines(tmp_path / "a.jsonl", *lines)
    with pytest.raises(InputError) as error:
        read(path, only=[BBU])
    assert str(path) in str(error.value)
    assert told in str(error.value)
    assert "grpo.files" in str(error.value)


def test_a_file_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path):
    good = write_lines(tmp_path / "a.jsonl", GOOD)
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match=r"cannot be read: .*; give canonical JSONL files") as error:
            read(good, path)
        assert str(path) in str(error.value)
    with pytest.raises(InputError, match="no files of tickets were given"):
        read_tickets([], missions=MISSIONS)


def test_an_unknown_mission_to_keep_is_an_error_before_a_file_is_read(tmp_path):
    with pytest.raises(ConfigurationError, match="unknown mission 'x'; known missions"):
        read(tmp_path / "none.jsonl", only=["x"])
