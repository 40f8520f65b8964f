"""Qwen3-VL on one device in this process: what the engines share that run torch here."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from stage_a_pipeline.engines.base import InputTrace, Request
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.loading import load_model, usable_device
from stage_a_pipeline.engines.memory import free_bytes, most_rows, request_memory, rows_in
from stage_a_pipeline.engines.qwen3vl import Qwen3VL
from stage_a_pipeline.errors import EngineError, EngineOutOfMemoryError
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch

    from stage_a_pipeline.engines.grammar import GrammarState, SummaryGrammars

_OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")
"""In messages of torch that is out of memory without saying so by type: on a host, in CUDA, in cuBLAS."""


class Qwen3VLOnDevice(Qwen3VL):
    """A loaded checkpoint: photos and texts into tensors, and what torch raises into our errors.

    Raises CheckpointError for a checkpoint, an adapter or a device that cannot be used.
    """

    prefilled_together: int | None = None
    """How many prompts of a batch are computed at once; None: all."""

    growth: int = 1
    """Room for keys and values is taken for a multiple of so many tokens."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, device: str) -> None:
        import torch

        self._torch = torch
        self._device = usable_device(device)
        self._dtype: torch.dtype = getattr(torch, settings.dtype_on(device))
        self._sharing = max(1, settings.devices.count(device))
        self._grammars: SummaryGrammars | None = None
        super().__init__(checkpoint)
        self._model = load_model(checkpoint, settings, self._device, self._dtype)

    def fitting_rows(self, prompts: Collection[Prompt], *, max_pixels: int, max_new_tokens: int) -> int:
        """See Engine."""
        image_tokens = self.most_image_tokens(max_pixels)
        request = request_memory(
            self._model.config,
            prompt_tokens=max(map(self.text_tokens, prompts)) + image_tokens,
            patches=image_tokens * self._processor.image_processor.merge_size**2,
            answer_tokens=max_new_tokens,
            item_bytes=self._dtype.itemsize,
            growth=self.growth,
        )
        with self.translated_errors():
            # All workers of a run start together, and find the same memory free.
            free = free_bytes(self._device) // self._sharing
        return rows_in(
            free, request, prefilled_together=self.prefilled_together, most=most_rows(self._device.type)
        )

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        with self.translated_errors(), self.inference_mode():
            return super().trace_inputs(requests)

    def close(self) -> None:
        """See Engine."""
        self._model = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def start_grammar(self, request: Request) -> GrammarState | None:
        """The grammar of the request's answer, before its first token; None where anything may be said."""
        if request.grammar is None:
            return None
        if self._grammars is None:
            from stage_a_pipeline.engines.grammar import SummaryGrammars

            self._grammars = SummaryGrammars(
                self._processor.tokenizer,
                vocabulary=self._model.lm_head.out_features,
                stop_ids=self.stop_ids,
            )
        return self._grammars.start(request.grammar)

    @contextmanager
    def inference_mode(self) -> Iterator[None]:
        """Without gradients, and with the engine's device as the current one: torch records events and
        graphs there, whichever device their tensors are on."""
        cuda = self._torch.cuda
        on_device = cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
        with self._torch.inference_mode(), on_device:
            yield

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Errors of torch and the processor as EngineError, out of memory as its own kind."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            self._torch.cuda.empty_cache()
            raise EngineOutOfMemoryError(str(error)) from error
        except MemoryError as error:
            raise EngineOutOfMemoryError("the host has no memory left for this batch") from error
        except RuntimeError as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise EngineOutOfMemoryError(str(error)) from error
            raise EngineError(f"{type(error).__name__}: {error}") from error
        except (ValueError, IndexError, TypeError) as error:
            raise EngineError(f"{type(error).__name__}: {error}") from error
