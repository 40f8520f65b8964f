"""Proof that training left alone what it must not touch: hashes of a model's parts, before and after."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.errors import TrainingError

if TYPE_CHECKING:
    import torch

VISION: Final = "vision"
ALIGNER: Final = "aligner"
LANGUAGE: Final = "language"
PARTS: Final = (VISION, ALIGNER, LANGUAGE)

_ALIGNER: Final = re.compile(r"(?:.*\.)?visual\.(?:merger|deepstack_merger_list)\.")
_VISION: Final = re.compile(r"(?:.*\.)?visual\.")
_ADAPTER: Final = re.compile(r"(?:.*\.)?lora_")


def hash_parts(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, str]:
    """SHA-256 per part of Qwen3-VL over names and bytes of its weights, an adapter's left out.

    `vision` is the tower without what merges its patches for the language model, which is the
    `aligner`; `language` is all else. Names are those of the checkpoint, whatever PEFT put around them.
    """
    import torch

    digests: dict[str, Any] = defaultdict(sha256)
    weights = {_own_name(name): weight for name, weight in named if not _ADAPTER.match(name)}
    for name in sorted(weights):
        digest = digests[_part_of(name)]
        weight = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tuple(weight.shape)}\0{weight.dtype}\0".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy())
    return {part: digests[part].hexdigest() for part in PARTS if part in digests}


def require_unchanged(before: Mapping[str, str], after: Mapping[str, str]) -> None:
    """TrainingError names the parts whose hashes differ."""
    changed = [part for part in before if before[part] != after.get(part)]
    if changed:
        raise TrainingError(
            f"training changed the checkpoint's own weights ({', '.join(changed)}), which it must not; the "
            "adapter was not kept; report this with the versions of trl and peft"
        )


def trainable_names(named: Iterable[tuple[str, torch.nn.Parameter]]) -> Sequence[str]:
    """The parameters that training changes."""
    return [name for name, parameter in named if parameter.requires_grad]


def _own_name(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _part_of(name: str) -> str:
    if _ALIGNER.match(name):
        return ALIGNER
    return VISION if _VISION.match(name) else LANGUAGE
