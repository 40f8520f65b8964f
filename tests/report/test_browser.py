"""The report as people use it: opened from disk in a real browser, or behind a plain web server."""

from __future__ import annotations

import functools
import json
import os
import random
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from stage_a_pipeline.demo.tree import write_demo_tree
from tests.conftest import MISSION, write_photo
from tests.report.conftest import Shot, Ticket, deliver, write_report

pytestmark = pytest.mark.browser

BRANDS = ("华为", "中兴", "爱立信")
SEVERE = ("serious", "critical")


def summary(brand: str, *, direction: str = "方向正确", remark: str | None = None) -> str:
    told = {
        "统计": [
            {"类别": "BBU设备", "品牌": {brand: 1}, "可见性": {"完整": 1}},
            {"类别": "挡风板", "安装方向": {direction: 2}},
        ]
    }
    return json.dumps(told | ({"备注": [remark]} if remark else {}), ensure_ascii=False)


def ticket(number: int) -> Ticket:
    label = "fail" if number % 3 == 0 else "pass"
    direction = "方向错误" if label == "fail" else "方向正确"
    shots = [Shot(f"IMG_{n}.jpg", summary(BRANDS[(number + n) % 3], direction=direction)) for n in (1, 2)]
    shots.append(Shot("IMG_3.jpg", "无关图片"))
    return Ticket(
        label, f"QC-BBU-20241028-{number:05d}", shots, ("挡风板方向错误",) if label == "fail" else None
    )


