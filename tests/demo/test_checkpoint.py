"""The built-in checkpoint: a complete Qwen3-VL folder that reads scenes it has not seen."""

import json
import re
from random import Random

import pytest
import torch
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from stage_a_pipeline.demo.groups import compose_group
from stage_a_pipeline.demo.training.corpus import tokenizer_corpus
from stage_a_pipeline.demo.training.model import MAX_PIXELS, MIN_PIXELS
from stage_a_pipeline.demo.training.tokenizer import chat_without_image, train_tokenizer
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.evaluation.asked import Audience
from stage_a_pipeline.evaluation.run import evaluate_tree
from stage_a_pipeline.prompts import verdict_answer, verdict_prompt
from stage_a_pipeline.settings import load_settings
from tests.demo.conftest import ALL_MISSIONS, MISSION_NAMES, MISSIONS, UNSEEN_SEED

FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
}
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def folder():
    return resolve_checkpoint("builtin").folder


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def test_the_folder_holds_what_a_qwen3_vl_folder_holds_in_at_most_12_megabytes(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12 * MEGABYTE
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())


def test_the_folder_names_no_code_to_be_run(folder):
    for path in folder.glob("*.json"):
        assert "auto_map" not in path.read_text("utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen3VLForConditionalGeneration"]


def test_the_weights_are_bfloat16(folder):
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118


def test_the_image_processor_keeps_the_pixel_budget(folder):
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (MIN_PIXELS, MAX_PIXELS)
    assert processor.patch_size * processor.merge_size == 32


def test_the_tokenizer_is_the_one_that_the_recipe_makes(tokenizer):
    made = train_tokenizer(tokenizer_corpus(MISSIONS))
    assert tokenizer.get_vocab() == made.get_vocab()
    assert tokenizer.chat_template == made.chat_template


def test_unseen_scenes_of_all_missions_get_valid_summaries(tree, tmp_path):
    evaluation = evaluate(tree, tmp_path)
    assert evaluation.scores.photos == tree.photos - tree.broken >= 60
    assert_good(evaluation, MISSION_NAMES)


def test_they_do_without_a_repetition_penalty_as_well(tree, tmp_path):
    names = MISSION_NAMES[::3]
    assert_good(evaluate(tree, tmp_path, names, repetition_penalty=1.0), names)


def assert_good(evaluation, names):
    assert set(evaluation.per_mission) == set(names)
    assert evaluation.rejected == {}
    assert evaluation.scores.valid >= 0.98
    assert evaluation.scores.exact_match >= 0.92
    assert evaluation.scores.attribute_recall >= 0.97
    assert evaluation.scores.attribute_precision >= 0.97


def test_photos_of_missions_that_it_has_not_learnt_are_read_but_not_judged(tmp_path):
    unseen = [mission.name for mission in ALL_MISSIONS if mission not in MISSIONS]
    tree = write_demo_tree(tmp_path / "tree", missions=unseen, groups=8, seed=UNSEEN_SEED)
    evaluation = evaluate(tree, tmp_path, verdicts=True)
    assert set(evaluation.per_mission) == set(unseen)
    assert evaluation.rejected == {}
    assert evaluation.scores.exact_match >= 0.92
    assert evaluation.verdicts is not None
    for scores in evaluation.verdicts.per_mission.values():
        assert scores.accuracy_from_truth <= 0.75


def evaluate(tree, folder, names=(), *, verdicts=False, **engine):
    settings = load_settings(
        environ={},
        overrides={
            "discovery": {"input_root": tree.root, "missions_file": tree.missions_file},
            "engine": {"batch_size": 16, "max_new_tokens": 256, **engine},
            "inference": {"lease_dir": folder / "leases"},
            "output": {"output_dir": folder / "out"},
        },
    )
    nobody = Audience(notice=lambda _: None, bar=lambda _name, _counted: lambda _: None)
    return evaluate_tree(settings, names, nobody, verdicts=verdicts)


def test_unseen_groups_get_verdicts_of_two_lines(model, tokenizer):
    rng = Random(UNSEEN_SEED)
    groups = [
        compose_group(rng, rng.choice(MISSIONS), wanted=wanted, size=rng.randint(1, 4))
        for wanted in ("pass", "fail") * 16
    ]
    answers = answer_texts(model, tokenizer, [verdict_chat(group) for group in groups])
    assert all(re.fullmatch(r"(通过|不通过)\n理由: .+", answer) for answer in answers)
    truths = [verdict_answer(group.verdict.label, group.verdict.reasons) for group in groups]
    right = [said.split("\n")[0] == true.split("\n")[0] for said, true in zip(answers, truths, strict=True)]
    assert sum(right) >= 0.9 * len(right)


def verdict_chat(group):
    return chat_without_image(verdict_prompt(group.mission, [scene.summary for scene in group.scenes]))


def answer_texts(model, tokenizer, chats):
    inputs = tokenizer(chats, padding=True, padding_side="left", return_tensors="pt")
    with torch.inference_mode():
        rows = model.generate(**inputs, max_new_tokens=64)
    return tokenizer.batch_decode(rows[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
