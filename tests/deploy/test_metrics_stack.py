"""What the compose file of the metrics promises, and that its parts know each other."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from stage_a_pipeline.cli import main
from stage_a_pipeline.settings import load_settings
from stage_a_pipeline.telemetry.endpoint import DEFAULT_PORT
from tests.deploy.conftest import DEPLOY


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load((DEPLOY / "compose.metrics.yaml").read_text("utf-8"))["services"]


def test_every_new_service_is_hardened_and_only_grafana_is_published_on_the_loopback(services):
    new = {name: service for name, service in services.items() if name != "code"}
    assert set(new) == {"metrics", "prometheus", "grafana"}
    for name, service in new.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    published = {name: service["ports"] for name, service in new.items() if "ports" in service}
    assert published == {"grafana": ["127.0.0.1:3001:3000"]}
    password = services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert password.startswith("${GRAFANA_PASSWORD:?")


def test_runs_write_where_the_metrics_are_served_from_and_prometheus_scrapes_there(services):
    written = load_settings(environ={}, settings_file=DEPLOY / "metrics.toml").metrics_dir
    program, command, *arguments = services["metrics"]["command"]
    assert (program, command) == ("stage-a", "metrics")
    given = main.commands["metrics"].make_context("metrics", list(arguments)).params
    assert given["folder"] == written
    config = yaml.safe_load((DEPLOY / "prometheus" / "compose.yml").read_text("utf-8"))
    (scraped,) = config["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"metrics:{given['port']}"]}]
    alone = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert alone["scrape_configs"][0]["static_configs"] == [{"targets": [f"127.0.0.1:{DEFAULT_PORT}"]}]


def test_every_file_that_is_mounted_exists(services):
    mounts = [volume for service in services.values() for volume in service.get("volumes", ())]
    own = [Path(DEPLOY, volume.split(":")[0]) for volume in mounts if volume.startswith("./")]
    assert len(own) == 4
    assert all(path.exists() for path in own), own


def test_grafana_finds_its_source_and_its_dashboard(services):
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text("utf-8"))[
        "datasources"
    ]
    assert source["url"] == "${PROMETHEUS_URL}"
    assert services["grafana"]["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "stage_a.yaml").read_text("utf-8"))[
        "providers"
    ]
    mounted = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/stage_a.json" in mounted


def test_the_flags_of_prometheus_name_what_is_mounted(services):
    told = shlex.join(services["prometheus"]["command"])
    mounted = [volume.split(":")[1] for volume in services["prometheus"]["volumes"]]
    assert all(place in told for place in mounted)
