"""The pages of a comparison in a real browser, opened from disk."""

from __future__ import annotations

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.report.comparison_page import ComparisonPhotos, write_comparison_pages
from stage_a_pipeline.run_comparison.comparison import compare_runs
from stage_a_pipeline.settings_report import ReportSettings
from tests.conftest import MISSION, write_groups
from tests.evaluation.conftest import summary
from tests.run_comparison.runs import board, record, rejection, write_run

pytestmark = pytest.mark.browser

SEVERE = ("serious", "critical")
EVIL = "<img src=x onerror=\"document.title='hacked'\">"
CLOSING = "</script><script>document.title='hacked'</script><!--"
WIRE, LABEL = ("电线", {"捆扎": {"整齐": 2}}), ("标签", {"文本": {"A1": 1}})


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    base = tmp_path_factory.mktemp("comparison")
    write_groups(base / "in", MISSION, {"pass": [2] * 3})
    ids = [f"QC-20241028-pass{number:03d}" for number in range(1, 31)]
    two = ("IMG_1.jpg", "IMG_2.jpg")
    before = [record(one, board(), "螺丝已拧紧", images=two) for one in ids]
    after = [record(one, board("方向错误"), "螺丝未拧紧", images=two) for one in ids]
    before += [
        record("QC-order", summary(WIRE, LABEL)),
        record("QC-label", board()),
        record("QC-lost", board()),
    ]
    after += [record("QC-order", summary(LABEL, WIRE)), record("QC-label", board(), label="fail")]
    before += [record(EVIL, CLOSING, EVIL), record("QC-count", summary(WIRE))]
    odd = summary((EVIL, {CLOSING: {EVIL: 1}}), ("电线", {"捆扎": {"整齐": 3}}))
    after += [record(EVIL, odd, f"{CLOSING} ", fail_reasons=None), record("QC-count", odd)]
    write_run(base / "old", before, engine={"checkpoint": EVIL})
    write_run(
        base / "new", after, [rejection("QC-lost", EVIL)], fingerprint="f2", engine={"checkpoint": CLOSING}
    )
    photos = ComparisonPhotos(ON_DISK, lambda mission: discover_groups(base / "in", mission).groups)
    comparison = compare_runs(base / "old", base / "new")
    write_comparison_pages(base / "page", comparison, ReportSettings(), photos)
    return base / "page"


def shown(tab):
    return tab.locator(".group h2").all_inner_texts()


def count(tab):
    return int(tab.locator("#shown").inner_text().split("/")[0])


def test_the_overview_tells_what_changed_and_leads_to_the_groups(watched, page):
    watched.open(page / "index.html")
    tab = watched.page
    assert tab.locator(".tile b").all_inner_texts()[:5] == ["64", "65", "34", "1", "0"]
    assert tab.locator(".settings del").count() == tab.locator(".settings ins").count() == 2
    row = tab.locator(".frequencies").first.locator("tr.matters", has_text="方向错误")
    assert row.locator("td").nth(1).inner_text() == "0.0% → 46.2%"
    row.locator("a").click()
    tab.wait_for_url("**/changes-1.html#*")
    assert count(tab) == 30
    assert watched.complaints == []


def test_a_changed_photo_shows_what_was_removed_and_added(watched, page):
    watched.open(page / "changes-1.html", "#kind=content&text=pass001")
    tab = watched.page
    first, second = tab.locator(".group").first.locator(".photo").all()
    # The first child names the mark for those who listen.
    told = "element => [...element.childNodes].slice(1).map((node) => node.textContent).join('')"
    assert [one.evaluate(told) for one in first.locator("del, ins").all()] == ["方向正确", "方向错误"]
    assert [one.evaluate(told) for one in second.locator(".free del, .free ins").all()] == ["已", "未"]
    assert first.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    first.locator("details summary").click()
    assert first.locator("details h4").all_inner_texts() == ["之前", "之后"]
    assert first.locator("details pre").count() == 2
    first.locator("button.enlarge").click()
    assert tab.locator("#photo").is_visible()


def test_a_count_a_label_and_an_order_are_marked_as_such(watched, page):
    watched.open(page / "changes-1.html", "#text=QC-count")
    tab = watched.page
    chip = tab.locator(".chip", has_text="整齐")
    assert chip.inner_text().replace("去掉", "").replace("新增", "").split() == ["整齐", "×2", "×3"]
    tab.locator("[name=text]").fill("QC-label")
    assert tab.locator(".group header del .badge").inner_text() == "通过"
    assert tab.locator(".group header ins .badge").inner_text() == "不通过"
    tab.locator("[name=text]").fill("QC-order")
    assert "仅写法" in tab.locator(".group").inner_text()


@pytest.mark.parametrize(
    ("field", "choice", "expected"),
    [
        ("kind", "lost", ["QC-lost"]),
        ("kind", "label", ["QC-label"]),
        ("kind", "wording", ["QC-order"]),
        ("category", "电线", [EVIL]),
        ("value", "电线.捆扎=整齐", [EVIL, "QC-count"]),
        ("rejection", "read/truncated", ["QC-lost"]),
        ("text", "qc-COUNT", ["QC-count"]),
    ],
)
def test_changes_are_filtered_and_the_address_keeps_it(watched, page, field, choice, expected):
    watched.open(page / "changes-1.html")
    tab = watched.page
    tab.locator(".group").nth(19).wait_for()
    control = tab.locator(f"[name={field}]")
    control.fill(choice) if field == "text" else control.select_option(choice)
    assert sorted(shown(tab)) == sorted(expected)
    tab.reload()
    tab.locator(".group").first.wait_for()
    assert sorted(shown(tab)) == sorted(expected)


def test_a_link_leads_to_its_group_on_its_page(watched, page):
    watched.open(page / "changes-1.html")
    tab = watched.page
    tab.locator("nav.pages button", has_text="下一页").first.click()
    wanted = shown(tab)[5]
    address = tab.locator(".group a.link").nth(5).evaluate("link => link.href")
    watched.open(page / "index.html")
    tab.goto(address)
    tab.locator(".group.sought").wait_for()
    assert tab.locator(".group.sought h2").inner_text() == wanted


def test_hostile_words_are_shown_as_they_are_and_run_nothing(watched, page):
    tab = watched.page
    for name in ("index.html", "changes-1.html"):
        watched.open(page / name)
        tab.wait_for_load_state("networkidle")
        for details in tab.locator("details summary").all():
            details.click()
        tab.wait_for_timeout(100)
        assert "hacked" not in tab.title()
        assert tab.locator("main img[src=x], main script").count() == 0
    watched.open(page / "changes-1.html", "#text=onerror")
    assert EVIL in shown(tab)
    tab.locator("[data-switch=language]").click()
    assert EVIL in shown(tab)
    assert tab.locator(".badge.kind").first.inner_text() == "groups lost"
    assert watched.complaints == []
    assert all(url.startswith(("file://", "about:")) for url in watched.requests)


@pytest.mark.parametrize("name", ["index.html", "changes-1.html"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1600, "light")])
def test_pages_are_readable_at_any_width_and_accessible(watched, page, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    tab = watched.page
    tab.set_viewport_size({"width": width, "height": 900})
    tab.emulate_media(color_scheme=scheme)
    watched.open(page / name)
    tab.locator("h1, .group").last.wait_for(state="attached")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(tab)
    severe = [one for one in found.response["violations"] if one["impact"] in SEVERE]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in severe] == []
