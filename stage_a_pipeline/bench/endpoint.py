"""A peer elsewhere: an OpenAI-compatible server, asked for the same photos with the same prompt."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stage_a_pipeline.bench.engine_records import Answer, EngineRun
from stage_a_pipeline.bench.photo_files import photo_path
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.engines.server_exchange import API_KEY_VARIABLE, api_root, read_api_key
from stage_a_pipeline.errors import ConfigurationError, StageAError
from stage_a_pipeline.prompts import Prompt

if TYPE_CHECKING:
    import httpx

_TIMEOUT_SECONDS: Final = 600.0
_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is, without or with `/v1`, and its name for the model.

    Raises ConfigurationError for anything but an http or https URL.
    """

    url: str
    model: str

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--endpoint {self.url!r} must begin with http:// or https://")

    @property
    def chat_url(self) -> str:
        """Where chat completions are asked."""
        return f"{api_root(self.url)}/chat/completions"


def ask_endpoint(
    endpoint: Endpoint,
    prompt: Prompt,
    photos: Sequence[PlannedPhoto],
    root: Path,
    *,
    at_once: int,
    max_new_tokens: int,
) -> EngineRun:
    """Ask for every photo, so many at once; seconds are those of this side. Raises StageAError."""
    import httpx

    key = read_api_key()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with (
        httpx.Client(headers=headers, timeout=_TIMEOUT_SECONDS) as client,
        ThreadPoolExecutor(at_once, thread_name_prefix="endpoint") as pool,
    ):

        def ask(photo: PlannedPhoto) -> Answer:
            limit = photo.answer_tokens or max_new_tokens
            body = _body(endpoint, prompt, photo_path(root, photo), limit)
            return _answer(endpoint, _post(client, endpoint, body))

        started = time.perf_counter()
        try:
            answers = tuple(pool.map(ask, photos))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return EngineRun(answers, wall_seconds=time.perf_counter() - started)


def _body(endpoint: Endpoint, prompt: Prompt, path: Path, max_tokens: int) -> dict[str, object]:
    photo = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    return {
        "model": endpoint.model,
        "max_tokens": max_tokens,
        "temperature": 0,
        "messages": [
            {"role": "system", "content": prompt.system},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": photo}},
                    {"type": "text", "text": prompt.user},
                ],
            },
        ],
    }


def _post(client: httpx.Client, endpoint: Endpoint, body: dict[str, object]) -> Any:
    import httpx

    try:
        response = client.post(endpoint.chat_url, json=body)
    except httpx.HTTPError as error:
        raise StageAError(
            f"{endpoint.chat_url} does not answer ({type(error).__name__}: {error}); is the server running?"
        ) from error
    if response.status_code != httpx.codes.OK:
        raise StageAError(
            f"{endpoint.chat_url} answered with status {response.status_code}: {response.text[:_WORDS]}; "
            f"correct --endpoint, --endpoint-model or {API_KEY_VARIABLE}"
        )
    try:
        return response.json()
    except ValueError as error:
        raise StageAError(f"{endpoint.chat_url} answered with something that is no JSON: {error}") from error


def _answer(endpoint: Endpoint, document: Any) -> Answer:
    """The text, and its tokens as the server counts them; 0 where it does not."""
    try:
        text = document["choices"][0]["message"]["content"]
        tokens = (document.get("usage") or {}).get("completion_tokens") or 0
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise StageAError(
            f"{endpoint.chat_url} answered without choices[0].message.content; it is no chat completion"
        ) from error
    return Answer(str(text or ""), int(tokens))
