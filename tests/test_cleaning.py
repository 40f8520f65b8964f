"""Cleaning, rule by rule, then what must hold for any text at all."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_a_pipeline.cleaning import DEFECTS, FLAGS, CleanSummary, clean_summary, defect
from stage_a_pipeline.errors import RecordError
from stage_a_pipeline.records import parse_group_record

SUMMARY = '{"统计": [{"类别": "BBU设备", "品牌": {"华为": 1}, "可见性": {"完整": 1}}]}'
HEADER = "<DOMAIN=BBU>, <TASK=SUMMARY>"
SCREW = '{"类别": "BBU安装螺丝", "可见性": {"完整": 1}, "符合性": {"符合": 1}}'

SENTENCE = "这张照片里能看到一台华为设备，设备安装在机柜中部，四颗安装螺丝都已拧紧，接地线连到接地排上。"


def listing(entries: list[str]) -> str:
    return '{"统计": [' + ", ".join(entries) + "]}"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("无关图片", "无关图片"),
        ("  无关图片。\n", "无关图片"),
        ("无关图片，这是一张图纸", "无关图片"),
        (f"{HEADER}\n无关图片", "无关图片"),
        (f"{HEADER}\n\n 无关图片 {SUMMARY}", "无关图片"),
        ("\ufeff无关图片", "无关图片"),
        ("```\n无关图片\n```", "无关图片"),
        ("无关图片无关图片无关图片", "无关图片"),
        ('{"image_1": "无关图片"}', "无关图片"),
    ],
)
def test_what_starts_with_the_irrelevant_mark_becomes_exactly_that(raw: str, text: str) -> None:
    clean = clean_summary(raw)
    assert clean.text == text
    assert "irrelevant" in clean.flags
    assert defect(clean) is None


@pytest.mark.parametrize("raw", ["这是无关图片", "图片：无关图片", '{"统计": [{"类别": "无关图片"}]}'])
def test_the_irrelevant_mark_elsewhere_is_content(raw: str) -> None:
    assert clean_summary(raw).text == raw
    assert "irrelevant" not in clean_summary(raw).flags


@pytest.mark.parametrize(
    ("raw", "text", "flags"),
    [
        # The whole text.
        (SUMMARY, SUMMARY, ()),
        (f" \n{SUMMARY}\r\n", SUMMARY, ()),
        (SUMMARY.replace(" ", ""), SUMMARY, ()),
        (json.dumps(json.loads(SUMMARY), indent=2), SUMMARY, ()),
        (f"\ufeff{SUMMARY}", SUMMARY, ()),
        (f"```json\n{SUMMARY}\n```", SUMMARY, ()),
        (f"```json{SUMMARY}```", SUMMARY, ()),
        (f"{HEADER}\n{SUMMARY}", SUMMARY, ()),
        (f"<DOMAIN=RRU>，<TASK=SUMMARY>\n\n{SUMMARY}", SUMMARY, ()),
        (f"{HEADER} {SUMMARY}", SUMMARY, ()),
        (f"{SUMMARY}<|im_end|>", SUMMARY, ("stop_token",)),
        (f"{SUMMARY}\n<|im_end|>\n<|endoftext|><|endoftext|>", SUMMARY, ("stop_token",)),
        # The last line of JSON.
        (f"想一想\n{SUMMARY}", SUMMARY, ("extracted",)),
        (f'{{"统计": [1]}}\n{SUMMARY}\n以上', SUMMARY, ("extracted",)),
        (f'{SUMMARY}\n{{"说明": "完"}}', SUMMARY, ("extracted",)),
        # The widest braces.
        (f"结果：{SUMMARY}。以上", SUMMARY, ("extracted",)),
        ('结果：{\n"统计":\n[]\n} 完', '{"统计": []}', ("extracted",)),
        (f"[{SUMMARY}]", SUMMARY, ("extracted",)),
        (f'{{"统计": [1]}} {SUMMARY} 见{{图}}', SUMMARY, ("extracted",)),
        # A repair.
        ('统计=[{"类别": "电线"}]', '{"统计": [{"类别": "电线"}]}', ("repaired",)),
        ('统计: [{"类别": "电线"}]', '{"统计": [{"类别": "电线"}]}', ("repaired",)),
        ('统计：[{"类别"："电线"}]', '{"统计": [{"类别": "电线"}]}', ("repaired",)),
        ('"统计" ＝ ［｛“类别”：“电线”｝］', '{"统计": [{"类别": "电线"}]}', ("repaired",)),
        ('统计：【{"类别"："电线"}】', '{"统计": [{"类别": "电线"}]}', ("repaired",)),
        ("结果是统计", "结果是统计", ("free_text",)),
        (
            '统计=[{"类别": "电线"}]，备注=["不清"]，分组统计={"1": {"尾纤": 1}}',
            '{"统计": [{"类别": "电线"}], "备注": ["不清"], "分组统计": {"1": {"尾纤": 1}}}',
            ("repaired",),
        ),
        (
            '｛"统计"：［｛"类别"："标签"，"文本"：｛"编号：A，［1］"：1｝｝］｝',
            '{"统计": [{"类别": "标签", "文本": {"编号：A，［1］": 1}}]}',
            ("repaired",),
        ),
        (
            '｛"备注"：["远"]，"统计"：[]，"其他"：1｝',
            '{"统计": [], "备注": ["远"], "其他": 1}',
            ("repaired",),
        ),
        ('{"统计":\u3000[{"类别":\xa0"电  线"}]}', '{"统计": [{"类别": "电  线"}]}', ("repaired",)),
        ('{"统计": [1], "统计": [2]}', '{"统计": [2]}', ("repaired",)),
        # A wrapping object.
        (f'{{"image_1": {SUMMARY}}}', SUMMARY, ("extracted",)),
        (f'{{"图片_1": {SUMMARY}, "图片_2": "x"}}', SUMMARY, ("extracted",)),
        (json.dumps({"image_1": SUMMARY}), SUMMARY, ("extracted",)),
        (json.dumps({"image_1": json.dumps({"图片_1": f"{HEADER}\n{SUMMARY}"})}), SUMMARY, ("extracted",)),
        (f'答：{{"image_1": {SUMMARY}}}', SUMMARY, ("extracted",)),
        ('{"image_1": "BBU设备\\n华为"}', "BBU设备 华为", ("free_text", "extracted")),
        ('{"image_1": ["a", 1]}', '["a", 1]', ("free_text", "extracted")),
        # An object of other strings.
        ('{"设备": "BBU", "品牌": " 华为 ", "空": ""}', "BBU，华为", ("free_text",)),
        ('{"设备": "无关图片", "品牌": "华为"}', "无关图片", ("irrelevant",)),
        # Anything else.
        ("BBU设备，华为，\n\t完整 ", "BBU设备，华为， 完整", ("free_text",)),
        ("BBU设备\u2028华为\x85完整\x0b是\u3000的", "BBU设备 华为 完整 是 的", ("free_text",)),
        ("螺丝\x00\x1b[1m符合\u200b", "螺丝[1m符合", ("free_text",)),
        (f"BBU设备\n{HEADER}\n华为", "BBU设备 华为", ("free_text",)),
        ('{"设备": 1}', '{"设备": 1}', ("free_text",)),
        ('分组统计=[{"尾纤": 1}]', '分组统计=[{"尾纤": 1}]', ("free_text",)),
        ("统计：【BBU设备】", "统计：【BBU设备】", ("free_text",)),
        ("\ud83d\ude00 螺丝", "😀 螺丝", ("free_text",)),
        ("螺丝\udcff", "螺丝\ufffd", ("free_text",)),
    ],
)
def test_every_form_becomes_one_usable_line(raw: str, text: str, flags: tuple[str, ...]) -> None:
    clean = clean_summary(raw)
    assert clean == CleanSummary(text, flags)
    assert defect(clean) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            '{"分组统计": {"1": {}}, "x": 0, "备注": ["b"], "统计": [], "a": 0}',
            '{"统计": [], "备注": ["b"], "分组统计": {"1": {}}, "x": 0, "a": 0}',
        ),
        (
            '{"统计": [1.0, 1E5, -0, 0.10, 123456789012345678901234567890]}',
            '{"统计": [1.0, 1E5, -0, 0.10, 123456789012345678901234567890]}',
        ),
        ('{"统计": [true, false, null]}', '{"统计": [true, false, null]}'),
        ('{"统计": [{"b": 1, "a": {"d": 1, "c": 2}}]}', '{"统计": [{"b": 1, "a": {"d": 1, "c": 2}}]}'),
        (
            '{"统计": ["一\u2028二\u2029三\x85四\n五\\u2028六"]}',
            r'{"统计": ["一\u2028二\u2029三\u0085四\n五\u2028六"]}',
        ),
        (
            '{"统计": ["\\ud800", "\\ud83d\\ude00", "\\u0000", "\\ufeff"]}',
            r'{"统计": ["�", "😀", "\u0000", "\ufeff"]}',
        ),
        ('{"统计": ["\\u7edf", "\\/", "\\"", "\\\\"]}', r'{"统计": ["统", "/", "\"", "\\"]}'),
    ],
)
def test_a_summary_keeps_its_values_and_gets_the_canonical_form(raw: str, text: str) -> None:
    clean = clean_summary(raw)
    assert clean == CleanSummary(text)
    json.loads(text)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("", "empty"),
        (" \n\u3000\ufeff", "empty"),
        ("<|im_end|>", "empty"),
        (HEADER, "empty"),
        ("```json\n```", "empty"),
        ("。。。", "empty"),
        ("{}", "empty"),
        ("null", "empty"),
        ('{"image_1": ""}', "empty"),
        ('{"image_1": null}', "empty"),
        ('{"a": " "}', "empty"),
        (SUMMARY[:-1], "truncated_json"),
        (SUMMARY[:-2], "truncated_json"),
        (SUMMARY[:30], "truncated_json"),
        (SUMMARY[:10], "truncated_json"),
        (f"{HEADER}\n{SUMMARY[:40]}", "truncated_json"),
        (f"```json\n{SUMMARY[:40]}", "truncated_json"),
        ("{", "truncated_json"),
        ('{"', "truncated_json"),
        ('统计=[{"类别": "电线"}', "truncated_json"),
        ('统计：［｛"类别"：', "truncated_json"),
        ('{"统计": [{"类别": "电线"}], "备注": ["不', "truncated_json"),
        (f'{SUMMARY}\n{{"统计": [{{"类', "truncated_json"),
        (f'{{"统计": [{SUMMARY}', "truncated_json"),
        ('见}图：统计=[{"类别": "电线"}', "truncated_json"),
        ('{"image_1": "{\\"统计\\": [{"}', "truncated_json"),
        ('{"统计": [{"类别" "电线"}]}', "broken_json"),
        ("{" * 40 + '"统计": 1' + "}" * 40, "broken_json"),
        ('{"统计": [{"类别": "电线", "捆扎": {"整齐": NaN}}]}', "not_a_number"),
        ('{"统计": [Infinity]}', "not_a_number"),
        ('{"统计": [-Infinity]}', "not_a_number"),
        ('{"统计": [1e999]}', "not_a_number"),
        ('{"数量": NaN}', "not_a_number"),
        ("nan", "not_a_number"),
        ("<|im_start|>assistant\n" + SUMMARY, "special_tokens"),
        (SUMMARY + "<|im_end|>\n<|im_start|>user", "special_tokens"),
        ('{"统计": [{"类别": "<|image_pad|>"}]}', "special_tokens"),
        ("螺丝<|vision_start|>符合", "special_tokens"),
        ("<think>\n</think>\n螺丝符合", "special_tokens"),
        ("螺丝" * 200, "repetition"),
        ("好。" + "是" * 100, "repetition"),
        ("BBU安装螺丝，完整，符合；" * 40 + "BBU安", "repetition"),
        ("BBU安装螺丝，完整，符合；\n" * 40, "repetition"),
        (SENTENCE * 8, "repetition"),
        (listing([SCREW] * 10)[:-30], "repetition"),
        (listing([SCREW] * 200), "repetition"),
        ('{"统计": [{"类别": "标签", "文本": {"' + "A1" * 200 + '": 1}}]}', "repetition"),
        ('{"统计": [{"类别": "标签", "文本": {"' + SENTENCE * 8 + '": 1}}]}', "repetition"),
        ('{"统计": [], "备注": ["' + SENTENCE * 8 + '"]}', "repetition"),
        ("{" * 1000, "repetition"),
    ],
)  # fmt: skip
def test_what_is_no_usable_summary_has_a_reason(raw: str, reason: str) -> None:
    clean = clean_summary(raw)
    assert defect(clean) == reason
    assert defect(clean_summary(clean.text)) == reason


@pytest.mark.parametrize(
    "text",
    [
        listing([SCREW] * 31),
        listing([f'{{"类别": "标签", "文本": {{"A{i:03}": 1}}}}' for i in range(300)]),
        listing([SCREW, '{"类别": "电线", "捆扎": {"整齐": 1}}'] * 15),
        "；".join(["ODF端光纤插头，符合"] * 24),
        "，".join(f"{i}号螺丝符合" for i in range(400)),
        "标签：" + "0" * 40,
        "BBU设备，华为，完整 " + "-" * 60,
        "说明：" + "-" * 80 + "，".join(f"{i}号螺丝" for i in range(20)),
    ],
)
def test_many_similar_entries_are_no_endless_repetition(text: str) -> None:
    assert clean_summary(text).text == text
    assert defect(clean_summary(text)) is None


def test_a_cut_summary_is_never_closed_by_cleaning() -> None:
    for end in range(1, len(SUMMARY)):
        clean = clean_summary(SUMMARY[:end])
        assert clean.text == SUMMARY[:end].strip()
        assert defect(clean) is not None


def test_flags_are_a_closed_set_and_defects_belong_to_it() -> None:
    assert len(set(FLAGS)) == len(FLAGS)
    assert set(DEFECTS) < set(FLAGS)


_PIECES = st.sampled_from(
    [
        *(
            SUMMARY,
            SUMMARY[:25],
            HEADER,
            "无关图片",
            "统计",
            '"统计"',
            "备注",
            "分组统计",
            '{"统计":',
            "统计=[",
        ),
        *("image_1", "图片_1", '{"image_1":', '{"a": "b"}', "[]", "{}", "null", "NaN", "1e999", "1.0", "-0"),
        *"{}[]()\"'`:,=：，＝｛｝［］【】“”＂；、。\\/<>|_ \n\r\t\v\f",
        *(
            "\x00",
            "\x1b",
            "\x1c",
            "\x7f",
            "\x85",
            "\x9f",
            "\xa0",
            "\u200b",
            "\u2028",
            "\u2029",
            "\u3000",
            "\ufeff",
        ),
        *("\ud800", "\udc00", "\ud83d\ude00", "\\ud800", "\\u2028", "\\n", '\\"', "\ufffd", "é", "é", "İ"),
        *("```", "```json", "<|im_end|>", "<|endoftext|>", "<|im_start|>", "<DOMAIN=", "<TASK=", "<think>"),
        *("螺丝", "a", "0", "12345678901234567890"),
    ]
)
_KEYS = st.sampled_from(["统计", "备注", "分组统计", "image_1", "图片_1", "a"]) | st.text()
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(_PIECES).map("".join),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_TEXTS = (
    st.lists(_PIECES | st.text(max_size=3), max_size=25).map("".join)
    | _JSON.map(lambda value: json.dumps(value, ensure_ascii=False))
    | _JSON.map(lambda value: json.dumps({"image_1": json.dumps(value)}))
    | st.tuples(_PIECES, _JSON, _PIECES).map(lambda parts: f"{parts[0]}{json.dumps(parts[1])}{parts[2]}")
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(_TEXTS)
def test_cleaning_any_text_gives_one_encodable_line_and_cleaning_it_again_changes_nothing(raw: str) -> None:
    clean = clean_summary(raw)
    clean.text.encode()
    again = clean_summary(clean.text)
    assert again.text == clean.text
    assert defect(again) == defect(clean)
    assert list(clean.flags) == [flag for flag in FLAGS if flag in clean.flags]
    if defect(clean) is None:
        record = {"group_id": "g", "mission": "m", "label": "pass", "images": ["1.jpg"]}
        assert parse_group_record(record | {"per_image": {"image_1": clean.text}}).summaries == (clean.text,)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text() | st.lists(_PIECES).map("".join))
def test_the_values_of_a_summary_survive_cleaning(text: str) -> None:
    value = {"统计": [{"类别": "标签", "文本": {text.encode("utf-16", "replace").decode("utf-16"): 1}}]}
    assert json.loads(clean_summary(json.dumps(value)).text) == value


_HEAVY = [
    *(
        "{",
        "}",
        "[{",
        "{}",
        "{ ",
        '"',
        '\\"',
        '"\\',
        "“",
        "＂",
        "｛",
        "[1",
        "\\u",
        "。",
        "\n",
        " ",
        "\ufeff",
        "\ud800",
    ),
    *("统计", "统计=[", '{"统计":', '{"统计":[]}\n', '{"image_1":', '{"a":"', '{"a":1}\n'),
    *("```", "<DOMAIN=", "<DOMAIN=a>,<TASK=b>", "<|", "<|im_end|>", "<|im_end|> x"),
]


@pytest.mark.parametrize("piece", _HEAVY)
@pytest.mark.parametrize("end", ["", "x", "}", '"}]'])
def test_a_hundred_kilobytes_of_anything_take_no_time(piece: str, end: str) -> None:
    text = piece * (100_000 // len(piece)) + end
    started = time.process_time()
    clean_summary(text)
    # Linear takes up to a third of a second here; quadratic would take minutes.
    assert time.process_time() - started < 5


def test_a_record_refuses_what_cleaning_marks_as_empty() -> None:
    record = {"group_id": "g", "mission": "m", "label": "pass", "images": ["1.jpg"]}
    with pytest.raises(RecordError):
        parse_group_record(record | {"per_image": {"image_1": clean_summary(" ").text}})
