"""Hashes of a model's parts: they see every weight, and look through what PEFT puts around it."""

import pytest
import torch

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_weights
from stage_a_pipeline.errors import TrainingError
from stage_a_pipeline.stage_b.frozen_weights import hash_parts, require_unchanged, trainable_names
from stage_a_pipeline.stage_b.layers import select_last_blocks


@pytest.fixture(scope="module")
def model():
    checkpoint = resolve_checkpoint("builtin")
    return load_weights(checkpoint, torch.device("cpu"), torch.float32, attn_implementation="sdpa")


PARTS = {
    "model.visual.patch_embed.proj.weight": "vision",
    "model.visual.blocks.0.attn.qkv.weight": "vision",
    "model.visual.merger.linear_fc1.weight": "aligner",
    "model.visual.deepstack_merger_list.0.linear_fc2.weight": "aligner",
    "model.language_model.embed_tokens.weight": "language",
    "model.language_model.layers.3.self_attn.q_proj.weight": "language",
}


@pytest.mark.parametrize(("name", "part"), PARTS.items())
def test_one_changed_weight_changes_the_hash_of_its_part_alone(model, name, part):
    before = hash_parts(model.named_parameters())
    assert list(before) == ["vision", "aligner", "language"]
    weight = dict(model.named_parameters())[name].data.view(-1)
    kept = weight[-1].item()
    weight[-1] = kept + 1
    try:
        after = hash_parts(model.named_parameters())
    finally:
        weight[-1] = kept
    assert [one for one in before if before[one] != after[one]] == [part]
    assert hash_parts(model.named_parameters()) == before


def test_the_order_of_weights_does_not_count_and_their_names_shapes_and_types_do():
    one, other = torch.arange(4.0), torch.arange(4.0) + 1
    base = hash_parts([("a", one), ("b", other)])
    assert hash_parts([("b", other), ("a", one)]) == base
    for changed in (
        [("a", other), ("b", one)],
        [("a", one), ("c", other)],
        [("a", one.reshape(2, 2)), ("b", other)],
        [("a", one.view(torch.int32)), ("b", other)],
    ):
        assert hash_parts(changed) != base


def test_weights_of_every_type_and_layout_have_a_hash():
    weight = torch.arange(6.0).reshape(2, 3)
    for odd in (weight.T, weight.to(torch.bfloat16), torch.tensor(1.0), torch.empty(0)):
        assert list(hash_parts([("a", odd)])) == ["language"]
    assert hash_parts([("a", weight.T)]) == hash_parts([("a", weight.T.contiguous())])


def test_the_names_are_the_checkpoint_s_whatever_peft_puts_around_them(model):
    from peft import LoraConfig, get_peft_model

    before = hash_parts(model.named_parameters())
    selection = select_last_blocks((name for name, _ in model.named_modules()), 2)
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=selection.target_regex))
    try:
        assert hash_parts(wrapped.named_parameters()) == before
        adapted = trainable_names(wrapped.named_parameters())
        # Two matrices for each of seven projections of two blocks.
        assert len(adapted) == 2 * 7 * 2
        assert {name.split(".layers.")[1][0] for name in adapted} == {"2", "3"}
        assert all("language_model" in name and ".lora_" in name for name in adapted)
    finally:
        wrapped.unload()


def test_a_part_that_changed_is_named():
    before = {"vision": "a", "aligner": "b", "language": "c"}
    require_unchanged(before, dict(before))
    with pytest.raises(TrainingError, match=r"own weights \(aligner\), .*adapter was not kept; report this"):
        require_unchanged(before, before | {"aligner": "x"})
    with pytest.raises(TrainingError, match=r"\(vision, language\)"):
        require_unchanged(before, {"aligner": "b"})
