"""How a text is read: which claims it makes, of which images."""

from __future__ import annotations

import pytest

from stage_a_pipeline.stage_b.claim_words import ADVERSE, ATTRIBUTES, FAVOURABLE, READABLE, read_words
from stage_a_pipeline.stage_b.claims import read_claims
from stage_a_pipeline.vocabulary import VOCABULARY


def claims_of(text: str) -> list[str]:
    """Each claim as `kind category.attribute=value @images`, of several parts the first with a `+`."""
    told = []
    for claim in read_claims(text).claims:
        parts = sorted(claim.fact.parts)
        category, attribute, value = parts[0] if parts else ("", "", "")
        name = ".".join(filter(None, (category, attribute))) + (f"={value}" if value else "")
        images = f" @{','.join(sorted(claim.images))}" if claim.images else ""
        every = " everywhere" if claim.every else ""
        told.append(f"{claim.fact.kind} {name}{'+' if len(parts) > 1 else ''}".strip() + images + every)
    return told


LONG_BEND = "光纤.弯曲半径=半径不合理<4cm或成环"
READ = [
    # The longest word wins.
    ("BBU安装螺丝不符合", ["value BBU安装螺丝.符合性=不符合"]),
    ("地排处接地螺丝符合", ["value 地排处接地螺丝.符合性=符合"]),
    ("地排接地端螺丝合格", ["value 地排接地端螺丝.安装状态=合格"]),
    ("BBU端光纤插头", ["shown BBU端光纤插头"]),
    ("光纤插头", []),
    ("光纤弯曲半径不合理", [f"value {LONG_BEND}"]),
    ("光纤半径不合理<4cm或成环", [f"value {LONG_BEND}"]),
    ("挡风板安装方向正确", ["value 挡风板.安装方向=方向正确"]),
    ("BBU设备挡风板需求", ["stated BBU设备.挡风板需求"]),
    # A value belongs to the category before it, then to the next, then to the sentence's last.
    ("电线散乱BBU设备华为", ["value 电线.捆扎=散乱", "value BBU设备.品牌=华为"]),
    ("华为BBU设备，不可读标签", ["value BBU设备.品牌=华为", "value 标签.可读性=不可读"]),
    ("BBU设备上电线散乱，部分可见", ["value 电线.捆扎=散乱", "value BBU设备.可见性=部分"]),
    ("BBU安装螺丝，不符合", ["value BBU安装螺丝.符合性=不符合"]),
    ("BBU安装螺丝；完整", ["shown BBU安装螺丝", "value BBU安装螺丝.可见性=完整+"]),
    ("紧固件不符合", ["value 紧固件.安装状态=不合格"]),
    ("散乱", ["value 电线.捆扎=散乱"]),
    ("华为", ["value BBU设备.品牌=华为+"]),
    # Lists.
    ("挡风板、BBU设备完整", ["value BBU设备.可见性=完整", "value 挡风板.可见性=完整"]),
    (
        "挡风板和BBU设备均完整",
        ["value BBU设备.可见性=完整 everywhere", "value 挡风板.可见性=完整 everywhere"],
    ),
    ("紧固件合格、尾纤无套管", ["value 紧固件.安装状态=合格", "value 尾纤.套管保护=无套管"]),
    ("未拍到接地线、标签，紧固件合格", ["absent 接地线", "absent 标签", "value 紧固件.安装状态=合格"]),
    # Absence, before and behind, and of a value.
    ("未安装挡风板", ["absent 挡风板"]),
    ("挡风板缺失", ["absent 挡风板"]),
    ("无挡风板", ["absent 挡风板"]),
    ("挡风板，未安装", ["absent 挡风板"]),
    ("尾纤、接地线均未拍到", ["absent 尾纤 everywhere", "absent 接地线 everywhere"]),
    ("需安装挡风板但未安装", ["value BBU设备.挡风板需求=空间充足需安装", "absent 挡风板"]),
    ("无需安装挡风板", ["value BBU设备.挡风板需求=免装"]),
    ("未发现电线散乱", ["not_value 电线.捆扎=散乱"]),
    ("没有散乱的电线", ["not_value 电线.捆扎=散乱"]),
    ("未拍到挡风板但电线散乱", ["absent 挡风板", "value 电线.捆扎=散乱"]),
    ("未拍到挡风板、电线散乱", ["not_value 电线.捆扎=散乱", "absent 挡风板"]),
    ("未见", []),
    ("紧固件未安装到位", ["shown 紧固件"]),
    ("尾纤未见套管", ["value 尾纤.套管保护=无套管"]),
    ("光纤缺少保护措施", ["value 光纤.保护措施=无保护"]),
    # 标签 is a category, and an attribute of others.
    ("尾纤标签", ["stated 尾纤.标签"]),
    ("尾纤无标签", ["value 尾纤.标签=无标签"]),
    ("尾纤没有标签", ["value 尾纤.标签=无标签"]),
    ("尾纤和标签", ["shown 尾纤", "shown 标签"]),
    ("无标签", ["absent 标签"]),
    ("有标签", ["shown 标签"]),
    # The whole group.
    ("检查项均符合", ["sound everywhere"]),
    ("符合要求", ["sound"]),
    ("未发现问题", ["sound"]),
    ("螺丝符合", ["value BBU安装螺丝.符合性=符合+"]),
    ("BBU设备可见，符合要求", ["shown BBU设备", "sound"]),
    # Nothing that can be checked.
    ("光纤有无保护", []),
    ("无法判断电线是否整齐", []),
    ("站点距离23米", ["shown 站点距离"]),
    ("2个紧固件", ["shown 紧固件"]),
    ("部分照片模糊", []),
    ("", []),
    # Images.
    ("image_2中挡风板方向错误，电线散乱", ["value 挡风板.安装方向=方向错误 @2", "value 电线.捆扎=散乱"]),
    ("电线散乱（IMAGE_1）", ["value 电线.捆扎=散乱 @1"]),
    ("图片３显示电线散乱", ["value 电线.捆扎=散乱 @3"]),
    ("第2张照片中电线散乱", ["value 电线.捆扎=散乱 @2"]),
    ("图1、图02中电线散乱", ["value 电线.捆扎=散乱 @1,2"]),
    ("image_1，电线散乱，光纤无保护", ["value 电线.捆扎=散乱 @1", "value 光纤.保护措施=无保护"]),
    ("光纤无保护，电线散乱，见图1", ["value 光纤.保护措施=无保护", "value 电线.捆扎=散乱 @1"]),
    ("图1中电线散乱、光纤无保护", ["value 电线.捆扎=散乱 @1", "value 光纤.保护措施=无保护 @1"]),
    ("电线散乱（图1）、光纤无保护", ["value 电线.捆扎=散乱 @1", "value 光纤.保护措施=无保护"]),
    ("图1；电线散乱", ["value 电线.捆扎=散乱"]),
    ("图片3张，电线散乱", ["value 电线.捆扎=散乱"]),
    # Said again, or more weakly.
    ("电线散乱；电线散乱", ["value 电线.捆扎=散乱"]),
    ("电线；捆扎；电线散乱；散乱", ["value 电线.捆扎=散乱"]),
    ("挡风板完整；完整", ["value 挡风板.可见性=完整"]),
]


