"""The engine of a run that has nothing to ask: every photo is answered by the journal."""

from __future__ import annotations

from collections.abc import Sequence

from stage_a_pipeline.engines.base import Completion, GenerationOptions, InputTrace, Request, RunningBatch
from stage_a_pipeline.engines.static_batch import StaticBatch
from stage_a_pipeline.errors import EngineError, PhotoError


class IdleEngine:
    """Needs no device and no model, and answers nothing."""

    name = "idle"

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:  # noqa: ARG002
        """See Engine. Asked only for a photo that was answered a moment ago, and then changed."""
        raise PhotoError(
            "changed", f"the photo ({width}x{height}) changed while the run was under way; run again"
        )

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:  # noqa: ARG002
        """See Engine."""
        raise EngineError(f"no model was loaded for {len(requests)} photos; run again")

    def start_batch(self, rows: int) -> RunningBatch:
        """See Engine."""
        return StaticBatch(self.generate, rows)

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        raise EngineError(f"no model was loaded for {len(requests)} photos; run again")

    def close(self) -> None:
        """See Engine."""
