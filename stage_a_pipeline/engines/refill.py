"""Continuous batching of a Qwen3-VL checkpoint in this process; see `refill_batch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from stage_a_pipeline.engines.base import Completion, GenerationOptions, Request, RunningBatch, answer_all
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.qwen3vl import PhotoTokens
from stage_a_pipeline.engines.qwen3vl_on_device import Qwen3VLOnDevice
from stage_a_pipeline.engines.refill_policy import CPU, CUDA, RefillPolicy
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from stage_a_pipeline.engines.device_rows import DeviceRows
    from stage_a_pipeline.engines.newcomers import Newcomer
    from stage_a_pipeline.images import Pixels


class RefillEngine(Qwen3VLOnDevice):
    """Qwen3-VL in batches that are refilled while they run.

    In float32 every row gets the tokens that `generate` would give it alone, whoever its neighbours are
    and whenever it joined.
    """

    name = "refill"

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: EngineSettings,
        device: str,
        *,
        policy: RefillPolicy | None = None,
    ) -> None:
        super().__init__(checkpoint, settings, device)
        from stage_a_pipeline.engines.newcomers import Newcomers
        from stage_a_pipeline.engines.patches import Patches
        from stage_a_pipeline.engines.slot_forward import SlotForward

        self.policy = policy or refill_policy(self._device.type, cuda_graphs=settings.cuda_graphs)
        self.prefilled_together, self.growth = self.policy.lump, self.policy.growth
        self.forward = SlotForward(self._model, self._device)
        self.patches = Patches(self._processor.image_processor, dtype=self._dtype, device=self._device)
        self._newcomers = Newcomers(
            self._processor,
            self.forward,
            self.chat_tokens,
            self.patches,
            prefix_reuse=settings.prefix_reuse,
        )
        self._kept_rows: DeviceRows | None = None

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        return answer_all(self.start_batch, requests, options)

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        from stage_a_pipeline.engines.refill_batch import RefillBatch

        return RefillBatch(self, rows)

    def prepare(self, image: Image) -> Pixels:
        """See Engine."""
        with self.translated_errors():
            return self.patches.prepare(image)

    def photo_tokens(self, requests: Sequence[Request]) -> list[PhotoTokens]:
        """See Qwen3VL."""
        newcomers = [self.newcomer(request, GenerationOptions(max_new_tokens=1)) for request in requests]
        return [
            PhotoTokens(
                tuple(newcomer.photo.image_grid_thw[0].tolist()), self._newcomers.image_tokens(newcomer)
            )
            for newcomer in newcomers
        ]

    def newcomer(self, request: Request, options: GenerationOptions) -> Newcomer:
        """The request as tensors."""
        return self._newcomers.newcomer(request, options)

    def take_rows(self, places: int) -> DeviceRows:
        """What the device holds of so many rows: what was given back by a batch of that size, or new."""
        from stage_a_pipeline.engines.device_rows import DeviceRows

        kept, self._kept_rows = self._kept_rows, None
        if kept is not None and kept.places == places:
            return kept
        del kept
        return DeviceRows(self.forward, places, self.policy)

    def give_back(self, rows: DeviceRows) -> None:
        """Nobody is in these rows any more. They are kept where steps are recorded over them."""
        if self.policy.capture:
            self._kept_rows = rows

    def forget_rows(self) -> None:
        """Free what is kept for the next batch."""
        self._kept_rows = None

    def close(self) -> None:
        """See Engine."""
        self.forget_rows()
        self._newcomers.forget_texts()
        self.forward.close()
        super().close()


def refill_policy(device_kind: str, *, cuda_graphs: bool) -> RefillPolicy:
    """How batches are refilled on that kind of device."""
    return replace(CUDA, capture=cuda_graphs) if device_kind == "cuda" else CPU
