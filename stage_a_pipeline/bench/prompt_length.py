"""Prompts of a chosen length in tokens, and the lengths of prompts."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any, Final

from stage_a_pipeline.prompts import Prompt

_SYSTEM: Final = (
    "你是通信基站施工质检助手，负责把现场照片写成一行统计摘要。只统计看得清的对象，不猜测，不评价整组是否通过。"
    "设备写品牌和可见性，螺丝写符合性，光纤写保护措施和弯曲半径，电线写捆扎，标签写文本或不可读。"
    "图纸、文档、聊天截图、街景等照片，只输出：无关图片。"
)
_USER: Final = "请统计这张照片中的对象。检查重点：挡风板安装方向。"


def chat_text(processor: Any, prompt: Prompt) -> str:
    """The prompt with its photo in the checkpoint's chat template."""
    photo, text = {"type": "image"}, {"type": "text", "text": prompt.user}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": prompt.system}]},
        {"role": "user", "content": [text, photo] if prompt.text_before_image else [photo, text]},
    ]
    chat: str = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return chat


def text_lengths(processor: Any, prompt: Prompt) -> tuple[int, int]:
    """Tokens before the photo, its start mark included, and behind it."""
    tokens = processor.tokenizer(chat_text(processor, prompt))["input_ids"]
    before = tokens.index(processor.image_token_id)
    return before, len(tokens) - before - 1


def prompt_of_length(processor: Any, prefix_tokens: int) -> Prompt:
    """Instructions, over and over, of that many tokens before the photo; one or two fewer where a
    character more would be too much."""
    low, high = 1, 16 * prefix_tokens
    while low < high:
        middle = (low + high + 1) // 2
        if text_lengths(processor, _prompt(middle))[0] <= prefix_tokens:
            low = middle
        else:
            high = middle - 1
    return _prompt(low)


def _prompt(characters: int) -> Prompt:
    return Prompt("".join(islice(cycle(_SYSTEM), characters)), _USER)
