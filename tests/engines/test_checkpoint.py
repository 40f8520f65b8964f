import json
import shutil

import pytest

from stage_a_pipeline.engines import engine_hash
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.errors import CheckpointError
from stage_a_pipeline.settings import EngineSettings


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(resolve_checkpoint("builtin").folder, folder)
    return folder


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def test_builtin_is_the_packaged_folder():
    folder = resolve_checkpoint("builtin").folder
    assert (folder / "model.safetensors").is_file()


def test_a_folder_is_taken_as_it_is(copy):
    assert resolve_checkpoint(str(copy)).folder == copy


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_an_incomplete_folder_is_named_with_what_it_lacks(copy, name):
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        resolve_checkpoint(str(copy))


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere does not exist; correct engine\.checkpoint"):
        resolve_checkpoint(str(tmp_path / "nowhere"))


def test_another_architecture_is_refused(copy):
    rewrite(copy / "config.json", model_type="llama")
    with pytest.raises(CheckpointError, match="model type 'llama', not Qwen3-VL"):
        resolve_checkpoint(str(copy))


def test_a_config_that_is_not_json_is_refused(copy):
    (copy / "config.json").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        resolve_checkpoint(str(copy))


def test_weights_other_than_safetensors_are_refused(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"lacks model\.safetensors; only safetensors"):
        resolve_checkpoint(str(copy))


def test_a_missing_shard_of_the_weights_is_named(copy):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks model-00001-of-00002"):
        resolve_checkpoint(str(copy))


def test_a_hub_id_that_cannot_be_fetched_says_so():
    with pytest.raises(CheckpointError, match=r"'nobody/nothing' is no folder here and could not be fetched"):
        resolve_checkpoint("nobody/nothing")


def test_an_adapter_folder_must_be_complete(tmp_path):
    with pytest.raises(CheckpointError, match=r"adapter .* has no adapter_config\.json"):
        resolve_checkpoint("builtin", adapter=tmp_path)


def test_the_hash_follows_the_content_not_the_path(copy):
    same = engine_hash(EngineSettings(checkpoint="builtin"))
    assert engine_hash(EngineSettings(checkpoint=str(copy))) == same
    rewrite(copy / "generation_config.json", max_new_tokens=7)
    assert engine_hash(EngineSettings(checkpoint=str(copy))) != same


def test_one_changed_byte_of_the_weights_changes_the_hash(copy):
    before = engine_hash(EngineSettings(checkpoint=str(copy)))
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    assert engine_hash(EngineSettings(checkpoint=str(copy))) != before


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 5},
        {"repetition_penalty": 1.0},
        {"dtype": "bfloat16"},
        {"engine": "transformers"},
        {"engine": "transformers", "attn_implementation": "eager"},
        {"packed_weights": False},
        {"temperature": 0.5},
        {"engine": "fake"},
        {"devices": ("cuda:0",)},
    ],
)
def test_what_shapes_answers_changes_the_hash(change):
    assert engine_hash(EngineSettings(**change)) != engine_hash(EngineSettings())


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 3}, {"devices": ("cpu", "cpu")}, {"seed": 7}, {"top_p": 0.5}, {"verify_inputs": True}],
)
def test_what_does_not_shape_greedy_answers_keeps_the_hash(change):
    assert engine_hash(EngineSettings(**change)) == engine_hash(EngineSettings())


@pytest.mark.parametrize("change", [{"seed": 7}, {"top_p": 0.5}])
def test_sampling_settings_count_once_answers_are_sampled(change):
    assert engine_hash(EngineSettings(temperature=1.0, **change)) != engine_hash(
        EngineSettings(temperature=1.0)
    )
