"""A small byte-level BPE tokenizer in the form of Qwen's, with its chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from stage_a_pipeline.prompts import Prompt

IMAGE_START, IMAGE_PAD, IMAGE_END = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
TURN_END, TEXT_END = "<|im_end|>", "<|endoftext|>"

SPECIAL_TOKENS: Final = (
    TEXT_END,
    "<|im_start|>",
    TURN_END,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    IMAGE_START,
    IMAGE_END,
    "<|vision_pad|>",
    IMAGE_PAD,
    "<|video_pad|>",
)

VOCABULARY_SIZE: Final = 1536
MAX_LENGTH: Final = 4096

CHAT_TEMPLATE: Final = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}{{- message.content -}}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif part.type == 'video' or 'video' in part -%}
{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}{{- part.text -}}{%- endif -%}
{%- endfor -%}{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""


def train_tokenizer(corpus: Iterable[str], *, vocabulary_size: int = VOCABULARY_SIZE) -> Any:
    """A Qwen2 tokenizer with the merges of the corpus; the same corpus gives the same tokenizer."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
    from tokenizers.models import BPE
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    bpe = Tokenizer(BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2,
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    learnt = json.loads(bpe.to_str())["model"]
    # Its annotations are narrower than what it takes.
    build_tokenizer: Any = Qwen2Tokenizer
    tokenizer = build_tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(merge) for merge in learnt["merges"]],
        unk_token=None,
        bos_token=None,
        eos_token=TURN_END,
        pad_token=TEXT_END,
        model_max_length=MAX_LENGTH,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def chat_before_image(prompt: Prompt) -> str:
    """The chat up to the photo's tokens."""
    return f"<|im_start|>system\n{prompt.system}<|im_end|>\n<|im_start|>user\n{IMAGE_START}"


def chat_after_image(prompt: Prompt) -> str:
    """The chat from behind the photo's tokens to where the answer begins."""
    return f"{IMAGE_END}{prompt.user}<|im_end|>\n<|im_start|>assistant\n"


def chat_without_image(prompt: Prompt) -> str:
    """The chat of a prompt of text alone, to where the answer begins."""
    system = f"<|im_start|>system\n{prompt.system}<|im_end|>\n"
    return f"{system}<|im_start|>user\n{prompt.user}<|im_end|>\n<|im_start|>assistant\n"
