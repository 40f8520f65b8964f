"""What a checkpoint, an adapter or a device must be like to be used, and what is refused."""

import json
import shutil

import pytest

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.engines.transformers import TransformersEngine
from stage_a_pipeline.errors import CheckpointError
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS


def test_the_side_is_set_whatever_the_checkpoint_says(tmp_path):
    folder = tmp_path / "right"
    shutil.copytree(resolve_checkpoint("builtin").folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "right"}))
    tokenizer = load_processor(resolve_checkpoint(str(folder))).tokenizer
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "left")


@pytest.mark.parametrize("engine_class", [RefillEngine, TransformersEngine])
def test_an_adapter_is_merged_on_load(tmp_path, singles, requests, engine_class):
    peft = pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForImageTextToText

    folder = resolve_checkpoint("builtin").folder
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    config = peft.LoraConfig(
        r=4, lora_alpha=256, target_modules=["q_proj", "v_proj"], init_lora_weights=False
    )
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    adapted = engine_class(resolve_checkpoint("builtin", adapter=tmp_path), EngineSettings(), "cpu")
    assert adapted.generate(requests[:4], OPTIONS) != singles[:4]
    assert not any("lora" in name for name, _ in adapted._model.named_parameters())


def copied_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(resolve_checkpoint("builtin").folder, folder)
    return folder


def test_a_checkpoint_that_lacks_weights_is_refused_rather_than_filled_at_random(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied_checkpoint(tmp_path)
    weights = load_file(folder / "model.safetensors")
    dropped = [name for name in weights if "visual.merger" in name]
    kept = {name: weight for name, weight in weights.items() if name not in dropped}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"lacks {len(dropped)} weights, such as .*visual\.merger"):
        TransformersEngine(resolve_checkpoint(str(folder)), EngineSettings(), "cpu")


def test_cut_weights_are_refused(tmp_path):
    folder = copied_checkpoint(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="does not load"):
        TransformersEngine(resolve_checkpoint(str(folder)), EngineSettings(), "cpu")


def test_an_adapter_for_other_layers_is_refused_rather_than_ignored(tmp_path):
    peft = pytest.importorskip("peft")
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForImageTextToText

    model = AutoModelForImageTextToText.from_pretrained(
        resolve_checkpoint("builtin").folder, dtype=torch.float32
    )
    peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    renamed = {name.replace("language_model.", ""): weight for name, weight in load_file(path).items()}
    save_file(renamed, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"does not fit the checkpoint: \d+ weights such as"):
        TransformersEngine(resolve_checkpoint("builtin", adapter=tmp_path), EngineSettings(), "cpu")


def test_a_cuda_device_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices")
    with pytest.raises(CheckpointError, match="device cuda:7 is not there: 0 CUDA devices"):
        TransformersEngine(resolve_checkpoint("builtin"), EngineSettings(), "cuda:7")


def test_a_tokenizer_without_the_filler_is_named(tmp_path):
    folder = copied_checkpoint(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        path = folder / name
        path.write_text(path.read_text("utf-8").replace("<|im_start|>", "<|start|>"), "utf-8")
    with pytest.raises(CheckpointError, match=r"lacks Qwen's <\|im_start\|>"):
        RefillEngine(resolve_checkpoint(str(folder)), EngineSettings(), "cpu")
