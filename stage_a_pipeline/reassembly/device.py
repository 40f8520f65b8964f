"""The device that stitches and predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stage_a_pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device of that name; for `auto`, the GPU where there is one. Raises ConfigurationError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"device {name!r} is none; give `auto`, `cpu` or `cuda:0`") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device {name!r} is not known here; give `auto`, `cpu` or `cuda:0`")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"device {name!r} is not there, torch sees {torch.cuda.device_count()} GPUs; give `auto` or `cpu`"
        )
    return device
