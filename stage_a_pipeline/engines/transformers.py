"""Qwen3-VL through transformers' own classes: left-padded batches, CPU and CUDA."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.engines.base import Completion, GenerationOptions, InputTrace, Request
from stage_a_pipeline.engines.checkpoint import Checkpoint
from stage_a_pipeline.engines.shrinking import generate_shrinking
from stage_a_pipeline.errors import CheckpointError, EngineError, EngineOutOfMemoryError
from stage_a_pipeline.images import fit_pixels, rgb_sha256
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.settings import EngineSettings

if TYPE_CHECKING:
    import torch

STOP_TOKENS: Final = ("<|endoftext|>", "<|im_end|>")
FILLER_TOKEN: Final = "<|im_start|>"


class TransformersEngine:
    """A Qwen3-VL checkpoint on one device.

    Rows are padded on the left, whatever the checkpoint says, since right padding would start
    generation from padding. The filler is a token that stands in every prompt: transformers'
    repetition penalty also counts padding, and would otherwise treat padded rows differently.
    """

    name = "transformers"

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings, device: str) -> None:
        import torch

        self._torch = torch
        self._device = _usable_device(device)
        self._dtype: torch.dtype = getattr(torch, settings.dtype_on(device))
        self._processor = load_processor(checkpoint)
        self._chat_texts: dict[Prompt, str] = {}
        self._model = _load_model(checkpoint, settings, self._device, self._dtype)
        tokenizer = self._processor.tokenizer
        known = tokenizer.get_vocab()
        self._stop_ids = [known[token] for token in STOP_TOKENS if token in known]
        if not self._stop_ids or FILLER_TOKEN not in known:
            raise CheckpointError(
                f"the tokenizer of {checkpoint.folder} lacks Qwen's {', '.join(STOP_TOKENS)}"
            )

    def target_size(self, width: int, height: int, *, max_pixels: int) -> tuple[int, int]:
        """See Engine. The checkpoint's own pixel range applies within `max_pixels`."""
        processor = self._processor.image_processor
        factor = processor.patch_size * processor.merge_size
        largest = max(factor * factor, min(max_pixels, processor.size["longest_edge"]))
        smallest = min(processor.size["shortest_edge"], largest)
        return fit_pixels(width, height, factor=factor, min_pixels=smallest, max_pixels=largest)

    def generate(self, requests: Sequence[Request], options: GenerationOptions) -> list[Completion]:
        """See Engine."""
        if not requests:
            return []
        with _translated_errors(self._torch):
            inputs = self._inputs(requests)
            assert_left_padded(inputs["attention_mask"])
            if not options.greedy:
                self._torch.manual_seed(_batch_seed(options.seed, requests))
            with self._torch.inference_mode():
                answers = generate_shrinking(
                    self._model,
                    inputs,
                    stop_ids=self._stop_ids,
                    max_new_tokens=options.max_new_tokens,
                    arguments=self._generation_arguments(options),
                )
            prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            self._completion(request, tokens, length)
            for request, tokens, length in zip(requests, answers, prompt_tokens, strict=True)
        ]

    def trace_inputs(self, requests: Sequence[Request]) -> list[InputTrace]:
        """See Engine."""
        with _translated_errors(self._torch):
            inputs = self._inputs(requests)
        processor = self._processor.image_processor
        pixels_per_token = (processor.patch_size * processor.merge_size) ** 2
        image_tokens = (inputs["input_ids"] == self._processor.image_token_id).sum(dim=1).tolist()
        traces = [
            InputTrace(
                id=request.id,
                rgb_sha256=rgb_sha256(request.image),
                width=request.image.width,
                height=request.image.height,
                image_grid_thw=tuple(grid),
                expected_image_tokens=request.image.width * request.image.height // pixels_per_token,
                actual_image_tokens=count,
            )
            for request, grid, count in zip(
                requests, inputs["image_grid_thw"].tolist(), image_tokens, strict=True
            )
        ]
        for trace in traces:
            if trace.expected_image_tokens != trace.actual_image_tokens:
                raise EngineError(
                    f"{trace.id}: {trace.actual_image_tokens} image tokens reached the model "
                    f"where its {trace.width}x{trace.height} pixels make {trace.expected_image_tokens}"
                )
        return traces

    def close(self) -> None:
        """See Engine."""
        self._model = None
        if self._device.type == "cuda":
            self._torch.cuda.empty_cache()

    def _inputs(self, requests: Sequence[Request]) -> Any:
        """Everything the processor returns: without mm_token_type_ids, positions would be wrong."""
        texts = [self._chat_text(request.prompt) for request in requests]
        inputs = self._processor(
            images=[request.image for request in requests],
            text=texts,
            padding=True,
            return_tensors="pt",
            do_resize=False,
        )
        return inputs.to(self._device, self._dtype)

    def _chat_text(self, prompt: Prompt) -> str:
        """The prompt in the checkpoint's chat template, rendered once: a mission has one prompt."""
        if prompt not in self._chat_texts:
            user = [{"type": "image"}, {"type": "text", "text": prompt.user}]
            messages = [
                {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
                {"role": "user", "content": user},
            ]
            self._chat_texts[prompt] = self._processor.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False
            )
        return self._chat_texts[prompt]

    def _generation_arguments(self, options: GenerationOptions) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "do_sample": not options.greedy,
            "repetition_penalty": options.repetition_penalty,
            "eos_token_id": self._stop_ids,
            "pad_token_id": self._processor.tokenizer.pad_token_id,
        }
        if options.greedy:
            # A checkpoint's generation_config often samples; its values would only cause warnings.
            return {**arguments, "temperature": None, "top_p": None, "top_k": None}
        return {**arguments, "temperature": options.temperature, "top_p": options.top_p, "top_k": 0}

    def _completion(self, request: Request, tokens: list[int], prompt_tokens: int) -> Completion:
        end = next((i for i, token in enumerate(tokens) if token in self._stop_ids), None)
        answer = tokens[:end]
        text = self._processor.tokenizer.decode(
            answer, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Completion(
            id=request.id,
            text=text,
            finish_reason="length" if end is None else "stop",
            prompt_tokens=int(prompt_tokens),
            generated_tokens=len(answer),
        )


def assert_left_padded(attention_mask: torch.Tensor) -> None:
    """Refuse a batch whose rows do not all end in a prompt token.

    `attention_mask` is [rows, tokens], 0 on padding. Generation from padding writes garbage.
    """
    if not bool(attention_mask[:, -1].all()):
        raise EngineError(
            "a row of the batch ends in padding: prompts must be padded on the left for generation"
        )


def load_processor(checkpoint: Checkpoint) -> Any:
    """Qwen3-VL's processor for photos and text, padding on the left.

    The Pillow image processor is used with or without torchvision, so that every machine prepares
    the same pixels; the video processor, which needs torchvision, is left out.
    """
    from transformers import AutoImageProcessor, AutoTokenizer
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
    from transformers.processing_utils import ProcessorMixin

    class ImageTextProcessor(Qwen3VLProcessor):  # type: ignore[misc, unused-ignore]
        def __init__(
            self, image_processor: Any = None, tokenizer: Any = None, chat_template: Any = None
        ) -> None:
            for kind in ("image", "video"):
                setattr(self, f"{kind}_token", f"<|{kind}_pad|>")
                setattr(self, f"{kind}_token_id", tokenizer.convert_tokens_to_ids(f"<|{kind}_pad|>"))
            for end in ("start", "end"):
                setattr(self, f"vision_{end}_token", f"<|vision_{end}|>")
                setattr(self, f"vision_{end}_token_id", tokenizer.convert_tokens_to_ids(f"<|vision_{end}|>"))
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    folder = str(checkpoint.folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        image_processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False, backend="pil")
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint {folder}: its tokenizer or image processor does not load: {error}"
        ) from error
    if tokenizer.chat_template is None:
        raise CheckpointError(f"checkpoint {folder} has no chat template; add its chat_template.jinja")
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    tokenizer.pad_token = FILLER_TOKEN
    return ImageTextProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)


