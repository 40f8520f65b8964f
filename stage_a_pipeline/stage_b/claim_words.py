"""The words by which a Chinese text speaks of categories, attributes, values and images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from stage_a_pipeline.vocabulary import VOCABULARY

READABLE: Final = ("可读性", "可读")
"""What a label shows whose text was read off; the vocabulary names only the opposite."""
NEEDS_DEFLECTOR: Final = ("挡风板需求", "空间充足需安装")
DEFLECTOR: Final = "挡风板"

Kind = Literal[
    "category",
    "other",
    "attribute",
    "value",
    "sound",
    "absent",
    "every",
    "doubt",
    "image",
    "join",
    "clause",
    "sentence",
]
Reading = tuple[str, str]
"""An attribute and its value."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a claim, or a mark between claims.

    `name` is that of a category or attribute, or the number of an image; `readings` are what a value may
    mean, by the category that it is said of.
    """

    kind: Kind
    name: str = ""
    readings: tuple[Reading, ...] = ()


def _attributes() -> dict[str, Mapping[str, frozenset[str]]]:
    found: dict[str, dict[str, frozenset[str]]] = {}
    for categories in VOCABULARY.values():
        for category in categories:
            named = found.setdefault(category.name, {})
            named.update({attribute.name: frozenset(attribute.values) for attribute in category.attributes})
    label = found["标签"]
    label[READABLE[0]] |= {READABLE[1]}
    return {name: MappingProxyType(attributes) for name, attributes in found.items()}


ATTRIBUTES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = MappingProxyType(_attributes())
"""Values by category and attribute, of all datasets; free text and digits have none."""

GOOD: Final = (("符合性", "符合"), ("安装状态", "合格"))
_BAD: Final = (("符合性", "不符合"), ("安装状态", "不合格"))
ADVERSE: Final = frozenset(
    {
        *_BAD,
        ("捆扎", "散乱"),
        ("保护措施", "无保护"),
        ("弯曲半径", "半径不合理<4cm或成环"),
        ("安装方向", "方向错误"),
        ("套管保护", "无套管"),
        ("可读性", "不可读"),
    }
)
FAVOURABLE: Final = frozenset(
    {
        *GOOD,
        ("捆扎", "整齐"),
        ("保护措施", "有保护"),
        ("弯曲半径", "半径合理"),
        ("安装方向", "方向正确"),
        ("套管保护", "有套管"),
        READABLE,
        ("挡风板需求", "免装"),
    }
)
"""What speaks for a sound installation; a value that is in neither speaks for nothing."""

# 部分 alone mostly means some of several, so it is a value only beside what makes it one.
_VALUE_WORDS: Final[Mapping[tuple[Reading, ...], str]] = MappingProxyType(
    {
        GOOD: "符合 合格 合规",
        _BAD: "不符合 不合格 不合规 未符合",
        (("可见性", "完整"),): "完整",
        (("可见性", "部分"),): "不完整 部分可见 可见部分 可见性部分 可见性为部分 仅部分",
        (("捆扎", "整齐"),): "整齐",
        (("捆扎", "散乱"),): "散乱 凌乱 杂乱 不整齐",
        (("保护措施", "有保护"),): "有保护",
        (("保护措施", "无保护"),): "无保护 未保护",
        (("弯曲半径", "半径合理"),): "半径合理",
        (
            ("弯曲半径", "半径不合理<4cm或成环"),
        ): "半径不合理<4cm或成环 半径不合理 半径过小 半径<4cm 半径小于4cm",
        (("安装方向", "方向正确"),): "方向正确",
        (("安装方向", "方向错误"),): "方向错误 方向不正确 方向有误 装反",
        (("套管保护", "有套管"),): "有套管",
        (("套管保护", "无套管"),): "无套管",
        (("标签", "有标签"),): "有标签",
        (("标签", "无标签"),): "无标签",
        (("可读性", "不可读"),): "不可读 无法读取 无法辨认",
        (READABLE,): "可读",
        (("挡风板需求", "免装"),): "免装 免安装 无需安装 不需安装 不需要安装",
        (NEEDS_DEFLECTOR,): "空间充足需安装 需安装 需要安装 需加装 应安装",
        (("品牌", "华为"),): "华为",
        (("品牌", "中兴"),): "中兴",
        (("品牌", "爱立信"),): "爱立信",
    }
)
_CATEGORY_WORDS: Final = {
    "安装螺丝": "BBU安装螺丝",
    "BBU光纤插头": "BBU端光纤插头",
    "ODF光纤插头": "ODF端光纤插头",
    "机柜接地螺丝": "机柜处接地螺丝",
    "地排接地螺丝": "地排处接地螺丝",
}
_ATTRIBUTE_WORDS: Final = {"保护": "保护措施", "套管": "套管保护"}
# Texts of a label, digits and numbers of groups are not checked, so nothing is claimed by naming them.
_UNNAMED: Final = frozenset({"文本", "组"})
_OTHER_WORDS: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        "other": "光纤插头 接地螺丝 螺丝 插头",
        "sound": "无异常 未发现异常 没有异常 未发现问题 没有问题 无问题",
        "absent": "未拍到 没有拍到 没拍到 未拍摄到 未见 未看到 看不到 未发现 没有发现 没有 缺少 缺失 未显示 "
        "未体现 未提供 未出现 不存在 未安装 没有安装 没安装 未装 缺装 漏装",
        "every": "均 全部 所有",
        "doubt": "是否 有无 无法判断 无法确认 不能确认 不确定",
        "join": "、 和 与 及 或",
        "clause": "， , 但",
        "sentence": "； ; 。 ！ ! ？ ?",
    }
)
_LINE_ENDS: Final = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
# Hold a word without meaning it: badly fitted is not absent.
_NO_WORDS: Final = ("未安装到位", "未安装牢固", "未安装好")


def read_words(text: str) -> Iterator[Word]:
    """The words in their order, of overlapping ones the longest; linear in the length of the text."""
    for match in _PATTERN.finditer(text):
        if number := match["image"] or match["nth"]:
            yield Word("image", number.translate(_DIGITS).lstrip("0"))
        elif match["without"]:
            yield Word("absent")
        elif word := _WORDS[match[0]]:
            yield word


def _join_overlap(attribute: str, value: str) -> Iterator[str]:
    """弯曲半径 and 半径合理 are said as 弯曲半径合理."""
    for length in range(1, min(len(attribute), len(value))):
        if attribute.endswith(value[:length]):
            yield attribute + value[length:]


def _all_words() -> dict[str, Word | None]:
    words: dict[str, Word | None] = dict.fromkeys(_NO_WORDS)
    words |= {said: Word(kind) for kind, listed in _OTHER_WORDS.items() for said in listed.split()}
    words |= dict.fromkeys(_LINE_ENDS, Word("sentence"))
    named = {name for attributes in ATTRIBUTES.values() for name in attributes} - _UNNAMED
    words |= {name: Word("attribute", name) for name in named}
    words |= {said: Word("attribute", name) for said, name in _ATTRIBUTE_WORDS.items()}
    for readings, listed in _VALUE_WORDS.items():
        for said in listed.split():
            words[said] = Word("value", readings=readings)
            for attribute, _ in readings:
                words |= dict.fromkeys(_join_overlap(attribute, said), words[said])
    words |= {said: Word("category", name) for said, name in _CATEGORY_WORDS.items()}
    words |= {name: Word("category", name) for name in ATTRIBUTES}
    return words


_WORDS: Final[Mapping[str, Word | None]] = MappingProxyType(_all_words())
_DIGITS: Final = str.maketrans("０１２３４５６７８９", "0123456789")
_DIGIT: Final = "[0-9０-９]"
_LONGEST_FIRST: Final = "|".join(map(re.escape, sorted(_WORDS, key=len, reverse=True)))
_CATEGORY: Final = "|".join(map(re.escape, sorted(ATTRIBUTES)))
# 图片3张 counts pictures; 图片3 names one.
_PATTERN: Final = re.compile(
    rf"(?:(?i:image)|图片|照片|图像|图)[_\s]?(?P<image>{_DIGIT}++)(?!\s?[张幅个])"
    rf"|第(?P<nth>{_DIGIT}++)[张幅](?=图|照片)"
    rf"|{_LONGEST_FIRST}|(?P<without>无)(?={_CATEGORY})"
)
