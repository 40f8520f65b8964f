"""What the compose file promises: hardened services, nothing open to other machines, no password in it."""

from __future__ import annotations

import yaml

from tests.deploy.conftest import DEPLOY


def test_every_service_is_hardened(compose):
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        assert "cap_add" not in service or name == "postgres", name


def test_only_the_web_interface_is_published_and_for_this_machine_alone(compose):
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert published == {"web": ["127.0.0.1:3000:3000"]}


def test_the_password_is_given_from_outside_and_missing_ones_are_named(compose):
    given = [
        value
        for service in compose["services"].values()
        for name, value in service["environment"].items()
        if "PASSWORD" in name
    ]
    assert set(given) == {"${DAGSTER_PG_PASSWORD:?give the database a password}"}
    assert len(given) == len(compose["services"])


def test_every_variable_of_dagster_yaml_and_workspace_yaml_is_set(compose):
    def variables(given: object) -> set[str]:
        if isinstance(given, dict):
            if set(given) == {"env"}:
                return {given["env"]}
            return set().union(*map(variables, given.values()))
        return set().union(*map(variables, given)) if isinstance(given, list) else set()

    read = set()
    for file in ("dagster.yaml", "workspace.yaml"):
        read |= variables(yaml.safe_load((DEPLOY / file).read_text("utf-8")))
    assert len(read) == 7
    for name in ("code", "daemon", "web"):
        assert read <= set(compose["services"][name]["environment"]), name


def test_the_services_share_one_image_that_the_code_location_builds(compose):
    of_dagster = {name: compose["services"][name] for name in ("code", "daemon", "web")}
    assert len({service["image"] for service in of_dagster.values()}) == 1
    assert [name for name, service in of_dagster.items() if "build" in service] == ["code"]
    cuda = yaml.safe_load((DEPLOY / "compose.cuda.yaml").read_text("utf-8"))
    assert cuda["services"]["code"]["build"]["args"] == {"VARIANT": "cuda"}


def test_a_checkpoint_is_mounted_read_only_where_the_settings_look_for_it():
    """Compose lays one file over the other: variables and volumes are added."""
    document = yaml.safe_load((DEPLOY / "compose.checkpoint.yaml").read_text("utf-8"))
    code = document["services"]["code"]
    (volume,) = code["volumes"]
    assert volume.endswith(f":{code['environment']['STAGE_A_CHECKPOINT']}:ro")
    assert volume.startswith("${CHECKPOINT:?")


def test_photos_are_mounted_read_only_where_the_settings_look_for_them(compose):
    code = compose["services"]["code"]
    mounts = {volume.split(":/", 1)[1] for volume in code["volumes"] if "${" in volume}
    assert mounts == {"data/photos:ro", "data/output"}
    assert code["environment"]["STAGE_A_INPUT_ROOT"] == "/data/photos"
    assert code["environment"]["STAGE_A_OUTPUT_DIR"] == "/data/output"
