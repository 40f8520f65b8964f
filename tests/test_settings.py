import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.settings import ENVIRONMENT, GrpoSettings, Settings, load_settings


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "settings.toml"


def load(
    file: Path | None = None,
    text: str = "",
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return load_settings(environ=environ or {}, settings_file=file, overrides=overrides)


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as error:
        load(*args, **options)
    return str(error.value)


# Defaults and layers


def test_defaults_are_those_of_the_product() -> None:
    settings = load()
    assert settings == Settings()
    engine = settings.engine
    assert (engine.batch_size, engine.max_new_tokens, engine.temperature) == (32, 1024, 0.0)
    assert (engine.repetition_penalty, engine.devices, engine.checkpoint) == (1.05, ("cpu",), "builtin")
    assert (engine.max_pixels_for("bbu"), engine.max_pixels_for("rru")) == (1_048_576, 2_097_152)
    assert (settings.sampling.seed, settings.inference.max_failed_fraction) == (42, 0.1)
    assert not settings.discovery.allow_external_symlinks


def test_file_environment_and_run_config_win_in_that_order(settings_file: Path) -> None:
    text = '[engine]\ncheckpoint = "a/b"\nbatch_size = 4\nseed = 7\n[sampling]\npass_count = 5\n'
    settings = load(
        settings_file,
        text,
        {"STAGE_A_CHECKPOINT": "c/d", "STAGE_A_DEVICES": "cpu,cpu"},
        {"engine": {"batch_size": 2, "devices": ["cuda:0"]}, "sampling": {}},
    )
    assert settings.engine.model_dump(include={"checkpoint", "batch_size", "seed", "devices"}) == {
        "checkpoint": "c/d",
        "batch_size": 2,
        "seed": 7,
        "devices": ("cuda:0",),
    }
    assert settings.sampling.pass_count == 5


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_each_environment_variable_sets_its_setting(variable: str) -> None:
    section, key = ENVIRONMENT[variable]
    values = {
        "devices": "cuda:1",
        "executor": "k8s",
        "address": "head:6379",
        "webhook_url": "https://chat.example.com/secret",
    }
    value = values.get(key, "/some/where")
    given = getattr(getattr(load(environ={variable: value}), section), key)
    if isinstance(given, SecretStr):
        given = given.get_secret_value()
    assert given == ((value,) if key == "devices" else type(given)(value))


def test_the_settings_file_is_found_through_the_environment_and_the_argument_wins(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number}.toml").write_text(f"[sampling]\nseed = {number}\n")
    environ = {"STAGE_A_SETTINGS": str(tmp_path / "1.toml")}
    assert load_settings(environ=environ).sampling.seed == 1
    assert load_settings(environ=environ, settings_file=tmp_path / "2.toml").sampling.seed == 2


@pytest.mark.parametrize("variable", ["STAGE_A_SETTINGS", *ENVIRONMENT])
@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_variable_is_unset(variable: str, blank: str) -> None:
    assert load(environ={variable: blank}) == Settings()


def test_variables_of_others_are_ignored() -> None:
    assert load(environ={"PATH": "/bin", "DAGSTER_HOME": "/x", "MY_STAGE_A_THING": "1"}) == Settings()


def test_devices_are_a_comma_list() -> None:
    assert load(environ={"STAGE_A_DEVICES": " cuda:0, cuda:12 ,"}).engine.devices == ("cuda:0", "cuda:12")


def test_whole_numbers_serve_as_fractions(settings_file: Path) -> None:
    assert load(settings_file, "[engine]\ntemperature = 1\n").engine.temperature == 1.0


def test_a_byte_order_mark_is_no_fault(settings_file: Path) -> None:
    assert load(settings_file, "\ufeff[sampling]\nseed = 3\n").sampling.seed == 3


# Paths


def test_relative_paths_in_the_file_are_relative_to_its_folder(settings_file: Path) -> None:
    text = """
    [discovery]
    input_root = "photos"
    missions_file = "../missions.toml"
    [prompts]
    prompts_file = "prompts.toml"
    [engine]
    adapter = "lora"
    fake_faults = "faults.toml"
    [inference]
    lease_dir = "leases"
    [fail_reasons]
    workbook = "/abs/reviews.xlsx"
    [grpo]
    files = ["one.jsonl", "/abs/two.jsonl"]
    [reassembly]
    data_dir = "scans"
    output_dir = "objects"
    [output]
    output_dir = "out"
    """
    settings, base = load(settings_file, text), settings_file.parent
    assert settings.discovery.input_root == base / "photos"
    assert settings.discovery.missions_file == base / ".." / "missions.toml"
    assert settings.prompts.prompts_file == base / "prompts.toml"
    assert (settings.engine.adapter, settings.engine.fake_faults) == (base / "lora", base / "faults.toml")
    assert settings.inference.lease_dir == base / "leases"
    assert settings.fail_reasons.workbook == Path("/abs/reviews.xlsx")
    assert settings.grpo.files == (base / "one.jsonl", Path("/abs/two.jsonl"))
    assert (settings.reassembly.data_dir, settings.reassembly_dir) == (base / "scans", base / "objects")
    assert settings.output.output_dir == base / "out"


def test_a_relative_settings_file_still_gives_absolute_paths(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings_file.parent.mkdir()
    monkeypatch.chdir(settings_file.parent.parent)
    settings = load(Path("conf/settings.toml"), '[output]\noutput_dir = "out"\n')
    assert settings.output.output_dir == settings_file.parent / "out"


def test_relative_paths_elsewhere_are_relative_to_the_working_directory(settings_file: Path) -> None:
    settings = load(settings_file, "", {"STAGE_A_INPUT_ROOT": "photos"}, {"output": {"output_dir": "out"}})
    assert (settings.discovery.input_root, settings.output.output_dir) == (Path("photos"), Path("out"))


def test_a_checkpoint_folder_beside_the_file_is_told_from_a_hub_id(settings_file: Path) -> None:
    (settings_file.parent / "models" / "mine").mkdir(parents=True)
    expected = {
        "models/mine": str(settings_file.parent / "models/mine"),
        "./absent": str(settings_file.parent / "absent"),
        "Qwen/Qwen3-VL-4B-Instruct": "Qwen/Qwen3-VL-4B-Instruct",
        "/abs/model": "/abs/model",
        "~/model": "~/model",
        "builtin": "builtin",
    }
    for given, checkpoint in expected.items():
        assert load(settings_file, f'[engine]\ncheckpoint = "{given}"\n').engine.checkpoint == checkpoint


def test_the_name_of_an_office_programs_mark_is_no_home_folder(settings_file: Path) -> None:
    loaded = load(settings_file, '[fail_reasons]\nworkbook = "~$reviews.xlsx"\n')
    assert loaded.fail_reasons.workbook == settings_file.parent / "~$reviews.xlsx"


def test_a_tilde_is_the_home_folder(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert load(settings_file, '[discovery]\ninput_root = "~/in"\n').discovery.input_root == Path(
        "/home/somebody/in"
    )
    assert load(environ={"STAGE_A_OUTPUT_DIR": "~/out"}).output.output_dir == Path("/home/somebody/out")


@pytest.mark.parametrize("path", ["", "  ", "~nobody_of_that_name/x"])
def test_a_path_that_means_nothing_is_an_error(settings_file: Path, path: str) -> None:
    assert "discovery.input_root" in refusal(settings_file, f'[discovery]\ninput_root = "{path}"\n')


def test_the_work_folder_lies_in_the_output() -> None:
    assert load(overrides={"output": {"output_dir": "/out"}}).output.work_dir == Path("/out/work")


def test_a_missing_input_root_is_an_error_that_says_how_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match="STAGE_A_INPUT_ROOT"):
        load().require_input_root()
    assert load(environ={"STAGE_A_INPUT_ROOT": "/in"}).require_input_root() == Path("/in")


# What is refused


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[discovry]\n", "unknown setting 'discovry'; did you mean 'discovery'? known: discovery, sampling"),
        ("batch_size = 1\n", "unknown setting 'batch_size'; known: discovery"),
        (
            "[engine]\nbatchsize = 1\n",
            "unknown setting 'engine.batchsize'; did you mean 'batch_size'? known: engine",
        ),
        ("engine = 3\n", "setting engine: "),
        (
            '[engine]\nbatch_size = "8"\n',
            "engine.batch_size: Input should be a valid integer, or: Input should be 'auto' (given: '8')",
        ),
        ("[engine]\nbatch_size = 8.5\n", "engine.batch_size"),
        ("[engine]\nbatch_size = true\n", "engine.batch_size"),
        ("[engine]\nbatch_size = 0\n", "engine.batch_size"),
        ("[engine]\nmax_pixels = 10\n", "engine.max_pixels"),
        ("[engine]\nmax_new_tokens = 0\n", "engine.max_new_tokens"),
        ("[engine]\ntemperature = -0.1\n", "engine.temperature"),
        ("[engine]\ntemperature = nan\n", "engine.temperature"),
        ("[engine]\ntop_p = 0\n", "engine.top_p"),
        ("[engine]\nrepetition_penalty = inf\n", "engine.repetition_penalty"),
        ('[engine]\nengine = "llama"\n', "engine.engine: Input should be"),
        ('[engine]\ndtype = "float8"\n', "engine.dtype"),
        ('[engine]\ncheckpoint = ""\n', "engine.checkpoint"),
        ("[engine]\ncheckpoint = 3\n", "engine.checkpoint"),
        ("[engine]\ndevices = []\n", "engine.devices"),
        ('[engine]\ndevices = "cpu"\n', "engine.devices"),
        ('[engine]\ndevices = ["cpu", "gpu0"]\n', "engine.devices.1"),
        ("[sampling]\npass_count = -1\n", "sampling.pass_count"),
        ('[sampling]\nseed = "x"\n', "sampling.seed"),
        ('[discovery]\nallow_external_symlinks = "yes"\n', "discovery.allow_external_symlinks"),
        ("[discovery]\ninput_root = 3\n", "discovery.input_root"),
        ("[inference]\nmax_failed_fraction = 1.5\n", "inference.max_failed_fraction"),
        ('[inference]\nbatching_mode = "random"\n', "inference.batching_mode"),
        ("[inference]\ndecode_workers = 0\n", "inference.decode_workers"),
        ("[fail_reasons]\nreason_column = -1\n", "a column number counts from 0"),
        ("[fail_reasons]\nreason_column = true\n", "fail_reasons.reason_column"),
        ('[fail_reasons]\nreason_column = "原因"\n', "columns given by name need header = true"),
        (
            '[inference]\nbatching_mode = "per_group"\nsharding_mode = "per_image"\n',
            "setting inference: sharding_mode 'per_image' needs batching_mode 'cross_group'",
        ),
        (
            '[engine]\nattn_implementation = "eager"\n',
            "setting engine: engine 'refill' needs attn_implementation 'sdpa'; or use engine 'transformers'",
        ),
        (
            '[engine]\nengine = "vllm"\nattn_implementation = "eager"\n',
            "setting engine: engine 'vllm' chooses its attention kernel itself",
        ),
        (
            '[engine]\nengine = "vllm"\nadapter = "lora"\n',
            "setting engine: engine 'vllm' takes no adapter: vLLM would leave out what it has for the vision",
        ),
        ('[engine]\nengine = "vllm"\ntemperature = 2.5\n', "engine 'vllm' takes temperatures up to 2"),
        ("[engine]\nvllm_memory_share = 1.5\n", "engine.vllm_memory_share"),
        (
            '[engine]\ndevices = ["cuda:0+1"]\n',
            "setting engine: device 'cuda:0+1' splits a model, which engine 'vllm' alone can do",
        ),
        ('[engine]\nengine = "vllm"\ndevices = ["cuda:1+1"]\n', "device 'cuda:1+1' names a device twice"),
        ('[engine]\nengine = "vllm"\ndevices = ["cpu+1"]\n', "engine.devices.0"),
        ("[engine\n", "is not valid TOML"),
    ],
)
def test_a_faulty_file_is_an_error_that_names_file_and_setting(
    settings_file: Path, text: str, told: str
) -> None:
    error = refusal(settings_file, text)
    assert error.startswith(f"settings file {settings_file}")
    assert told in error
    assert "Value error" not in error


