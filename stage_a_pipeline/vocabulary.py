"""What a summary may name: categories, their attributes, and the values of each.

The order of categories and attributes is the order in which summaries list them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

Dataset = Literal["bbu", "rru"]
DATASETS: Final[tuple[Dataset, ...]] = ("bbu", "rru")

IRRELEVANT: Final = "无关图片"
"""The whole summary of a photo that does not show an installation."""

STATISTICS: Final = "统计"
CATEGORY: Final = "类别"
REMARKS: Final = "备注"
GROUP_STATISTICS: Final = "分组统计"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a category. Without listed `values` it is free text (or digits)."""

    name: str
    values: tuple[str, ...] = ()
    digits: bool = False


@dataclass(frozen=True, slots=True)
class Category:
    """One category of object and the attributes a summary counts for it."""

    name: str
    attributes: tuple[Attribute, ...] = ()


_BRAND = Attribute("品牌", ("华为", "中兴", "爱立信"))
_VISIBLE = Attribute("可见性", ("完整", "部分"))
_COMPLIANT = Attribute("符合性", ("符合", "不符合"))
_INSTALLED = Attribute("安装状态", ("合格", "不合格"))
_TAGGED = Attribute("标签", ("有标签", "无标签"))
_GROUP = Attribute("组", digits=True)
_LABEL = (Attribute("文本"), Attribute("可读性", ("不可读",)))


def _compliance(name: str) -> Category:
    return Category(name, (_VISIBLE, _COMPLIANT))


def _fastening(name: str) -> Category:
    return Category(name, (_INSTALLED,))


_BBU = (
    Category("BBU设备", (_BRAND, _VISIBLE, Attribute("挡风板需求", ("免装", "空间充足需安装")))),
    Category("挡风板", (_BRAND, _VISIBLE, Attribute("安装方向", ("方向正确", "方向错误")))),
    _compliance("BBU安装螺丝"),
    _compliance("BBU端光纤插头"),
    _compliance("ODF端光纤插头"),
    _compliance("机柜处接地螺丝"),
    _compliance("地排处接地螺丝"),
    Category(
        "光纤",
        (
            Attribute("保护措施", ("有保护", "无保护")),
            Attribute("弯曲半径", ("半径合理", "半径不合理<4cm或成环")),
        ),
    ),
    Category("电线", (Attribute("捆扎", ("整齐", "散乱")),)),
    Category("标签", _LABEL),
)

_RRU = (
    Category("RRU设备"),
    Category("站点距离", (Attribute("站点距离", digits=True),)),
    _fastening("紧固件"),
    _fastening("RRU接地端"),
    _fastening("地排接地端螺丝"),
    Category("尾纤", (Attribute("套管保护", ("有套管", "无套管")), _TAGGED, _GROUP)),
    Category("接地线", (_TAGGED, _GROUP)),
    Category("标签", (*_LABEL, _GROUP)),
)

VOCABULARY: Final[Mapping[Dataset, tuple[Category, ...]]] = MappingProxyType({"bbu": _BBU, "rru": _RRU})