@pytest.mark.parametrize(("text", "claims"), READ)
def test_claims_of_a_text(text, claims):
    assert claims_of(text) == claims


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("图片3，image_12", {"3", "12"}),
        ("是否见image_4", {"4"}),
        ("image_0", {""}),
        ("image_" + "9" * 5000, {"9" * 5000}),
        ("图片10张", set()),
        ("image_", set()),
    ],
)
def test_images_that_a_text_refers_to(text, images):
    assert read_claims(text).images == images


def test_every_value_is_read_by_its_own_name():
    for category, attributes in ATTRIBUTES.items():
        for attribute, values in attributes.items():
            for value in values:
                # 部分 alone mostly means some of several.
                said = "可见性部分" if value == "部分" else value
                assert claims_of(f"{category}{said}") == [f"value {category}.{attribute}={value}"]


def test_every_category_and_attribute_is_read_by_its_own_name():
    for category, attributes in ATTRIBUTES.items():
        assert claims_of(category) == [f"shown {category}"]
        for attribute in attributes.keys() - {"文本", "组", category}:
            assert claims_of(f"{category}的{attribute}") == [f"stated {category}.{attribute}"]


def test_what_speaks_for_or_against_is_in_the_vocabulary():
    known = {
        (name, value) for listed in ATTRIBUTES.values() for name, values in listed.items() for value in values
    }
    assert known >= ADVERSE | FAVOURABLE
    assert not ADVERSE & FAVOURABLE
    of_vocabulary = {
        (attribute.name, value)
        for categories in VOCABULARY.values()
        for category in categories
        for attribute in category.attributes
        for value in attribute.values
    }
    assert known - of_vocabulary == {READABLE}


def test_words_that_mean_nothing_are_passed_over():
    assert [word.kind for word in read_words("今天天气不错<|im_end|>\x00")] == []