def test_all_faults_are_told_at_once(settings_file: Path) -> None:
    error = refusal(settings_file, "[engine]\nbatch_size = 0\n[sampling]\nsed = 1\n")
    assert "engine.batch_size" in error
    assert "did you mean 'seed'" in error


@pytest.mark.parametrize(
    ("variable", "value"),
    [("STAGE_A_DEVICES", "gpu0"), ("STAGE_A_DEVICES", " , "), ("STAGE_A_WORKBOOK", "~nobody_/x")],
)
def test_a_faulty_variable_is_an_error_that_names_it(settings_file: Path, variable: str, value: str) -> None:
    text = '[engine]\ndevices = ["cpu"]\n[fail_reasons]\nworkbook = "x"\n'
    assert refusal(settings_file, text, {variable: value}).startswith(f"environment variable {variable}: ")


def test_an_unknown_variable_is_an_error_that_lists_the_known() -> None:
    error = refusal(environ={"STAGE_A_DEVICE": "cpu"})
    assert "unknown environment variable STAGE_A_DEVICE; did you mean 'STAGE_A_DEVICES'?" in error
    assert all(variable in error for variable in ("STAGE_A_SETTINGS", *ENVIRONMENT))


def test_what_kubernetes_tells_about_a_service_named_stage_a_is_no_setting() -> None:
    links = {
        "STAGE_A_SERVICE_HOST": "10.0.0.7",
        "STAGE_A_SERVICE_PORT": "4000",
        "STAGE_A_SERVICE_PORT_GRPC": "4000",
        "STAGE_A_PORT": "tcp://10.0.0.7:4000",
        "STAGE_A_PORT_4000_TCP": "tcp://10.0.0.7:4000",
        "STAGE_A_PORT_4000_TCP_ADDR": "10.0.0.7",
        "STAGE_A_RUNS_SERVICE_HOST": "10.0.0.8",
    }
    assert load(environ=links) == Settings()
    assert "unknown environment variable STAGE_A_PORTS" in refusal(environ=links | {"STAGE_A_PORTS": "1"})


