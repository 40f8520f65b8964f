"""How many requests at once a device has room for, reckoned from the model's shape and the free memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_USED_SHARE: Final = 0.8
"""Of the free memory: what libraries and fragments take is not reckoned."""

_MOST_ROWS: Final = {"cpu": 32, "cuda": 128}
"""More rows cost as much as they bring: a CPU computes them one after the other from about 16 on, and on a
GPU reading their keys and values takes longer than reading the weights."""

_STATES: Final = 8
"""Tensors of a layer's width that live at once while prompts or patches go through it."""

_CGROUPS: Final = (
    ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Where the kernel tells of a container's memory: its limit, what counts against it, and how much of that is
files that were read and can be forgotten."""


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """Bytes of one request: all the time that it is under way, and while its prompt is computed."""

    under_way: int
    prefill: int


def request_memory(
    config: Any,
    *,
    prompt_tokens: int,
    patches: int,
    answer_tokens: int,
    item_bytes: int,
    growth: int = 1,
) -> RequestMemory:
    """For a Qwen3-VL of that configuration, whose numbers take `item_bytes` each.

    Under way are keys and values of all tokens, which take room for a multiple of `growth` tokens, and
    scores of the vocabulary in float32, a few times over; in the prompt's forward pass the states of its
    tokens, and of the photo's patches with their pixels.
    """
    text, vision = config.text_config, config.vision_config
    tokens = -(-(prompt_tokens + answer_tokens) // growth) * growth
    cache = cache_bytes_per_token(config, item_bytes=item_bytes)
    scores = 4 * 4 * text.vocab_size
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    per_patch = _STATES * vision.hidden_size + 2 * vision.intermediate_size + pixels
    per_token = _STATES * text.hidden_size + 3 * text.intermediate_size
    return RequestMemory(
        under_way=tokens * cache + scores,
        prefill=max(patches * per_patch, prompt_tokens * per_token) * item_bytes,
    )


def cache_bytes_per_token(config: Any, *, item_bytes: int) -> int:
    """Bytes of one token's keys and values in all layers."""
    text = config.text_config
    return int(2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * item_bytes)


def rows_in(free: int, request: RequestMemory, *, prefilled_together: int | None, most: int) -> int:
    """Requests at once in `free` bytes, from 1 to `most`; all are prefilled together where that is None."""
    usable = free * _USED_SHARE
    if prefilled_together is None:
        # generate copies its cache when it grows.
        rows = usable // (2 * request.under_way + request.prefill)
    else:
        rows = (usable - prefilled_together * request.prefill) // request.under_way
    return max(1, min(most, int(rows)))


def most_rows(device_type: str) -> int:
    """More requests at once speed nothing up on devices of that type, `cpu` or `cuda`."""
    return _MOST_ROWS[device_type]


def free_bytes(device: torch.device) -> int:
    """Memory that this process can still take on the device."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_on_host()


def free_on_host() -> int:
    """Memory that this process can still take on the host."""
    return min(_free_on_host())


def _free_on_host() -> Iterator[int]:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    # A container may take less than its machine has.
    for folder, limit, used, forgettable in _CGROUPS:
        place = Path(folder)
        if (place / limit).is_file() and (most := (place / limit).read_text("ascii").strip()) != "max":
            lines = (place / "memory.stat").read_text("ascii").splitlines()
            files = (int(line.split()[1]) for line in lines if line.startswith(f"{forgettable} "))
            yield int(most) - int((place / used).read_text("ascii")) + sum(files)