LOST = Ticket(
    "pass", "QC-LOST-20241028-1", [Shot("a.jpg", rejected=("truncated", "ends early")), Shot("b.jpg", "x")]
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    base = tmp_path_factory.mktemp("report")
    settings = deliver(base, [*map(ticket, range(50)), LOST])
    write_report(settings, images_per_second=12.5, inferred=153, seconds=12.2)
    return settings.report_dir / MISSION


def shown(page) -> list[str]:
    return page.locator(".group h2").all_inner_texts()


def count(page) -> int:
    """How many groups match, once all are read."""
    from playwright.sync_api import expect

    expect(page.locator("#shown")).to_contain_text("/")
    expect(page.locator("#shown")).not_to_contain_text("正在", timeout=60_000)
    return int(page.locator("#shown").inner_text().split("/")[0].replace(",", ""))


def test_the_overview_counts_and_leads_to_filtered_groups(watched, report):
    watched.open(report / "index.html")
    page = watched.page
    assert page.locator(".tile b").all_inner_texts()[:4] == ["50", "1", "0", "51"]
    assert page.locator(".frequencies tr.matters").first.is_visible()
    page.locator(".frequencies tr.matters a", has_text="方向错误").first.click()
    page.wait_for_url("**/groups.html#*")
    assert count(page) == 17
    assert watched.complaints == []


def test_a_group_shows_photos_tables_reasons_and_the_raw_text_behind_a_click(watched, report):
    watched.open(report / "groups.html", "#page=1")
    page = watched.page
    assert len(shown(page)) == 20
    first = page.locator(".group").first
    assert first.locator(".reasons").inner_text() == "挡风板方向错误"
    rows = [row.split() for row in first.locator("table.summary").first.locator("tr").all_inner_texts()]
    assert rows == [
        ["BBU设备", "品牌", "中兴"],
        ["可见性", "完整"],
        ["挡风板", "安装方向", "方向错误", "×2"],
    ]
    raw = first.locator("details.raw").first
    assert not raw.locator("pre").is_visible()
    raw.locator("summary").click()
    assert json.loads(raw.locator("pre").inner_text())["统计"][0]["类别"] == "BBU设备"
    assert first.locator("img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


@pytest.mark.parametrize(
    ("field", "choice", "expected"),
    [
        ("label", "fail", 17),
        ("state", "rejected", 1),
        ("category", "无关图片", 50),
        ("value", "挡风板.安装方向=方向错误", 17),
        ("rejection", "read/truncated", 1),
        ("text", "00007", 1),
        ("text", "ENDS EARLY", 1),
        ("text", "方向错误 00003", 1),
        ("text", "nothing of this kind", 0),
    ],
)
def test_groups_are_filtered_and_the_address_keeps_it(watched, report, field, choice, expected):
    watched.open(report / "groups.html")
    page = watched.page
    control = page.locator(f"[name={field}]")
    control.fill(choice) if field == "text" else control.select_option(choice)
    assert count(page) == expected
    address = page.url
    watched.open(report / "index.html")
    page.goto(address)
    page.reload()
    assert count(page) == expected
    page.locator("button[type=reset]").click()
    page.locator(".group").nth(19).wait_for()
    assert count(page) == 51


def test_a_link_leads_to_its_group_on_its_page(watched, report):
    watched.open(report / "groups.html")
    page = watched.page
    page.locator("nav.pages button", has_text="下一页").first.click()
    link = page.locator(".group a.link").nth(5)
    wanted = shown(page)[5]
    address = link.evaluate("link => link.href")
    watched.open(report / "index.html")
    page.goto(address)
    page.locator(".group.sought").wait_for()
    assert page.locator(".group.sought h2").inner_text() == wanted


def test_keys_move_turn_search_and_enlarge(watched, report):
    watched.open(report / "groups.html")
    page = watched.page
    focused = "document.activeElement.querySelector('h2')?.textContent"
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate(focused) == shown(page)[1]
    page.keyboard.press("k")
    assert page.evaluate(focused) == shown(page)[0]
    page.keyboard.press("Enter")
    assert page.locator("#photo").is_visible()
    page.keyboard.press("ArrowRight")
    assert page.locator("#photo p").inner_text() == "IMG_2.jpg"
    page.keyboard.press("Escape")
    before = shown(page)
    page.keyboard.press("n")
    assert shown(page) != before
    page.keyboard.press("/")
    page.keyboard.type("0000")
    assert count(page) == 10
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    assert watched.complaints == []


def test_language_and_theme_are_switched_and_kept(watched, report):
    watched.open(report / "groups.html")
    page = watched.page
    page.locator("[data-switch=language]").click()
    assert page.locator("nav a").all_inner_texts() == ["Overview", "Groups"]
    assert page.locator(".group .badge").first.inner_text() == "fail"
    assert page.locator("#shown").inner_text() == "51 of 51 groups"
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(ground)
    page.locator("[data-switch=theme]").click()
    dark = page.evaluate(ground)
    assert light != dark
    page.goto((report / "index.html").as_uri())
    assert page.locator("nav a").all_inner_texts() == ["Overview", "Groups"]
    assert page.evaluate(ground) == dark
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("name", ["index.html", "groups.html"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1600, "light")])
def test_pages_are_readable_at_any_width_and_accessible(watched, report, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = watched.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    watched.open(report / name)
    page.locator("h1, .group").last.wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # The page allows no script but its own; axe comes by way of the browser's own tools.
    found = Axe().run(page)
    severe = [one for one in found.response["violations"] if one["impact"] in SEVERE]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in severe] == []


def test_it_works_the_same_behind_a_plain_web_server_and_asks_nobody_else(watched, report):
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(report.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        watched.page.goto(f"{address}/{quote(MISSION)}/groups.html")
        watched.page.locator(".group").nth(19).wait_for()
        watched.page.wait_for_load_state("networkidle")
        server.shutdown()
    assert {url.split("/", 3)[2] for url in watched.requests} == {address.removeprefix("http://")}
    assert watched.complaints == []


# --- the demo ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A mission of the demo tree, one photo of it broken, from the pipeline with the built-in checkpoint."""
    base = tmp_path_factory.mktemp("demo")
    write_demo_tree(base / "in", missions=[MISSION], groups=5, seed=1, broken=1)
    settings = base / "settings.toml"
    settings.write_text(
        '[discovery]\ninput_root = "in"\n[fail_reasons]\nworkbook = "in/reviews.xlsx"\n'
        '[engine]\nbatch_size = 16\nmax_new_tokens = 256\n[output]\noutput_dir = "out"\n'
        '[inference]\nmax_failed_fraction = 1.0\nworker_processes = false\nlease_dir = "leases"\n'
    )
    # A process of its own: playwright's event loop runs in this one.
    stage_a = str(Path(sys.executable).with_name("stage-a"))
    command = [stage_a, "materialize", "--mission", MISSION, "--settings", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return base / "out" / "report" / MISSION


def test_the_report_of_the_demo_shows_what_the_model_said_and_what_was_lost(watched, demo):
    watched.open(demo / "index.html")
    page = watched.page
    assert page.locator(".tile b").all_inner_texts()[:4] == ["4", "1", "0", "5"]
    page.locator("section[aria-labelledby=losses] a").click()
    assert count(page) == 1
    assert page.locator(".group .rejection").inner_text().startswith("被拒绝")
    page.locator("button[type=reset]").click()
    page.locator(".group").nth(4).wait_for()
    assert page.locator("table.summary").count() > 4
    assert (
        page.locator(".group img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        > 0
    )
    assert watched.complaints == []


# --- hostile words -------------------------------------------------------------------------------

EVIL = "<img src=x onerror=\"document.title='hacked'\">"
CLOSING = "</script><script>document.title='hacked'</script><!--"
MARKDOWN = "[x](javascript:alert(1)) ${alert(1)} {{7*7}} \\u003c `"
SEPARATORS = "one\u2028two\u2029three\x07"


def hostile_tickets() -> list[Ticket]:
    in_json = json.dumps(
        {"统计": [{"类别": EVIL, CLOSING: {EVIL: CLOSING}}], "备注": [MARKDOWN]}, ensure_ascii=False
    )
    shots = [
        Shot(f"{EVIL.replace('/', '')}.jpg", EVIL),
        Shot("../../etc.jpg".replace("/", "\u2215"), in_json),
        Shot("plain.jpg", '{"__proto__": {"polluted": 1}, "统计": "' + CLOSING.replace('"', "") + '"}'),
        Shot("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe.jpg", MARKDOWN),
    ]
    lost = [Shot('"><svg onload=alert(1)>.jpg', rejected=("broken", CLOSING), raw=EVIL + SEPARATORS)]
    return [
        Ticket("fail", EVIL, shots, (CLOSING, EVIL)),
        Ticket("pass", "a" * 300 + CLOSING, [Shot("1.jpg", "无关图片")], folder="two"),
        Ticket("pass", "constructor", lost, folder="three"),
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    base = tmp_path_factory.mktemp("hostile")
    settings = deliver(base, hostile_tickets())
    before = {path for path in base.rglob("*") if settings.report_dir not in path.parents}
    write_report(settings)
    after = {path for path in base.rglob("*") if settings.report_dir not in (*path.parents, path)}
    locks = settings.output.work_dir
    assert {path for path in after - before if path != locks and locks not in path.parents} == set()
    return settings.report_dir / MISSION


def test_hostile_words_are_shown_as_they_are_and_run_nothing(watched, hostile):
    page = watched.page
    for name in ("index.html", "groups.html"):
        watched.open(hostile / name)
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(200)
        assert "hacked" not in page.title()
        assert page.locator("main img[src=x], main svg[onload], main script").count() == 0
    assert shown(page)[0] == EVIL
    assert page.locator(".reasons li").all_inner_texts() == [CLOSING, EVIL]
    assert page.evaluate("({}).polluted") is None
    page.locator("[data-switch=language]").click()
    assert shown(page)[0] == EVIL
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert watched.complaints == []


def test_hostile_names_lead_to_no_place_outside_the_report(hostile):
    for path in hostile.rglob("*"):
        assert path.resolve().is_relative_to(hostile.resolve())
        assert path.name.isascii()
    for path in [*hostile.glob("*.html"), *hostile.rglob("*.js")]:
        text = path.read_text("utf-8")
        assert str(hostile.parents[2]) not in text
        assert "/secret/place" not in text
        assert CLOSING not in text
        assert EVIL not in text


# --- ten thousand groups -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    base = tmp_path_factory.mktemp("large")
    originals = [write_photo(base / "originals" / f"{n}.jpg", seed=n) for n in range(20)]
    rng = random.Random(1)

    def link(path, number):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(rng.choice(originals), path)

    settings = deliver(base, [ticket(number) for number in range(10_000)], photo=link)
    return write_report(settings), settings.report_dir / MISSION


def test_ten_thousand_groups_are_paged_and_filtered(watched, large):
    report, folder = large
    assert (report.groups, report.photos, report.photos_without_thumbnail) == (10_000, 30_000, 0)
    watched.open(folder / "groups.html")
    page = watched.page
    page.locator(".group").nth(19).wait_for()
    assert count(page) == 10_000
    assert page.locator(".group").count() == 20
    page.locator("[name=label]").select_option("fail")
    assert count(page) == 3334
    page.locator("[name=text]").fill("09999")
    assert shown(page) == ["QC-BBU-20241028-09999"]
    page.locator("button[type=reset]").click()
    page.locator("nav.pages button", has_text="末页").first.click()
    assert page.locator(".pages span").first.inner_text() == "第 500 / 500 页"
    assert watched.complaints == []
