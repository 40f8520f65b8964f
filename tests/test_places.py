"""Paths stay what they are, URLs are understood or refused."""

from pathlib import Path

import pytest
from upath import UPath

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.places import absolute, as_place, to_path
from stage_a_pipeline.settings import Settings, load_settings


@pytest.mark.parametrize(
    "text", ["photos", "/data/挡风板 (1)", "./a:b", "C:\\photos", "s3:/one-slash", "a/s3://b"]
)
def test_what_is_no_url_is_the_path_that_it_always_was(text):
    assert as_place(text) == Path(text)
    assert isinstance(as_place(text), Path)


def test_a_file_url_is_a_path():
    assert as_place("file:///data/photos/") == Path("/data/photos")


@pytest.mark.parametrize(
    "name", ["a:b.jpg", "x#y?z.jpg", "100%20.jpg", "中文（正装）.jpg", "tab\there.jpg", "~$x"]
)
def test_a_key_keeps_every_sign_of_its_name(name):
    place = as_place(f"s3://bucket/photos/{name}")
    assert (str(place), place.name) == (f"s3://bucket/photos/{name}", name)
    assert isinstance(place, UPath)
    assert place.path == f"bucket/photos/{name}"
    assert as_place(str(place)) == place


def test_places_of_a_bucket_share_one_connection_in_all_threads():
    assert as_place("s3://bucket/a").fs is (as_place("s3://bucket/b") / "c").fs


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://host/photos", "unknown protocol 'ftp'; known: file, s3, gs, memory"),
        ("s3://", "a URL names a bucket: s3://bucket/folder"),
        ("file://photos", "a file URL names an absolute path: file:///data/photos"),
        ("s3://bucket/a::b/photos", "a URL must not hold '::', which links two of them; rename"),
        ("gs://bucket/photos", "needs the extra `gcs`: pip install '.[gcs]'"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_what_would_be_right(url, told):
    with pytest.raises(ConfigurationError) as error:
        load_settings(environ={"STAGE_A_INPUT_ROOT": url})
    assert "environment variable STAGE_A_INPUT_ROOT" in str(error.value)
    assert told in str(error.value)


def test_credentials_with_a_slash_in_them_are_refused_and_not_repeated():
    url = "s3://AKIAEXAMPLE:wJalr/K7MDENG/bPxRfi@bucket/photos"
    with pytest.raises(ConfigurationError, match="must not hold credentials") as error:
        load_settings(environ={"STAGE_A_INPUT_ROOT": url})
    assert "wJalr" not in str(error.value)
    assert "K7MDENG" not in str(error.value)


def test_credentials_in_a_url_are_refused_and_not_repeated():
    with pytest.raises(ConfigurationError) as error:
        load_settings(environ={"STAGE_A_OUTPUT_DIR": "s3://key:hidden@bucket/out"})
    assert "must not hold credentials" in str(error.value)
    assert "hidden" not in str(error.value)


def test_settings_that_must_be_of_this_machine_refuse_urls():
    with pytest.raises(ConfigurationError, match="must be a path of this machine"):
        load_settings(environ={"STAGE_A_MISSIONS": "s3://bucket/missions.toml"})


def test_urls_in_a_settings_file_are_not_made_relative_to_it(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('[discovery]\ninput_root = "s3://b/in"\n[output]\noutput_dir = "out"\n', "utf-8")
    settings = load_settings(environ={}, settings_file=file)
    assert str(settings.discovery.input_root) == "s3://b/in"
    assert settings.output.output_dir == tmp_path / "out"


def test_settings_with_urls_survive_being_written_down():
    settings = load_settings(
        environ={"STAGE_A_INPUT_ROOT": "s3://b/in/", "STAGE_A_WORKBOOK": "s3://b/reviews.xlsx"}
    )
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


def test_what_stays_on_this_machine_lies_beside_the_output_or_in_the_users_state_folder(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def work_dir(**output: object) -> Path:
        return load_settings(environ={}, overrides={"output": output}).output.work_dir

    assert work_dir(output_dir="out") == Path("out/work")
    assert work_dir(output_dir="s3://b/out", local_work_dir="/scratch") == Path("/scratch")
    found = [work_dir(output_dir=url) for url in ("s3://b/out", "s3://b/出", "s3://b/入")]
    assert len(set(found)) == 3
    assert {path.parent for path in found} == {tmp_path / "stage-a"}


def test_memory_is_for_a_single_process():
    settings = {"discovery": {"input_root": "memory://b/in"}}
    with pytest.raises(ConfigurationError, match=r"set inference.worker_processes = false"):
        load_settings(environ={}, overrides=settings)
    load_settings(environ={}, overrides=settings | {"inference": {"worker_processes": False}})


def test_a_url_is_no_path_and_needs_no_working_directory():
    place = as_place("s3://bucket/x")
    assert absolute(place) == place
    with pytest.raises(ValueError, match="must be a path of this machine"):
        to_path(place)
