"""The dashboard asks for nothing but what a real run exports, in PromQL that Prometheus understands."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import promql_parser
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stage_a_pipeline.inference.metrics import Progress, Queue, ShardMetrics
from stage_a_pipeline.inference.prometheus import PrometheusFile
from stage_a_pipeline.telemetry.endpoint import MetricsEndpoint
from stage_a_pipeline.telemetry.metrics_folder import MetricsFolder
from tests.conftest import MISSION, write_groups
from tests.telemetry.conftest import Runs, free_port
from tests.telemetry.test_endpoint import eventually

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "stage_a.json").read_text("utf-8"))
VARIABLES = {"$__rate_interval": "1m", "$device": ".*", "$mission": ".*"}
EXPRESSIONS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}


def filled_in(expression):
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def parsed(expression):
    """The selectors of an expression, and all label names that it groups or joins by."""
    promql_parser.parse(filled_in(expression))
    selectors = re.findall(r"(stage_a_\w+)(?:\{([^}]*)\})?", expression)
    used = [(name, dict(re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', labels))) for name, labels in selectors]
    joined = {
        label.strip()
        for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression)
        for label in labels.split(",")
    }
    return used, joined


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The labels and values of each metric that a run with a rejected photo exports, while it goes on."""
    folder = tmp_path_factory.mktemp("dashboard")
    write_groups(folder / "in", MISSION, {"fail": [3], "pass": [2]})
    runs = Runs(folder)
    faults = '[[fault]]\nmatch = "QC-20241028-fail001/IMG_1*"\nkind = "empty"\n'
    task = runs.task(faults=faults, inference={"worker_processes": False})
    runs.run(task)
    # The same counts as the run's last ones, of a run that is not over.
    shown = PrometheusFile(folder / "metrics", "cpu", [MISSION], pytest.fail)
    last = runs.progress[-1]
    shown(Progress(last.total + 5, last.metrics, Queue(2, 3)))
    shown._write(is_running=True)
    found = {}
    for family in text_string_to_metric_families(MetricsFolder(folder / "metrics").text()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for name, value in sample.labels.items():
                labels.setdefault(name, set()).add(value)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_every_metric_label_and_value_of_an_expression_is_one_that_a_run_exports(expression, exported):
    used, joined = parsed(expression)
    assert used
    for name, labels in used:
        assert name in exported
        assert set(labels) <= set(exported[name]), name
        for label, value in labels.items():
            if not value.startswith("$"):
                assert set(value.split("|")) <= exported[name][label], (name, label)
    assert joined <= set().union(*(exported[name] for name, _ in used))


def test_legends_name_labels_that_are_left(exported):
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = re.search(r"\bsum by \(([^)]*)\)", target["expr"])
            left = {label.strip() for label in grouped[1].split(",")} if grouped else {"device", "mission"}
            assert shown <= left, panel["title"]


def test_the_variables_list_labels_of_a_metric_that_is_exported(exported):
    queries = [each["query"]["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    assert len(queries) == 2
    for query in queries:
        name, label = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", query).groups()
        assert label in exported[name]


@pytest.mark.parametrize(
    "shown",
    [
        "stage_a_photos_total",
        "stage_a_queue_photos",
        "stage_a_rejects_total",
        "stage_a_seconds_total",
        "stage_a_tokens_total",
        "stage_a_places_total",
        "stage_a_eta_seconds",
    ],
)
def test_rates_queue_rejects_waiting_tokens_fill_and_eta_have_a_panel(shown):
    assert any(shown in expression for expression in EXPRESSIONS.values())


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_prometheus_takes_its_configuration():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    for file in sorted((DEPLOY / "prometheus").glob("*.yml")):
        subprocess.run([promtool, "check", "config", file], check=True, capture_output=True)


@pytest.fixture
def prometheus(tmp_path):
    """A real Prometheus that scrapes five times a second a run that goes on, and answers queries."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian's package of that name)")
    metrics, port, own = tmp_path / "metrics", free_port(), free_port()
    config = (DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    config = config.replace("15s", "200ms").replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    (tmp_path / "prometheus.yml").write_text(config, "utf-8")
    shown = PrometheusFile(metrics, "cpu", [MISSION], pytest.fail, seconds=0.1)
    with MetricsEndpoint(metrics, "127.0.0.1", port, pytest.fail), shown:
        shown(at(photos=1))
        process = subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{own}",
                "--log.level=error",
            ]
        )
        yield own, shown
        process.terminate()
        process.wait(20)


def at(*, photos):
    metrics = ShardMetrics(
        photos=photos,
        inferred=photos,
        rejected=1,
        places=4 * photos,
        filled_places=3 * photos,
        generated_tokens=10 * photos,
        device_seconds=0.9 * photos,
        waiting_seconds=0.1 * photos,
        seconds=photos,
        rejects={"read/truncated": 1},
    )
    return Progress(100, metrics, Queue(2, 4))


def asked(port, expression):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    query = urllib.parse.urlencode({"query": filled_in(expression)})
    with opener.open(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def test_a_real_prometheus_answers_every_panel(prometheus):
    port, shown = prometheus
    eventually(lambda: asked(port, "stage_a_photos_done"))
    shown(at(photos=40))
    eventually(lambda: [row for row in asked(port, "stage_a_photos_done") if row["value"][1] == "40"])
    # Rates need a second sample of the new counts.
    time.sleep(0.5)
    answers = {name: asked(port, expression) for name, expression in EXPRESSIONS.items()}
    assert [name for name, rows in answers.items() if not rows] == []
    (waiting,) = answers["Device wait A"]
    assert float(waiting["value"][1]) == pytest.approx(0.1)
    (fill,) = answers["Batch fill A"]
    assert float(fill["value"][1]) == pytest.approx(0.75)
    assert {row["metric"]["state"]: row["value"][1] for row in answers["Queue A"]} == {
        "ready": "2",
        "under_way": "4",
    }
    assert [row["value"][1] for row in answers["Stopped before the end A"]] == ["0"]
