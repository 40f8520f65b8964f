"""The picture: well-formed, complete, and safe whatever the values are."""

import re
import time
from xml.etree import ElementTree

import pytest

from stage_a_pipeline.evaluation.confusion import Confusion, confuse
from stage_a_pipeline.evaluation.picture import draw_evaluation
from stage_a_pipeline.evaluation.scores import score_readings
from stage_a_pipeline.svg import WIDTH, shortened, text_width
from stage_a_pipeline.vocabulary import VOCABULARY
from tests.evaluation.conftest import read, summary, wire

SVG = "{http://www.w3.org/2000/svg}"


def draw(readings):
    return draw_evaluation(confuse(readings), score_readings(readings), title="builtin: 任务")


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def labels(*names):
    return summary(("标签", {"文本": dict.fromkeys(names, 1)}))


def test_every_attribute_has_a_panel_and_every_count_a_cell():
    svg = draw([read(wire(整齐=3), wire(散乱=2)), read(wire(整齐=4), wire(整齐=4))])
    names = [panel.get("aria-label") for panel in ElementTree.fromstring(svg).iter(f"{SVG}g")
             if panel.get("role") == "img"]  # fmt: skip
    assert names == ["类别", "电线.捆扎"]
    shown = texts(svg)
    assert {"builtin: 任务", "整齐", "散乱", "missing", "invented", "4", "2", "1"} <= set(shown)
    hints = [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert "true: 整齐, said: 散乱: 2 of 7 (28.6%)" in hints
    assert any("2 photos" in text and "exact 50.0%" in text and "valid 100.0%" in text for text in shown)


def test_free_texts_of_many_values_are_listed_with_what_was_left_out():
    readings = [read(labels(f"T{n}"), labels(f"U{n}")) for n in range(30)]
    shown = texts(draw(readings))
    assert "60 different values, 0 of 30 right;" in shown
    assert "the 10 most frequent of 30 confusions, true → said" in shown
    assert len([text for text in shown if re.fullmatch(r"T\d+  →  U\d+", text)]) == 10


def test_values_are_escaped_and_what_xml_cannot_hold_is_replaced():
    hostile = '</text><script>alert(1)</script>&"\x0b\ud800'
    svg = draw_evaluation([Confusion("标签.文本", {(hostile, None): 1})], score_readings([]), title=hostile)
    root = ElementTree.fromstring(svg.encode())
    assert not list(root.iter(f"{SVG}script"))
    assert any("<script>" in (element.text or "") for element in root.iter(f"{SVG}title"))


def brands(name, *more):
    return summary(("BBU设备", {"品牌": {name: 1}}), *more)


MANY_TEXTS = [read(labels(f"T{n}"), wire(整齐=1)) for n in range(30)]
INVENTED = [read(brands("华为"), brands(f"牌{n}", (f"怪{n}", {}))) for n in range(40)]


def test_values_that_are_invented_without_end_are_listed_too():
    shown = texts(draw(INVENTED))
    assert "41 different values, 0 of 40 right;" in shown
    assert "41 different values, 40 of 80 right;" in shown


def test_all_categories_of_the_vocabulary_fit_one_map():
    names = {category.name for categories in VOCABULARY.values() for category in categories}
    svg = draw([read(summary(*((name, {}) for name in names)), summary())])
    assert names <= set(texts(svg))
    assert_within(ElementTree.fromstring(svg), panels=1)


@pytest.mark.parametrize("readings", [MANY_TEXTS, INVENTED])
def test_panels_stay_within_the_picture_and_do_not_overlap(readings):
    root = ElementTree.fromstring(draw(readings))
    assert_within(root, panels=3 if readings is MANY_TEXTS else 2)


def assert_within(root, *, panels):
    boxes = []
    for panel in root.iter(f"{SVG}g"):
        if panel.get("role") == "img":
            x, y = map(float, re.findall(r"[\d.]+", panel.get("transform")))
            frame = panel.find(f"{SVG}rect")
            boxes.append((x, y, x + float(frame.get("width")), y + float(frame.get("height"))))
            drawn = [float(box.get("x")) + float(box.get("width")) for box in panel.iter(f"{SVG}rect")]
            assert max(drawn) <= float(frame.get("x")) + float(frame.get("width"))
    assert len(boxes) == panels
    assert max(box[2] for box in boxes) <= WIDTH
    assert max(box[3] for box in boxes) <= float(root.get("height"))
    for number, (x, y, right, bottom) in enumerate(boxes):
        for other in boxes[:number]:
            assert x >= other[2] or right <= other[0] or y >= other[3] or bottom <= other[1]


def test_an_evaluation_of_nothing_is_still_a_picture():
    assert "0 photos" in " ".join(texts(draw([])))


def test_the_same_readings_give_the_same_picture():
    readings = [read(labels("a", "b"), labels("c")), read(wire(整齐=1), wire(散乱=1))]
    assert draw(readings) == draw(readings[::-1])


def test_long_labels_are_shortened_to_the_width_they_have():
    assert shortened("短", 100) == "短"
    long = shortened("长" * 50, 100)
    assert long.endswith("…")
    assert text_width(long) <= 100 < text_width(long + "长")
    assert shortened("长短", 5) == "…"


def test_a_runaway_text_is_shortened_in_linear_time():
    started = time.process_time()
    assert len(shortened("长" * 200_000, 100)) == 8
    assert time.process_time() - started < 5