@pytest.mark.parametrize(
    "overrides",
    [{"engine": {"batch": 1}}, {"engine": {"batch_size": "1"}}, {"engine": 3}, {"engines": {}}],
)
def test_faulty_run_config_is_an_error_that_says_so(overrides: Mapping[str, object]) -> None:
    assert refusal(overrides=overrides).startswith("run config: ")


def test_an_error_names_the_source_that_won(settings_file: Path) -> None:
    empty_sections = {section: {} for section in Settings.model_fields}
    faulty_file = '[inference]\nbatching_mode = "per_group"\nsharding_mode = "per_image"\n'
    assert refusal(settings_file, faulty_file, overrides=empty_sections).startswith("settings file")
    half = '[inference]\nbatching_mode = "per_group"\n'
    overrides = empty_sections | {"inference": {"sharding_mode": "per_image"}}
    assert refusal(settings_file, half, overrides=overrides).startswith("run config")


def test_a_fault_that_a_later_source_mends_is_no_fault(settings_file: Path) -> None:
    settings = load(
        settings_file,
        '[fail_reasons]\nreason_column = "原因"\n',
        overrides={"fail_reasons": {"header": True}},
    )
    assert settings.fail_reasons.columns == (0, 2, "原因", 6)


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_a_settings_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    environ = {"STAGE_A_SETTINGS": str(tmp_path / name)}
    with pytest.raises(ConfigurationError, match=r"settings file .* cannot be read.*STAGE_A_SETTINGS"):
        load_settings(environ=environ)


