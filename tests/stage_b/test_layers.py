"""Which layers an adapter may change, in the real module trees of Qwen3-VL."""

import re
from functools import cache

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen3VLMoeConfig
from transformers.models.qwen3_vl_moe import Qwen3VLMoeForConditionalGeneration

from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.errors import CheckpointError, ConfigurationError
from stage_a_pipeline.stage_b.layers import select_last_blocks

ATTENTION = tuple(f"self_attn.{projection}_proj" for projection in "qkvo")
DENSE = (*ATTENTION, *(f"mlp.{projection}_proj" for projection in ("gate", "up", "down")))


@cache
def tiny():
    """The built-in checkpoint's tree: four language blocks."""
    config = AutoConfig.from_pretrained(resolve_checkpoint("builtin").folder)
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@cache
def mixture():
    """Twelve blocks of experts, the last but one of them dense."""
    text = {"num_hidden_layers": 12, "hidden_size": 64, "num_attention_heads": 4, "num_experts": 4}
    config = Qwen3VLMoeConfig(
        text_config={**text, "num_key_value_heads": 4, "mlp_only_layers": [10]},
        vision_config={"depth": 3, "deepstack_visual_indexes": [1], "out_hidden_size": 64},
    )
    with torch.device("meta"):
        return Qwen3VLMoeForConditionalGeneration(config)


def names_of(model) -> list[str]:
    return [name for name, _ in model.named_modules()]


def below(block: int, layers: tuple[str, ...]) -> list[str]:
    return [f"model.language_model.layers.{block}.{layer}" for layer in layers]


SELECTIONS = [
    (tiny, 1, (3,), [*below(3, DENSE)]),
    (tiny, 2, (2, 3), [*below(2, DENSE), *below(3, DENSE)]),
    (tiny, 4, (0, 1, 2, 3), [name for block in range(4) for name in below(block, DENSE)]),
    (tiny, 99, (0, 1, 2, 3), [name for block in range(4) for name in below(block, DENSE)]),
    (mixture, 1, (11,), [*below(11, ATTENTION)]),
    (mixture, 3, (9, 10, 11), [*below(9, ATTENTION), *below(10, DENSE), *below(11, ATTENTION)]),
]


@pytest.mark.parametrize(("model", "last_k", "blocks", "modules"), SELECTIONS)
def test_the_last_blocks_are_chosen_by_number(model, last_k, blocks, modules):
    selection = select_last_blocks(names_of(model()), last_k)
    assert selection.blocks == blocks
    assert selection.depth == len(model().model.language_model.layers)
    assert sorted(selection.modules) == sorted(modules)


@pytest.mark.parametrize(("model", "last_k"), [(tiny, 1), (tiny, 3), (mixture, 3), (mixture, 11)])
def test_the_expression_matches_the_chosen_modules_and_no_other_of_the_tree(model, last_k):
    selection = select_last_blocks(names_of(model()), last_k)
    matched = [name for name in names_of(model()) if re.fullmatch(selection.target_regex, name)]
    assert tuple(matched) == selection.modules
    assert any(".visual." in name for name in names_of(model()))
    assert not [name for name in matched if "visual" in name or "lm_head" in name]


def test_modules_of_a_wrapped_model_are_found_under_their_longer_names():
    wrapped = [f"base_model.model.{name}" for name in names_of(tiny())]
    selection = select_last_blocks(wrapped, 1)
    assert selection.modules == tuple(f"base_model.model.{name}" for name in below(3, DENSE))
    assert selection.target_regex == select_last_blocks(names_of(tiny()), 1).target_regex


@pytest.mark.parametrize(("model", "last_k"), [(tiny, 2), (mixture, 3)])
def test_peft_gives_an_adapter_to_the_chosen_modules_alone(model, last_k):
    selection = select_last_blocks(names_of(model()), last_k)
    with torch.device("meta"):
        fresh = type(model())(model().config)
        adapted = get_peft_model(fresh, LoraConfig(target_modules=selection.target_regex))
    trained = {
        name.removeprefix("base_model.model.").partition(".lora_")[0]
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }
    assert trained == set(selection.modules)


@pytest.mark.parametrize("last_k", [0, -1])
def test_fewer_than_one_block_is_an_error(last_k):
    with pytest.raises(ConfigurationError, match=r"grpo\.lora_last_k is -?\d; .* at least 1 block"):
        select_last_blocks(names_of(tiny()), last_k)


def test_a_tree_without_language_blocks_is_an_error():
    looks_only = [name for name in names_of(tiny()) if "visual" in name]
    with pytest.raises(CheckpointError, match=r"no blocks under language_model\.layers"):
        select_last_blocks(looks_only, 1)
