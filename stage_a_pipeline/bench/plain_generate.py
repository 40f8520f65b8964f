"""Baselines: `generate` in loops as a user of transformers writes them, with nothing of ours in the way.

The model is loaded as it comes (sdpa attention, no part replaced), prompts are padded on the left,
everything that the processor returns goes into `generate`, gradients are off, and photos are opened in the
loop. Only the processor is put together by us, since transformers' own needs torchvision; it does the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_a_pipeline.bench.contenders import Batches
from stage_a_pipeline.bench.engine_records import Answer, EngineRun, EngineTask, Work
from stage_a_pipeline.bench.meter import Meter
from stage_a_pipeline.bench.photo_files import MISSION, photo_path
from stage_a_pipeline.bench.prompt_length import chat_text
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.engines.checkpoint import resolve_checkpoint
from stage_a_pipeline.engines.loading import load_processor
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.prompts import Prompt, build_prompt
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
WARM_UP_TOKENS = 2


def run_plain(task: EngineTask, batches: Batches) -> EngineRun:
    """Measure one of the loops, after a warm-up of two short answers (on CUDA of a full batch)."""
    loop = _Loop(task)
    prompt = task.prompt or build_prompt(load_missions()[MISSION])
    warm = list(range(min(len(task.photos), task.batch_size if loop.on_cuda else 2)))
    loop.answer(warm, warm_up_prompt(prompt), [WARM_UP_TOKENS] * len(warm))
    loop.start_afresh()
    meter = Meter(task.device)
    answers: dict[int, Answer] = {}
    for rows in plan_batches(task.photos, batches, task.batch_size, Path(task.photos_root)):
        limits = [task.photos[row].answer_tokens or task.max_new_tokens for row in rows]
        answers.update(zip(rows, loop.answer(rows, prompt, limits), strict=True))
    reading = meter.stop()
    return EngineRun(
        answers=tuple(answers[place] for place in range(len(task.photos))),
        wall_seconds=reading.wall_seconds,
        cpu_seconds=reading.cpu_seconds,
        waiting_seconds=loop.preparing_seconds,
        peak_memory_mb=reading.peak_memory_mb,
        work=loop.work,
    )


def warm_up_prompt(prompt: Prompt) -> Prompt:
    """A prompt of other tokens from its start: what a warm-up computes of it is of no use later."""
    return Prompt(f"预热。{prompt.system}", prompt.user, prompt.text_before_image)


def plan_batches(
    photos: Sequence[PlannedPhoto], batches: Batches, batch_size: int, root: Path
) -> list[list[int]]:
    """The places of the photos of each batch."""
    places = list(range(len(photos)))
    if batches == "one by one":
        return _chunks(places, 1)
    if batches == "per group":
        groups = [list(rows) for _, rows in groupby(places, key=lambda place: photos[place].group)]
        return [chunk for group in groups for chunk in _chunks(group, batch_size)]
    if batches == "static, sorted":
        places.sort(key=lambda place: _pixels(photo_path(root, photos[place])))
    return _chunks(places, batch_size)


def _chunks(places: list[int], size: int) -> list[list[int]]:
    return [places[start : start + size] for start in range(0, len(places), size)]


def _pixels(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as photo:
        return photo.width * photo.height


class _RowLimits:
    """Ends row i of a batch after `limits[i]` new tokens."""

    def __init__(self, limits: torch.Tensor, prompt: int) -> None:
        self._limits = limits
        self._prompt = prompt

    def __call__(self, input_ids: torch.Tensor, _scores: object, **_kwargs: object) -> torch.Tensor:
        return input_ids.shape[1] - self._prompt >= self._limits


class _Loop:
    """The loaded model, and what has been computed with it."""

    def __init__(self, task: EngineTask) -> None:
        import torch
        from transformers import AutoModelForImageTextToText

        settings = EngineSettings(devices=(task.device,))
        self._torch = torch
        self._task = task
        self._dtype: torch.dtype = getattr(torch, settings.dtype_on(task.device))
        self._penalty = settings.repetition_penalty
        self.on_cuda = task.device.startswith("cuda")
        checkpoint = resolve_checkpoint(task.checkpoint)
        self._processor = load_processor(checkpoint)
        load: Any = AutoModelForImageTextToText.from_pretrained
        model = load(str(checkpoint.folder), dtype=self._dtype, attn_implementation="sdpa")
        self._model = model.to(task.device).eval()
        known = self._processor.tokenizer.get_vocab()
        self._stop_ids = [known[token] for token in _STOP_TOKENS]
        self.start_afresh()

    def start_afresh(self) -> None:
        """Count from nothing."""
        self.work = Work()
        self.preparing_seconds = 0.0

    def answer(self, rows: Sequence[int], prompt: Prompt, limits: Sequence[int]) -> list[Answer]:
        """The answers to the photos of one batch, each of so many tokens at most."""
        with self._torch.inference_mode():
            started = time.perf_counter()
            inputs = self._inputs(rows, prompt)
            self.preparing_seconds += time.perf_counter() - started
            width = inputs["input_ids"].shape[1]
            sequences = self._model.generate(**inputs, **self._arguments(limits, width))
            new_tokens = sequences[:, width:].tolist()
            prompts = inputs["attention_mask"].sum(dim=1).tolist()
        answers = [self._ended(tokens[:limit]) for tokens, limit in zip(new_tokens, limits, strict=True)]
        self._count(prompts, width, [len(tokens) for tokens in answers])
        return [Answer(self._text(tokens), len(tokens)) for tokens in answers]

    def _inputs(self, rows: Sequence[int], prompt: Prompt) -> Any:
        root = Path(self._task.photos_root)
        images = [_open(photo_path(root, self._task.photos[row])) for row in rows]
        chat = chat_text(self._processor, prompt)
        inputs = self._processor(images=images, text=[chat] * len(rows), padding=True, return_tensors="pt")
        return inputs.to(self._task.device, self._dtype)

    def _arguments(self, limits: Sequence[int], width: int) -> dict[str, Any]:
        from transformers import StoppingCriteriaList

        row_limits: Any = _RowLimits(self._torch.tensor(limits, device=self._task.device), width)
        return {
            "do_sample": False,
            "repetition_penalty": self._penalty,
            "max_new_tokens": max(limits),
            "eos_token_id": self._stop_ids,
            "pad_token_id": self._processor.tokenizer.pad_token_id,
            "stopping_criteria": StoppingCriteriaList([row_limits]),
        }

    def _ended(self, tokens: list[int]) -> list[int]:
        """The tokens up to the stop token, which is kept: it took a step as well."""
        end = next((place for place, token in enumerate(tokens) if token in self._stop_ids), len(tokens))
        return tokens[: end + 1]

    def _text(self, tokens: list[int]) -> str:
        text: str = self._processor.tokenizer.decode(
            [token for token in tokens if token not in self._stop_ids],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        return text

    def _count(self, prompts: Sequence[int], width: int, answers: Sequence[int]) -> None:
        """Every row takes part until the longest has ended; the first token comes from the prompt's pass."""
        work, rows, steps = self.work, len(prompts), max(answers) - 1
        useful = sum(answers) - rows
        work.places += steps * self._task.batch_size
        work.row_steps += steps * rows
        work.useful_row_steps += useful
        work.tokens += rows * (width + steps)
        work.padding += rows * width - sum(prompts) + rows * steps - useful


def _open(path: Path) -> Image:
    from PIL import Image, ImageOps

    with Image.open(path) as photo:
        return ImageOps.exif_transpose(photo).convert("RGB")
