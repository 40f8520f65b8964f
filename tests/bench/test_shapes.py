"""Random checkpoints load as any other, say what the photo makes them say, and never end by themselves."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from stage_a_pipeline.bench.photo_files import photo_path, write_photos
from stage_a_pipeline.bench.prompt_length import prompt_of_length, text_lengths
from stage_a_pipeline.bench.random_weights import chinese_words, model_config, write_checkpoint
from stage_a_pipeline.bench.shapes import SHAPES
from stage_a_pipeline.bench.workload import plan_photos
from stage_a_pipeline.engines.base import GenerationOptions, Request
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.settings import EngineSettings

TINY = SHAPES["tiny"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(
        TINY, tmp_path_factory.mktemp("tiny") / "checkpoint", device="cpu", dtype="float32", seed=7
    )


@pytest.fixture(scope="module")
def processor():
    return load_processor(resolve_checkpoint("builtin"))


@pytest.fixture(scope="module")
def planned():
    return plan_photos(photos=12, groups=None, sizes=TINY.sizes, median_answer=TINY.median_answer, seed=7)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, planned) -> list[Path]:
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, planned, seed=7)
    return [photo_path(root, photo) for photo in planned]


@pytest.fixture(scope="module")
def answers(checkpoint, processor, photos):
    engine = RefillEngine(checkpoint, EngineSettings(), "cpu")
    prompt = prompt_of_length(processor, TINY.prefix_tokens)
    requests = [Request(path.as_posix(), Image.open(path).convert("RGB"), prompt) for path in photos]
    answers = engine.generate(requests, GenerationOptions(max_new_tokens=50, repetition_penalty=1.05))
    engine.close()
    return answers


def test_answers_have_exactly_the_length_that_was_asked_for(answers):
    assert {(answer.finish_reason, answer.generated_tokens) for answer in answers} == {("length", 50)}


def test_answers_depend_on_the_photo_and_are_chinese_text(answers):
    assert len({answer.text for answer in answers}) == len(answers)
    assert len({answer.text[:3] for answer in answers}) >= 4
    assert all("\u4e00" <= mark <= "\u9fff" for answer in answers for mark in answer.text)


def test_only_chinese_words_can_be_said(checkpoint, processor):
    model = AutoModelForImageTextToText.from_pretrained(str(checkpoint.folder))
    words = chinese_words(processor.tokenizer)
    stops = processor.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>", "<|image_pad|>"])
    assert len(words) > 200
    assert not set(stops) & set(words)
    weighty = model.lm_head.weight.abs().sum(dim=1).nonzero().flatten().tolist()
    assert weighty == sorted(words)
    logits = model.lm_head(torch.randn(500, TINY.model.text.hidden))
    assert set(logits.argmax(dim=1).tolist()) <= set(words)


def test_photos_are_seen_at_the_size_of_their_files(checkpoint, photos, planned):
    processor = load_processor(checkpoint)
    for path, photo in zip(photos, planned, strict=True):
        with Image.open(path) as picture:
            assert picture.size == photo.size
            grid = processor.image_processor(images=[picture], return_tensors="pt")["image_grid_thw"][0]
        assert grid.tolist() == [1, photo.size[1] // 16, photo.size[0] // 16]


def test_every_file_has_other_bytes_and_the_same_seed_the_same(photos, planned, tmp_path):
    contents = [path.read_bytes() for path in photos]
    assert len(set(contents)) == len(contents)
    write_photos(tmp_path, planned, seed=7)
    assert [photo_path(tmp_path, photo).read_bytes() for photo in planned] == contents


@pytest.mark.parametrize(
    ("name", "least", "most", "prefix"), [("60m", 104, 255, 320), ("4b", 1008, 1024, 600)]
)
def test_shapes_have_the_photos_and_prompts_of_their_workload(processor, name, least, most, prefix):
    shape = SHAPES[name]
    tokens = [width * height // 1024 for width, height in shape.sizes]
    assert (min(tokens), max(tokens)) == (least, most)
    assert any(width > height for width, height in shape.sizes)
    assert any(width < height for width, height in shape.sizes)
    before, behind = text_lengths(processor, prompt_of_length(processor, prefix))
    assert prefix - 3 <= before <= prefix
    assert 5 <= behind <= 60


@pytest.mark.parametrize(("name", "millions"), [("tiny", 0.95), ("60m", 59.5), ("4b", 4826)])
def test_shapes_have_so_many_weights(processor, name, millions):
    config = Qwen3VLConfig(**model_config(SHAPES[name].model, processor.tokenizer))
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_the_4b_shape_is_that_of_qwen3_vl_4b(processor):
    config = Qwen3VLConfig(**model_config(SHAPES["4b"].model, processor.tokenizer))
    text, vision = config.text_config, config.vision_config
    assert (text.hidden_size, text.intermediate_size, text.num_hidden_layers) == (2560, 9728, 36)
    assert (text.num_attention_heads, text.num_key_value_heads, text.head_dim) == (32, 8, 128)
    assert (text.vocab_size, text.rope_parameters["rope_theta"]) == (151936, 5e6)
    assert text.rope_parameters["mrope_section"] == [24, 20, 20]
    assert (vision.hidden_size, vision.intermediate_size, vision.depth) == (1024, 4096, 24)
    assert (vision.num_heads, vision.patch_size, vision.spatial_merge_size) == (16, 16, 2)
    assert (vision.deepstack_visual_indexes, vision.out_hidden_size) == ([5, 11, 17], 2560)
    assert vision.num_position_embeddings == 2304


def test_the_folder_is_a_complete_checkpoint(checkpoint):
    assert resolve_checkpoint(str(checkpoint.folder)).content_hash()
    settings = json.loads((checkpoint.folder / "preprocessor_config.json").read_text("utf-8"))
    assert settings["size"] == {"shortest_edge": 15 * 1024, "longest_edge": 35 * 1024}
