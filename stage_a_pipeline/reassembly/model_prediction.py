"""Models that map diffraction patterns to patches, loaded from TorchScript or torch.export archives."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.device import choose_device
from stage_a_pipeline.reassembly.model_archive import require_plain_export, require_torchscript
from stage_a_pipeline.reassembly.model_folder import ModelFile

if TYPE_CHECKING:
    import torch

_MODEL_ERRORS = (RuntimeError, AssertionError, ValueError, TypeError, IndexError, KeyError)
"""What a graph raises that does not fit: torch's own errors, and the guards of torch.export."""


class Predictor:
    """A loaded model; `seconds` is the time that its predictions took."""

    def __init__(self, path: Path, run: Callable[[Any], Any], device: torch.device) -> None:
        self.path = path
        self.seconds = 0.0
        self._run = run
        self._device = device
        self._worked_with: int | None = None

    def predict(self, diffraction: NDArray[np.float32]) -> torch.Tensor:
        """(b, N, N) complex patches, on the device, for (b, N, N) patterns. Raises ReassemblyError."""
        import torch

        started = time.perf_counter()
        # A copy: torch warns of arrays that it could not write to.
        batch = torch.from_numpy(np.array(diffraction, np.float32)).to(self._device)
        with torch.no_grad(), self._clear_errors(tuple(batch.shape)):
            patches = _as_complex(self._run(batch), tuple(batch.shape), source=str(self.path))
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        self._worked_with = len(batch)
        self.seconds += time.perf_counter() - started
        return patches

    @contextmanager
    def _clear_errors(self, shape: tuple[int, ...]) -> Iterator[None]:
        import torch

        asked = f"{self.path}: {shape[0]} patterns of {shape[1]}x{shape[2]} pixels at once"
        try:
            yield
        except ReassemblyError:
            raise
        except torch.OutOfMemoryError as error:
            raise ReassemblyError(
                f"{asked} have no room on {self._device}; lower the predict batch size"
            ) from error
        except _MODEL_ERRORS as error:
            cause = _last_line(error)
            if self._worked_with not in (None, shape[0]):
                raise ReassemblyError(
                    f"{asked} failed, where {self._worked_with} did not ({cause}); export the model with a "
                    "dynamic batch dimension, or choose a predict batch size that divides the number of "
                    "patterns"
                ) from error
            raise ReassemblyError(
                f"{asked} failed ({cause}); the model must take float32 (batch, N, N), with a dynamic batch "
                "dimension or one that is the predict batch size"
            ) from error


def load_predictor(model: ModelFile, device: str) -> Predictor:
    """The model, ready to predict on that device. Raises ReassemblyError, ConfigurationError."""
    place = choose_device(device)
    load = _load_exported if model.kind == "exported" else _load_torchscript
    return Predictor(model.path, load(model.path, place), place)


def _load_torchscript(path: Path, device: torch.device) -> Callable[[Any], Any]:
    require_torchscript(path)
    import torch

    with warnings.catch_warnings(), _unreadable(path):
        # TorchScript goes on to be read, and those who have such models cannot make others of them.
        warnings.filterwarnings(
            "ignore", message=r"`torch\.jit\.load` is deprecated", category=DeprecationWarning
        )
        module = torch.jit.load(str(path), map_location=device)
    module.eval()
    return module  # type: ignore[no-any-return]


def _load_exported(path: Path, device: torch.device) -> Callable[[Any], Any]:
    require_plain_export(path)
    import torch
    from torch.export.passes import move_to_device_pass

    with _unreadable(path):
        program = torch.export.load(path)
        if device.type != "cpu":
            program = move_to_device_pass(program, device)
        # An exported graph has no mode of its own: it is that of the model when it was exported.
        return program.module()


@contextmanager
def _unreadable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *_MODEL_ERRORS) as error:
        raise ReassemblyError(
            f"{path}: cannot be loaded ({_last_line(error)}); save the model again with the torch that is "
            "installed"
        ) from error


def _as_complex(found: Any, shape: tuple[int, ...], *, source: str) -> torch.Tensor:
    """(b, N, N) complex64 of what a model returns for patterns of that shape. Raises ReassemblyError."""
    import torch

    if isinstance(found, (tuple, list)):
        if len(found) == 1:
            return _as_complex(found[0], shape, source=source)
        if len(found) == 2 and all(
            isinstance(one, torch.Tensor) and one.is_floating_point() for one in found
        ):
            amplitude, phase = (_flat(one, shape, source=source).float() for one in found)
            return torch.polar(amplitude, phase)
    elif isinstance(found, torch.Tensor) and found.is_complex():
        return _flat(found, shape, source=source).to(torch.complex64)
    raise ReassemblyError(
        f"{source}: returns {_words(found)}; a model returns complex patches, or a pair of real ones, "
        "amplitude and phase"
    )


def _flat(patches: torch.Tensor, shape: tuple[int, ...], *, source: str) -> torch.Tensor:
    if tuple(patches.shape) not in (shape, (*shape, 1)):
        raise ReassemblyError(
            f"{source}: returns patches of shape {tuple(patches.shape)} for patterns of shape {shape}; they "
            f"must be of that shape, or of {(*shape, 1)}"
        )
    return patches.reshape(shape)


def _words(found: Any) -> str:
    import torch

    if isinstance(found, torch.Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    if isinstance(found, (tuple, list)):
        return f"a {type(found).__name__} of ({', '.join(map(_words, found))})"
    return f"a {type(found).__name__}"


def _last_line(error: BaseException) -> str:
    """What went wrong, without the listing of a TorchScript model's code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:300]}" if lines else type(error).__name__
