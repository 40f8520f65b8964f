"""Linear layers over weights in oneDNN's layout: the same products, whoever the neighbours are."""

import os
import weakref
from types import SimpleNamespace

import pytest
import torch
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionMLP

from stage_a_pipeline.engines import packed_linear
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_model
from stage_a_pipeline.engines.packed_linear import PackedLinear, can_pack, pack_linear_layers
from stage_a_pipeline.engines.refill import RefillEngine
from stage_a_pipeline.settings import EngineSettings
from tests.engines.conftest import OPTIONS

CPU = torch.device("cpu")

needs_packing = pytest.mark.skipif(not can_pack(torch.float32), reason="packing is for x86-64 CPUs")


def linear(inputs, outputs, *, bias=True, dtype=torch.float32):
    torch.manual_seed(inputs + outputs)
    return torch.nn.Linear(inputs, outputs, bias=bias, dtype=dtype)


def model(**settings):
    return load_model(resolve_checkpoint("builtin"), EngineSettings(**settings), CPU, torch.float32)


def packed_layers(model):
    return [name for name, module in model.named_modules() if isinstance(module, PackedLinear)]


def linear_layers(model):
    return [(name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(96,), (1, 96), (5, 96), (2, 7, 96), (0, 96)])
def test_it_multiplies_as_the_layer_does(shape, bias):
    layer = linear(96, 33, bias=bias)
    inputs = torch.randn(shape)
    with torch.inference_mode():
        expected, packed = layer(inputs), PackedLinear(layer)(inputs)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-5)


@needs_packing
def test_inputs_need_not_lie_in_order():
    layer = linear(64, 40)
    inputs = torch.randn(64, 9).T
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs), rtol=1e-5, atol=1e-5)


@needs_packing
@pytest.mark.parametrize("activation", [("none", ""), ("gelu", "tanh")])
@pytest.mark.parametrize("inputs", [128, 1536])
def test_a_row_is_the_same_bit_for_bit_among_any_neighbours(inputs, activation):
    packed = PackedLinear(linear(inputs, 256))
    packed.activation, packed.algorithm = activation
    rows = torch.randn(33, inputs)
    with torch.inference_mode():
        together = packed(rows)
        for count in (2, 3, 7, 16):
            assert torch.equal(packed(rows[:count]), together[:count])


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="this CPU has no products in bfloat16")
def test_it_multiplies_in_bfloat16():
    layer = linear(96, 33, dtype=torch.bfloat16)
    inputs = torch.randn(4, 96, dtype=torch.bfloat16)
    with torch.inference_mode():
        packed = PackedLinear(layer)(inputs)
        assert packed.dtype == torch.bfloat16
        torch.testing.assert_close(packed, layer(inputs), rtol=0.02, atol=0.02)


@needs_packing
def test_layers_of_a_loaded_model_are_packed_where_they_are_large(monkeypatch):
    plain = linear_layers(model(packed_weights=False))
    large = [name for name, layer in plain if layer.weight.numel() >= 1 << 17 and name != "lm_head"]
    assert packed_layers(model()) == large
    assert large
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)
    loaded = model()
    assert [name for name, _ in linear_layers(loaded)] == ["lm_head"], "it is the embedding, too"
    assert "model.visual.patch_embed.proj.linear" in packed_layers(loaded)


@needs_packing
def test_gelus_of_the_vision_part_become_part_of_the_layer_before(monkeypatch):
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)
    plain, packed = (model(packed_weights=packs).model.visual for packs in (False, True))
    for name, part in (("blocks.0.mlp", plain.blocks[0].mlp), ("merger", plain.merger)):
        inputs = torch.randn(8, part.linear_fc1.in_features)
        fused = packed.get_submodule(name)
        assert isinstance(fused.act_fn, torch.nn.Identity)
        assert not isinstance(part.act_fn, torch.nn.Identity)
        if name == "merger":
            inputs = inputs.view(-1, plain.merger.norm.normalized_shape[0])
        with torch.inference_mode():
            torch.testing.assert_close(fused(inputs), part(inputs), rtol=1e-4, atol=1e-5)


@needs_packing
@pytest.mark.parametrize(
    ("name", "fused"),
    [("gelu", True), ("gelu_pytorch_tanh", True), ("gelu_new", False), ("silu", False), ("relu", False)],
)
def test_whatever_follows_the_result_is_the_same(name, fused):
    part = Qwen3VLVisionMLP(
        SimpleNamespace(hidden_size=32, intermediate_size=48, hidden_act=name)  # what it reads of its config
    )
    inputs = 3 * torch.randn(7, 32)
    with torch.inference_mode():
        expected = part(inputs)
        part.linear_fc1 = PackedLinear(part.linear_fc1)
        packed_linear._take_in_gelu(part)
        assert isinstance(part.act_fn, torch.nn.Identity) is fused
        torch.testing.assert_close(part(inputs), expected, rtol=1e-5, atol=1e-5)


@needs_packing
def test_a_tied_head_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)
    embedding, head = torch.nn.Embedding(20, 8), linear(8, 20, bias=False)
    tied = torch.nn.Sequential(embedding, linear(8, 8), head)
    head.weight = embedding.weight
    tied.get_input_embeddings = lambda: embedding
    pack_linear_layers(tied)
    assert tied[2] is head
    assert isinstance(tied[1], PackedLinear)


@needs_packing
def test_torch_is_told_how_many_shapes_to_keep_unless_the_user_says(monkeypatch):
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    model()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"


@needs_packing
def test_answers_over_packed_weights_are_the_same(monkeypatch, requests, singles):
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)
    engine = RefillEngine(resolve_checkpoint("builtin"), EngineSettings(), "cpu")
    assert packed_layers(engine._model)
    assert engine.generate(requests, OPTIONS) == singles
    engine.close()


@needs_packing
def test_a_layer_is_let_go_before_the_next_is_packed(monkeypatch):
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)
    alive, most = weakref.WeakSet(), []

    class Counting(PackedLinear):
        def __init__(self, layer):
            super().__init__(layer)
            most.append(len(alive))

    many = torch.nn.Sequential(*(linear(8, 8) for _ in range(5)))
    many.get_input_embeddings = lambda: torch.nn.Embedding(2, 2)
    alive.update(many)
    monkeypatch.setattr(packed_linear, "PackedLinear", Counting)
    pack_linear_layers(many)
    assert most == [5, 4, 3, 2, 1]


@needs_packing
def test_layers_with_arithmetic_of_their_own_are_left_alone(monkeypatch):
    monkeypatch.setattr(packed_linear, "_LEAST_WEIGHTS", 1)

    class Scaled(torch.nn.Linear):
        def forward(self, inputs):
            return 3 * super().forward(inputs)

    parts = torch.nn.Sequential(Scaled(8, 8), linear(8, 8, dtype=torch.float16), linear(8, 8))
    parts.get_input_embeddings = lambda: torch.nn.Embedding(2, 2)
    kept = list(parts)
    pack_linear_layers(parts)
    assert [part is before for part, before in zip(parts, kept, strict=True)] == [True, True, False]


def test_weights_stay_as_they_are_when_told_so():
    assert packed_layers(model(packed_weights=False)) == []


def test_another_machine_does_without(monkeypatch):
    monkeypatch.setattr(packed_linear.platform, "machine", lambda: "aarch64")
    assert not can_pack(torch.float32)
    assert packed_layers(model()) == []


def test_torch_without_onednn_does_without(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(torch.float32)


def test_other_types_are_not_packed():
    assert not can_pack(torch.float16)
    assert not can_pack(torch.float64)
