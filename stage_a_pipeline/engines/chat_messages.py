"""One photo's question and its answer as OpenAI's chat completions, in the dialects of several servers."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from stage_a_pipeline.engines.base import Completion, FinishReason, GenerationOptions, Request
from stage_a_pipeline.engines.summary_schema import response_format
from stage_a_pipeline.errors import EngineError

if TYPE_CHECKING:
    from PIL.Image import Image

Dialect = Literal["vllm", "transformers", "openai"]
"""How a server takes what OpenAI's schema does not have. `vllm` also stands for SGLang: parameters of their
own beside OpenAI's. `transformers` takes a generation config. `openai` takes OpenAI's parameters only."""

DIALECTS: Final[tuple[Dialect, ...]] = get_args(Dialect)
_MOST_TOKENS: Final = 2**31 - 1
_FINISH_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPhoto:
    """A photo that waits to be sent: a PNG, which keeps every pixel. `size` is width and height."""

    png: bytes
    size: tuple[int, int]

    @property
    def mode(self) -> str:
        """See Pixels."""
        return "RGB"

    def tobytes(self) -> bytes:
        """See Pixels."""
        from PIL import Image

        return Image.open(io.BytesIO(self.png), formats=("PNG",)).tobytes()

    @property
    def data_url(self) -> str:
        """The photo as a server takes it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def encode_photo(image: Image) -> EncodedPhoto:
    """The photo as a PNG, compressed as fast as that goes."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return EncodedPhoto(file.getvalue(), image.size)


def chat_body(
    request: Request,
    options: GenerationOptions,
    *,
    model: str,
    dialect: Dialect,
    photo_url: str | None = None,
) -> dict[str, object]:
    """The request for a photo that `encode_photo` made; it is in it, or at `photo_url`.

    What would have no effect is left out.
    """
    assert isinstance(request.image, EncodedPhoto)
    photo = {"type": "image_url", "image_url": {"url": photo_url or request.image.data_url}}
    text = {"type": "text", "text": request.prompt.user}
    content = [text, photo] if request.prompt.text_before_image else [photo, text]
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": request.prompt.system},
            {"role": "user", "content": content},
        ],
        "temperature": options.temperature,
        **tokens_limit(options.max_new_tokens, dialect),
    }
    if not options.greedy:
        body |= {"top_p": options.top_p, "seed": options.seed}
    if options.repetition_penalty != 1.0:
        body |= _REPETITION_PENALTY[dialect](options.repetition_penalty)
    if request.grammar is not None and dialect != "transformers":
        body["response_format"] = response_format(request.grammar)
    return body


_REPETITION_PENALTY: Final[Mapping[Dialect, Callable[[float], Mapping[str, object]]]] = {
    "vllm": lambda penalty: {"repetition_penalty": penalty},
    "transformers": lambda penalty: {"generation_config": json.dumps({"repetition_penalty": penalty})},
    # Its frequency_penalty is something else.
    "openai": lambda _penalty: {},
}


def tokens_limit(tokens: int, dialect: Dialect) -> dict[str, object]:
    """The longest answer, in tokens, as the dialect says it."""
    return {"max_completion_tokens" if dialect == "openai" else "max_tokens": tokens}


def completion_of(request_id: str, document: Any) -> Completion:
    """The answer of a chat completion. Raises EngineError for what is none, or has not one choice.

    Tokens are those that the server counts, 0 where it does not.
    """
    try:
        (choice,) = document["choices"]
        content, ended = choice["message"]["content"], choice["finish_reason"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise EngineError(
            "the answer is no chat completion with one choice; is it an OpenAI-compatible server?"
        ) from error
    if not isinstance(ended, str) or ended not in _FINISH_REASONS:
        raise EngineError(f"the answer ended with {str(ended)[:40]!r}, not with 'stop' or 'length'")
    usage = document.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Completion(request_id, _unquoted(_text_of(content)), _FINISH_REASONS[ended], *counts)


def _text_of(content: object) -> str:
    """The text of a message, of valid characters only: JSON may hold halves of some."""
    if isinstance(content, list):
        content = "".join(_text_of(part.get("text")) for part in content if isinstance(part, dict))
    if not isinstance(content, str | None):
        raise EngineError("the answer's content is no text")
    return (content or "").encode("utf-8", "replace").decode()


def _count(usage: object, name: str) -> int:
    """So many tokens, or 0 for what cannot be a number of them."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count <= _MOST_TOKENS else 0


def _unquoted(text: str) -> str:
    """What a schema makes a server write as a JSON string."""
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _text_of(value) if isinstance(value, str) else text