def test_settings_do_not_change_after_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().engine.batch_size = 3  # type: ignore[misc]


def test_a_password_in_a_url_is_refused_and_not_shown():
    engine = {"engine": "openai", "server_model": "qwen", "server_urls": ["http://user:hunter2@h"]}
    with pytest.raises(ConfigurationError, match="holds no password") as error:
        load_settings(environ={}, overrides={"engine": engine})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000", "ftp://h", "http://", "http://h:abc", "http://h:0", "http://h:99999999",
        "http://[::1", "http://h/v1?x=1", "http://h/a b",
    ],
)  # fmt: skip
def test_a_url_that_names_no_server_is_refused(url):
    engine = {"engine": "openai", "server_model": "qwen", "server_urls": [url]}
    with pytest.raises(ConfigurationError, match=r"engine\.server_urls"):
        load_settings(environ={}, overrides={"engine": engine})


@pytest.mark.parametrize(
    ("engine", "told"),
    [
        ({}, "needs server_model"),
        ({"server_model": " "}, "server_model"),
        ({"server_model": "qwen", "server_timeout_seconds": float("inf")}, "server_timeout_seconds"),
        ({"server_model": "qwen", "devices": ["cpu", "cpu"]}, "uses no devices"),
    ],
)
def test_what_servers_need_is_said_at_the_start(engine, told):
    with pytest.raises(ConfigurationError, match=told):
        load_settings(environ={}, overrides={"engine": {"engine": "openai", **engine}})


@pytest.mark.parametrize("address", ["head", "head:port", "http://head:6379", "6379", "ray://", "local:x"])
def test_an_address_that_is_none_is_refused_with_what_one_is(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cluster\.address: an address is host:port"):
        load(environ={"STAGE_A_RAY_ADDRESS": address})


def test_vllm_has_a_worker_process_around_it() -> None:
    vllm = {"engine": {"engine": "vllm"}}
    assert load(overrides=vllm).inference.worker_processes
    with pytest.raises(ConfigurationError, match=r"'vllm' needs inference\.worker_processes = true"):
        load(overrides=vllm | {"inference": {"worker_processes": False}})


def test_an_actor_has_one_device() -> None:
    with pytest.raises(ConfigurationError, match=r"engine\.devices names the one device of each actor"):
        load(environ={"STAGE_A_RAY_ADDRESS": "auto", "STAGE_A_DEVICES": "cuda:0,cuda:1"})


@pytest.mark.parametrize("name", ["learning_rate", "epochs", "temperature", "kl_weight", "reward_weights"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_of_a_training_are_finite(name: str, number: float) -> None:
    value = (number, 1.0, 1.0) if name == "reward_weights" else number
    with pytest.raises(ValueError, match=name):
        GrpoSettings.model_validate({name: value})


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"output_dir": "out"}, "out"),
        ({"output_dir": "s3://bucket/out", "local_work_dir": "work"}, "work"),
    ],
)
def test_what_is_trained_and_reassembled_lies_on_this_machine(output: dict[str, str], expected: str) -> None:
    settings = load(overrides={"output": output})
    assert (settings.stage_b_dir, settings.reassembly_dir) == (
        Path(expected, "stage_b"),
        Path(expected, "reassembly"),
    )
