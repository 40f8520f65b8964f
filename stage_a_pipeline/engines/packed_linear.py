"""Linear layers over weights that are laid out for a CPU once, when the model is loaded.

torch hands a product in float32 to MKL, which arranges the weights anew at every call: with the sixteen rows
of a decoding step that takes as long as the product. oneDNN, which is in torch too, keeps the arrangement.
From two rows on, its product of a row is also the same bit for bit whoever the neighbours are. A GELU that
follows is computed while the outputs are still in the cache.
"""

from __future__ import annotations

import os
import platform
from typing import Any, Final

import torch
from transformers.activations import GELUActivation, GELUTanh
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionMLP, Qwen3VLVisionPatchMerger

_LEAST_WEIGHTS: Final = 1 << 17
"""A call of oneDNN takes 20 µs longer than one of MKL: with fewer weights than these, that is more than the
arranging (measured for 1 to 600 rows)."""

_KEPT_SHAPES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "16"}
"""Both caches keep about half a MiB for every number of rows times every size of weights, 1024 of them unless
told. What is not kept is made again in a millisecond."""


class PackedLinear(torch.nn.Module):
    """Does what `linear` does, without gradients; `weight` is [outputs, inputs] in oneDNN's own layout."""

    weight: torch.Tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.register_buffer("weight", packed, persistent=False)
        self.activation, self.algorithm = "none", ""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., outputs] of `inputs` [..., inputs]."""
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self.weight, self.bias, self.activation, [], self.algorithm
        )
        return outputs


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this machine's CPU and this torch have oneDNN's products for weights of that type."""
    if platform.machine() not in ("x86_64", "AMD64") or not _has_onednn():
        return False
    if not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _has_onednn() -> bool:
    available: Any = torch.backends.mkldnn.is_available
    return bool(available())


def pack_linear_layers(model: Any) -> None:
    """Replace the large linear layers of a model on a CPU, one at a time: it needs no more memory then.

    A GELU behind one of them becomes part of it.
    A head that shares its weights with the embedding stays as it is: it would take them twice.
    """
    # torch reads these when it first needs them.
    for name, count in _KEPT_SHAPES.items():
        os.environ.setdefault(name, count)
    shared = model.get_input_embeddings().weight
    # By name: lists and iterators of modules would keep the layers that are replaced.
    for parent in [module for module in model.modules() if not isinstance(module, torch.nn.Linear)]:
        for name in [name for name, _ in parent.named_children()]:
            child = getattr(parent, name)
            if _gains(child) and child.weight is not shared:
                setattr(parent, name, PackedLinear(child))
        if isinstance(parent, Qwen3VLVisionMLP | Qwen3VLVisionPatchMerger):
            _take_in_gelu(parent)


def _take_in_gelu(part: Qwen3VLVisionMLP | Qwen3VLVisionPatchMerger) -> None:
    layer, algorithm = part.linear_fc1, _gelu_algorithm(part.act_fn)
    if isinstance(layer, PackedLinear) and algorithm is not None:
        layer.activation, layer.algorithm = "gelu", algorithm
        part.act_fn = torch.nn.Identity()


def _gelu_algorithm(activation: torch.nn.Module) -> str | None:
    """oneDNN's name of how it is computed; None: it is another function."""
    if type(activation) is torch.nn.GELU:
        return activation.approximate
    return {GELUTanh: "tanh", GELUActivation: "none"}.get(type(activation))


def _gains(layer: torch.nn.Module) -> bool:
    """Whether it is a large linear layer; subclasses, quantised ones for instance, compute otherwise."""
    if type(layer) is not torch.nn.Linear:
        return False
    return layer.weight.numel() >= _LEAST_WEIGHTS and can_pack(layer.weight.dtype)