def _load_model(
    checkpoint: Checkpoint, settings: EngineSettings, device: torch.device, dtype: torch.dtype
) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging

    # Its bar would break the run's own; the log says what is loading.
    logging.disable_progress_bar()
    load: Any = AutoModelForImageTextToText.from_pretrained
    try:
        model, report = load(
            str(checkpoint.folder),
            dtype=dtype,
            attn_implementation=settings.attn_implementation,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
        if checkpoint.adapter is not None:
            model = _merge_adapter(model, checkpoint.adapter)
        model = model.to(device).eval()
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {checkpoint.folder} does not load: {error}") from error
    # transformers fills what is missing with random weights and goes on.
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"checkpoint {checkpoint.folder} lacks {len(missing)} weights, such as {missing[0]}; "
            "give a complete checkpoint"
        )
    _embed_patches_by_matrix(model)
    return model


def _embed_patches_by_matrix(model: Any) -> None:
    """Replace the patch embedding's convolution by the matrix product that it is.

    Kernel and stride are equal, so every patch is multiplied once; torch's general convolution is
    several times slower at that.
    """
    import torch

    class PatchLinear(torch.nn.Linear):
        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            return super().forward(patches.flatten(1))

    embedding = model.model.visual.patch_embed
    convolution = embedding.proj
    assert convolution.kernel_size == convolution.stride, "patches of Qwen3-VL do not overlap"
    weight, bias = convolution.weight.detach().flatten(1), convolution.bias
    linear = PatchLinear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
    linear.weight.data, linear.bias.data = weight, bias.detach()
    embedding.proj = linear


