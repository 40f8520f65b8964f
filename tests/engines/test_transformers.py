"""The real engine with the built-in checkpoint, on a CPU."""

import json
import shutil
from random import Random

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.demo.composition import compose_scene
from stage_a_pipeline.demo.drawing import draw_scene
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.transformers import TransformersEngine, assert_left_padded
from stage_a_pipeline.errors import CheckpointError, EngineError
from stage_a_pipeline.images import rgb_sha256
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import Prompt, build_prompt
from stage_a_pipeline.settings import EngineSettings
from tests.conftest import MISSION

OPTIONS = GenerationOptions(max_new_tokens=48, repetition_penalty=1.05)
SIZES = [(256, 192), (192, 256), (224, 224), (224, 192), (320, 160), (160, 320), (96, 96), (512, 64)]


@pytest.fixture(scope="module")
def engine():
    engine = TransformersEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def requests(engine):
    """Rendered scenes: the checkpoint calls anything else irrelevant, which would be one answer for all."""
    missions = list(load_missions().values())
    requests = []
    for number, size in enumerate(SIZES * 2):
        mission = missions[number % len(missions)]
        image = draw_scene(
            compose_scene(Random(number), mission), engine.target_size(*size, max_pixels=10**6)
        )
        requests.append(Request(f"r{number}", image, build_prompt(mission)))
    return requests


@pytest.fixture(scope="module")
def singles(engine, requests):
    return [engine.generate([request], OPTIONS)[0] for request in requests]


@pytest.mark.parametrize("rows", [3, 16])
def test_batched_equals_single_on_mixed_sizes(engine, requests, singles, rows):
    batched = []
    for start in range(0, len(requests), rows):
        batched += engine.generate(requests[start : start + rows], OPTIONS)
    assert batched == singles


@pytest.mark.parametrize("worth", [1, 2, 99])
def test_rows_that_leave_a_batch_early_change_no_other_row(engine, requests, singles, monkeypatch, worth):
    from stage_a_pipeline.engines import shrinking

    monkeypatch.setattr(shrinking, "_WORTH_A_RESTART", worth)
    restarts = []
    continued = shrinking._continued

    def counted(*arguments):
        restarts.append(len(arguments[-1]))
        return continued(*arguments)

    monkeypatch.setattr(shrinking, "_continued", counted)
    assert engine.generate(requests, OPTIONS) == singles
    assert bool(restarts) == (worth < 99)


def test_prompts_and_answers_of_the_batch_really_differ(singles):
    assert len({completion.prompt_tokens for completion in singles}) > 3
    assert len({completion.text for completion in singles}) > 8
    assert len({completion.generated_tokens for completion in singles}) > 4


def test_right_padding_trips_the_guard(engine, requests, monkeypatch):
    monkeypatch.setattr(engine._processor.tokenizer, "padding_side", "right")
    with pytest.raises(EngineError, match="must be padded on the left"):
        engine.generate(requests[:6], OPTIONS)


def test_the_guard_accepts_left_padding_and_refuses_right():
    import torch

    assert_left_padded(torch.tensor([[0, 1, 1], [1, 1, 1]]))
    with pytest.raises(EngineError):
        assert_left_padded(torch.tensor([[1, 1, 0], [1, 1, 1]]))


def test_the_side_is_set_whatever_the_checkpoint_says(tmp_path):
    from stage_a_pipeline.engines.transformers import load_processor

    folder = tmp_path / "right"
    shutil.copytree(resolve_checkpoint("builtin").folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "right"}))
    tokenizer = load_processor(resolve_checkpoint(str(folder))).tokenizer
    assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "left")


def test_everything_the_processor_returns_reaches_generate(engine, requests):
    assert {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "mm_token_type_ids"} <= set(
        engine._inputs(requests[:2])
    )


def test_a_cut_answer_says_so(engine, requests):
    completion = engine.generate(requests[:1], GenerationOptions(max_new_tokens=2))[0]
    assert completion.finish_reason == "length"
    assert completion.generated_tokens == 2


def test_no_requests_need_no_model(engine):
    assert engine.generate([], OPTIONS) == []


def test_traces_show_what_reached_the_model(engine, requests):
    traces = engine.trace_inputs(requests[:4])
    for request, trace in zip(requests, traces, strict=False):
        grid = trace.image_grid_thw
        assert trace.id == request.id
        assert trace.rgb_sha256 == rgb_sha256(request.image)
        assert (trace.width, trace.height) == request.image.size == (grid[2] * 16, grid[1] * 16)
        assert trace.expected_image_tokens == trace.actual_image_tokens == grid[1] * grid[2] // 4


def test_a_photo_at_another_size_than_the_model_sees_is_a_mismatch(engine):
    odd = Request("odd", Pillow.new("RGB", (200, 150)), Prompt("s", "u"))
    with pytest.raises(EngineError, match="cannot reshape array of size 90000"):
        engine.trace_inputs([odd])


def test_another_number_of_image_tokens_than_the_pixels_make_is_a_mismatch(engine, requests, monkeypatch):
    whole = engine._inputs(requests[:1])
    photo = whole["input_ids"] == engine._processor.image_token_id
    first = photo.nonzero()[0]
    whole["input_ids"][tuple(first)] = engine._stop_ids[0]
    monkeypatch.setattr(engine, "_inputs", lambda _: whole)
    with pytest.raises(EngineError, match=r"r0: 47 image tokens reached the model .* 256x192 pixels make 48"):
        engine.trace_inputs(requests[:1])


def test_target_size_stays_within_both_limits(engine):
    for size in [(4000, 3000), (3000, 4000), (640, 480), (64, 64), (1, 150)]:
        width, height = engine.target_size(*size, max_pixels=2_097_152)
        assert width % 32 == height % 32 == 0
        assert width * height <= 53_248 or min(width, height) == 32
    width, height = engine.target_size(4000, 3000, max_pixels=20_000)
    assert width * height <= 20_000


def test_sampling_repeats_with_its_seed(engine, requests):
    options = GenerationOptions(max_new_tokens=24, temperature=2.0, seed=1)
    first = engine.generate(requests[:3], options)
    assert engine.generate(requests[:3], options) == first
    other = GenerationOptions(max_new_tokens=24, temperature=2.0, seed=2)
    assert [c.text for c in engine.generate(requests[:3], other)] != [c.text for c in first]


def test_a_cuda_device_that_is_not_there_is_named():
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA devices")
    with pytest.raises(CheckpointError, match="device cuda:7 is not there: 0 CUDA devices"):
        TransformersEngine(resolve_checkpoint("builtin"), EngineSettings(), "cuda:7")


def test_an_adapter_is_merged_on_load(tmp_path, engine, requests):
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
    adapted = TransformersEngine(resolve_checkpoint("builtin", adapter=tmp_path), EngineSettings(), "cpu")
    plain = [completion.text for completion in engine.generate(requests[:4], OPTIONS)]
    assert [completion.text for completion in adapted.generate(requests[:4], OPTIONS)] != plain
    assert not any("lora" in name for name, _ in adapted._model.named_parameters())


@pytest.mark.gpu
def test_cuda_answers_like_the_cpu_in_float32(requests, singles):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    engine = TransformersEngine(resolve_checkpoint("builtin"), EngineSettings(dtype="float32"), "cuda:0")
    assert [c.text for c in engine.generate(requests, OPTIONS)] == [c.text for c in singles]


def test_mission_prompts_name_their_mission():
    assert MISSION in build_prompt(load_missions()[MISSION]).user


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