def _merge_adapter(model: Any, adapter: Path) -> Any:
    try:
        from peft import LoraConfig, PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError as error:
        raise CheckpointError(
            "a LoRA adapter is set but peft is not installed; install stage-a-pipeline[lora]"
        ) from error
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = PeftConfig.from_pretrained(str(adapter))
    if not isinstance(config, LoraConfig):
        raise CheckpointError(f"adapter {adapter} is of type {config.peft_type}; only LoRA is merged")
    try:
        weights = load_file(str(adapter / "adapter_model.safetensors"))
        adapted = get_peft_model(model, config)
        report: Any = set_peft_model_state_dict(adapted, weights)
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"adapter {adapter} does not fit the checkpoint: {error}") from error
    # peft leaves weights that it does not find at their start values, without an error.
    strange = [*report.unexpected_keys, *(key for key in report.missing_keys if "lora_" in key)]
    if strange:
        raise CheckpointError(
            f"adapter {adapter} does not fit the checkpoint: {len(strange)} weights such as {strange[0]} "
            "have no counterpart; use an adapter that was trained on this checkpoint"
        )
    return adapted.merge_and_unload()


def _usable_device(device: str) -> torch.device:
    import torch

    if device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(device.partition(":")[2]) >= count:
            raise CheckpointError(
                f"device {device} is not there: {count} CUDA devices are visible; correct engine.devices "
                "(STAGE_A_DEVICES)"
            )
    return torch.device(device)


def _batch_seed(seed: int, requests: Sequence[Request]) -> int:
    digest = hashlib.sha256("\n".join([str(seed), *(request.id for request in requests)]).encode())
    return int.from_bytes(digest.digest()[:8], "big") >> 1


@contextmanager
def _translated_errors(torch_module: Any) -> Iterator[None]:
    """Errors of torch and the processor as EngineError, out of memory as its own kind."""
    try:
        yield
    except torch_module.OutOfMemoryError as error:
        torch_module.cuda.empty_cache()
        raise EngineOutOfMemoryError(str(error)) from error
    except MemoryError as error:
        raise EngineOutOfMemoryError("the host has no memory left for this batch") from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise EngineOutOfMemoryError(str(error)) from error
        raise EngineError(f"{type(error).__name__}: {error}") from error
    except (ValueError, IndexError, TypeError) as error:
        raise EngineError(f"{type(error).__name__}: {error}") from error
